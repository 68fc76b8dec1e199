// What hosts of one registry share: keys, changes of policy, rotations and revocations. How long a crossing took is said,
// not judged; one that does not come fails the demo.
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Key, MortiseClient } from '../../clients/typescript/index.ts';
import { clientOn, type FleetDemo, hostsListed, on, operator } from './demo-fleet.ts';
import { ROOT } from './lab.ts';
import { HOSTS } from './lab-fleet.ts';
import { until } from './patience.ts';
import { answerOf, codeOf, prove } from './script.ts';

const keyOf = (client: MortiseClient, id: string): Promise<Key | undefined> =>
  client.keys.get(id).catch((error: { code?: string }) => {
    if (error.code === 'KEY_UNKNOWN') return undefined; // not there yet
    throw error;
  });

/** Resolves with the moment at which the key there is as it should be. */
const seenThere = (client: MortiseClient, id: string, what: string, fits: (key: Key) => boolean): Promise<number> =>
  until(`${id} ${what} on the other host`, async () => {
    const key = await keyOf(client, id);
    return key !== undefined && fits(key) ? Date.now() : undefined;
  });

interface Change {
  readonly id: string;
  readonly args: readonly string[];
  readonly from: 'host-a' | 'host-b';
  readonly to: 'host-a' | 'host-b';
  readonly what: string;
  fits(key: Key): boolean;
}

/** Makes a change on one host while the other is watched, and says how long it was under way. */
const cross = async (demo: FleetDemo, { id, args, from, to, what, fits }: Change): Promise<Key> => {
  using watcher = clientOn(demo, to, 'admin');
  const seen = seenThere(watcher, id, what, fits);
  seen.catch(() => undefined); // awaited below, unless the command fails first
  const result = await demo.script.mortise(args, 0, on(demo, from, 'admin'));
  const { key } = answerOf<{ key: Key }>(result);
  const took = (await seen) - Date.parse(String(key.updateTime));
  demo.script.see(`${id} is ${what} on ${to} ${took} ms after it was on ${from}`);
  return key;
};

const shareStep = async (demo: FleetDemo): Promise<string> => {
  const { script, desk } = demo;
  for (const [id, purpose, algorithm, custody] of [
    ['payments', 'encrypt', 'AES-256', 'hsm'],
    ['contracts', 'sign', 'ML-DSA-65', undefined],
  ] as const) {
    const args = ['key', 'create', id, '--purpose', purpose, '--algorithm', algorithm];
    const change = { id, args, from: 'host-a', to: 'host-b', what: 'ACTIVE' } as const;
    const { versions } = await cross(demo, { ...change, fits: ({ state }) => state === 'ACTIVE' });
    prove(custody === undefined || versions[0]?.custody === custody, `${id} is in the token`);
  }
  copyFileSync(join(ROOT, 'LICENSE'), join(desk, 'shared.txt'));
  const [a, b] = [on(demo, 'host-a', 'app'), on(demo, 'host-b', 'app')];
  await script.mortise(['encrypt', '--key', 'payments', 'shared.txt', '--out', 'shared.jwe'], 0, a);
  await script.mortise(['decrypt', 'shared.jwe', '--out', 'shared-there.txt'], 0, b);
  const [here, there] = ['shared.txt', 'shared-there.txt'].map((name) => readFileSync(join(desk, name)));
  prove(there?.equals(here as Buffer) === true, 'host-b opens what host-a sealed, byte for byte');
  const sign = ['sign', '--key', 'contracts', '--form', 'jws-detached', 'shared.txt', '--out', 'shared.jws'];
  await script.mortise(sign, 0, b);
  await script.mortise(['verify', 'shared.jws', '--message', 'shared.txt'], 0, a);
  return 'keys made on one host work on the other: in the token, and post-quantum ones that travel wrapped';
};

/** Two officers sign version 2 of acme's policy, which denies one algorithm more. */
const signNarrower = async ({ script, lab, desk }: FleetDemo): Promise<void> => {
  const policies = join(lab.folder, 'policies');
  const draft = JSON.parse(readFileSync(join(policies, 'drafts/tenants/acme.json'), 'utf8')) as object;
  const narrower = { ...draft, version: 2, algorithms: { deny: ['RSA-2048', 'EC-P384'] } };
  writeFileSync(join(desk, 'acme-2.json'), JSON.stringify(narrower));
  const officers = ['alice', 'bob'].flatMap((name) => ['--officer', join(policies, `officers/${name}.keys.json`)]);
  const passphrase = ['--passphrase-file', join(policies, 'officers.passphrase')];
  const signed = ['--dir', policies, ...officers, ...passphrase, '--out', 'acme-2.signed.json'];
  await script.mortise(['policy', 'sign', 'acme-2.json', ...signed], 0);
};

const policyStep = async (demo: FleetDemo): Promise<string> => {
  const { script } = demo;
  const explain = ['explain', 'create-key', '--algorithm', 'EC-P384'];
  for (const name of HOSTS) await script.mortise(explain, 0, on(demo, name, 'admin'));
  await signNarrower(demo);
  const published = answerOf<{ version: number; publishTime: string }>(
    await script.mortise(['policy', 'publish', 'acme-2.signed.json'], 0, operator(demo)),
  );
  prove(published.version === 2, 'version 2 is published');
  const isNew = (row: { tenant: string; version: number }): boolean =>
    row.tenant === 'acme' && Number(row.version) === 2;
  const hosts = await hostsListed(demo, 'version 2 of acme is in force on both hosts', (all) =>
    HOSTS.every((name) => all.some(({ host, policies }) => host === name && policies.some(isNew))),
  );
  for (const { host, policies } of hosts) {
    const since = Date.parse(policies.find(isNew)?.since ?? '');
    script.see(`in force on ${host} ${since - Date.parse(published.publishTime)} ms after its publication`);
  }
  for (const name of HOSTS) {
    const { rule } = answerOf<{ rule: string }>(await script.mortise(explain, 3, on(demo, name, 'admin')));
    prove(rule === 'tenant.algorithms.deny', `the new rule denies on ${name}`);
  }
  return 'what two officers signed is in force on every host, and the registry lists since when';
};

const rotateStep = async (demo: FleetDemo): Promise<string> => {
  const { script } = demo;
  const args = ['key', 'rotate', 'payments', '--expect-version', '1'];
  const newest = ({ versions }: Key): boolean => versions.at(-1)?.version === 2;
  await cross(demo, { id: 'payments', args, from: 'host-b', to: 'host-a', what: 'at version 2', fits: newest });
  const app = on(demo, 'host-a', 'app');
  const version = async (args_: readonly string[]): Promise<number> =>
    answerOf<{ envelope: { keyUsed: { version: number } } }>(await script.mortise(args_, 0, app)).envelope.keyUsed
      .version;
  prove((await version(['encrypt', '--key', 'payments', 'shared.txt', '--out', 'newer.jwe'])) === 2, 'new data: 2');
  prove((await version(['decrypt', 'shared.jwe', '--out', 'old.txt'])) === 1, 'old data: 1');
  return 'a rotation on one host is one on the other: new data under version 2, old data still opens';
};

const revokeStep = async (demo: FleetDemo): Promise<string> => {
  const { script } = demo;
  const crossing = { id: 'contracts', from: 'host-a', to: 'host-b' } as const;
  const state = (expected: Key['state']) => ({ fits: (key: Key): boolean => key.state === expected });
  const sign = ['sign', '--key', 'contracts', 'shared.txt', '--out', 'late.jws'];
  const [app, suspended, revoked] = [on(demo, 'host-b', 'app'), state('SUSPENDED'), state('REVOKED')];
  const off = ['key', 'suspend', 'contracts', '--reason', 'audit'];
  await cross(demo, { ...crossing, args: off, what: 'SUSPENDED', ...suspended });
  prove(codeOf(await script.mortise(sign, 1, app)) === 'KEY_STATE', 'a suspended key signs nothing');
  const gone = ['key', 'revoke', 'contracts', '--reason', 'laptop-stolen'];
  await cross(demo, { ...crossing, args: gone, what: 'REVOKED', ...revoked });
  prove(codeOf(await script.mortise(sign, 1, app)) === 'KEY_STATE', 'a revoked key signs nothing');
  return 'a key that is suspended or revoked on one host does nothing on the other';
};

/** Keys and their changes, and a change of policy. */
export const sharedSteps = async (demo: FleetDemo): Promise<void> => {
  const { script } = demo;
  await script.step('Make keys on one host, use them on the other', () => shareStep(demo));
  await script.step('Change the policy of all hosts', () => policyStep(demo));
  await script.step('Rotate on one host', () => rotateStep(demo));
  await script.step('Suspend and revoke on one host', () => revokeStep(demo));
};
