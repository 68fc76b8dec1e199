// The registry killed and back: cryptography goes on without it, and afterwards the ledger lacks nothing. Then a host
// that is cut off.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeAuditRecord } from '../../proto/documents/audit-record.ts';
import { clientOn, type FleetDemo, hostsListed, on, operator } from './demo-fleet.ts';
import { HOSTS, type HostName, startRegistry } from './lab-fleet.ts';
import { until } from './patience.ts';
import type { Program } from './program.ts';
import { answerOf, codeOf, prove } from './script.ts';

const MESSAGES = 50;
// Agents wait longer from attempt to attempt, up to half a minute.
const RECONNECT_MS = 60_000;

const connected = (demo: FleetDemo, name: HostName, expected: boolean): Promise<true> =>
  until(
    `${name} ${expected ? 'is connected to the registry again' : 'notices that the registry is gone'}`,
    async () => {
      using client = clientOn(demo, name, 'app');
      const { parts } = await client.status();
      return parts.find(({ part }) => part === 'registry')?.healthy === expected ? true : undefined;
    },
    { patienceMs: RECONNECT_MS, everyMs: 50 },
  );

/** Works on a host, and notes each answer as its record will have it. */
const work = async (demo: FleetDemo, name: HostName): Promise<string[]> => {
  using client = clientOn(demo, name, 'app');
  const answered: string[] = [];
  for (let at = 0; at < MESSAGES; at += 1) {
    const data = Buffer.from(`message ${at} of ${name}`);
    const { jwe, envelope } = await client.encrypt('payments', data);
    const opened = await client.decrypt(jwe);
    prove(opened.plaintext.equals(data), 'the message came back');
    answered.push(`encrypt ${envelope.correlationId}`, `decrypt ${opened.envelope.correlationId}`);
  }
  return answered;
};

const killStep = async (demo: FleetDemo, answered: string[]): Promise<string> => {
  const { script } = demo;
  const { program } = demo.registry as { program: Program };
  await program.kill();
  script.see(`kill -9 -${program.pid} (the registry)`);
  for (const name of HOSTS) await connected(demo, name, false);
  answered.push(...(await Promise.all(HOSTS.map((name) => work(demo, name)))).flat());
  script.see(`${answered.length / 2} messages encrypted and decrypted on both hosts without it, none refused`);
  const again = ['decrypt', 'shared.jwe', '--force', '--out', 'shared-there.txt'];
  await script.mortise(again, 0, on(demo, 'host-b', 'app'));
  const rotate = ['key', 'rotate', 'payments', '--expect-version', '2'];
  const refused = await script.mortise(rotate, 5, on(demo, 'host-a', 'admin'));
  prove(codeOf(refused) === 'REGISTRY_UNAVAILABLE', 'no key is changed without the registry');
  return 'without the registry every host goes on with keys and policy; only changes of keys wait';
};

/** "<operation> <correlation id>" of the records of a bundle. */
const recordsIn = (bundle: string): Set<string> =>
  new Set(
    bundle
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as { record?: string })
      .flatMap(({ record }) => (record === undefined ? [] : [decodeAuditRecord(Buffer.from(record, 'base64')).record]))
      .filter(({ outcome }) => outcome === 'ok')
      .map(({ operation, correlationId }) => `${operation} ${correlationId}`),
  );

interface BundleReport {
  readonly intact: boolean;
  readonly logs: readonly {
    readonly origin: string;
    readonly size: number;
    readonly keyIsPinned: boolean;
    readonly proven?: number;
  }[];
  readonly findings: readonly { readonly code: string; readonly origin: string; readonly index: number }[];
}

/** The keys by which an auditor checks: of each host's checkpoints, from the host itself, and the registry's. */
const pinKeys = async (demo: FleetDemo): Promise<string[]> => {
  const { script, desk } = demo;
  const pinned: string[] = [];
  for (const name of HOSTS) {
    const { publicJwk } = answerOf<{ publicJwk: object }>(
      await script.mortise(['audit', 'checkpoint'], 0, on(demo, name, 'admin')),
    );
    writeFileSync(join(desk, `${name}.jwk`), JSON.stringify(publicJwk));
    pinned.push('--host-key', `${name}=${name}.jwk`);
  }
  const { cosigner } = answerOf<{ cosigner: string }>(await script.mortise(['registry', 'status'], 0, operator(demo)));
  writeFileSync(join(desk, 'cosigner'), `${cosigner}\n`);
  return [...pinned, '--cosigner', 'cosigner'];
};

const EXPORT = ['audit', 'export', '--tenant', 'acme', '--format', 'bundle', '--out', 'acme.bundle'];

/** Every record of the host is under a checkpoint whose key its auditor has pinned. */
const isWhole = ({ logs }: BundleReport, name: HostName): boolean => {
  const log = logs.find(({ origin }) => origin.startsWith(`${name}/`));
  return log?.keyIsPinned === true && log.size === log.proven;
};

interface Bundle {
  readonly text: string;
  readonly report: BundleReport;
}

/** Exports until all that was answered is in it and under a checkpoint: both come a moment later. */
const completeBundle = (demo: FleetDemo, pinned: readonly string[], answered: readonly string[]): Promise<Bundle> => {
  const { script, desk } = demo;
  const verify = ['audit', 'verify', 'acme.bundle', ...pinned];
  script.show('mortise', EXPORT, operator(demo));
  script.show('mortise', verify);
  return until(
    'the ledger has, and proves, every record of the time without the registry',
    async () => {
      const exported = await script.quietly([...EXPORT, '--force'], operator(demo));
      prove(exported.code === 0, `the ledger is exported\n${exported.stderr}`);
      const text = readFileSync(join(desk, 'acme.bundle'), 'utf8');
      const recorded = recordsIn(text);
      if (answered.some((answer) => !recorded.has(answer))) return undefined;
      const verified = await script.quietly(verify);
      prove(verified.code === 0, `nothing is found in the bundle\n${verified.stdout}${verified.stderr}`);
      const report = answerOf<BundleReport>(verified);
      return HOSTS.every((name) => isWhole(report, name)) ? { text, report } : undefined;
    },
    { patienceMs: RECONNECT_MS, everyMs: 100 },
  );
};

const ledgerStep = async (demo: FleetDemo, answered: readonly string[]): Promise<string> => {
  const { script, lab, desk } = demo;
  demo.registry = await startRegistry(lab, demo.registryLog, demo.registry?.port);
  script.see('"mortise registry serve" is READY again, over what it had stored');
  for (const name of HOSTS) await connected(demo, name, true);
  const pinned = await pinKeys(demo);
  const { text, report } = await completeBundle(demo, pinned, answered);
  for (const { origin, size, proven } of report.logs) script.see(`${origin}: ${size} records, proven up to ${proven}`);
  prove(report.intact && answered.length === 4 * MESSAGES, 'nothing is found, and every answer was looked for');
  const lines = text.split('\n');
  const victim = lines.findIndex((line) => recordsIn(line).has(answered.at(-1) as string));
  writeFileSync(join(desk, 'cut.bundle'), lines.toSpliced(victim, 1).join('\n'));
  const { findings } = answerOf<BundleReport>(await script.mortise(['audit', 'verify', 'cut.bundle', ...pinned], 4));
  const [found] = findings;
  script.see(`one record taken out: ${found?.code} at position ${found?.index} of ${found?.origin}`);
  prove(victim > 0 && findings.length > 0, 'one record less is found');
  return `all ${answered.length} answers given without the registry are in its ledger, proven offline, without trust in it`;
};

const tenantsStep = async (demo: FleetDemo): Promise<string> => {
  const { script } = demo;
  await script.mortise(['whoami'], 0, on(demo, 'host-a', 'app', 'globex'));
  const refused = await script.mortise(['whoami'], 3, on(demo, 'host-b', 'app', 'globex'));
  prove(codeOf(refused) === 'POLICY_DENIED' && refused.stderr.includes('host.tenants'), 'by the rule of the enrolment');
  return 'globex has its token and its policy, and gets nowhere on a host that was not enrolled for it';
};

const cutOffStep = async (demo: FleetDemo): Promise<string> => {
  const { script } = demo;
  using watcher = clientOn(demo, 'host-b', 'app');
  const cut = until('host-b is cut off', () =>
    watcher.encrypt('payments', Buffer.from('still here')).then(
      () => undefined,
      (error: { code?: string }) => {
        prove(error.code === 'POLICY_DENIED', `host-b is refused by policy, not ${error}`);
        return Date.now();
      },
    ),
  );
  cut.catch(() => undefined); // awaited below, unless the command fails first
  const revoke = ['host', 'revoke', 'host-b', '--reason', 'left-the-building'];
  const { revokeTime } = answerOf<{ revokeTime: string }>(await script.mortise(revoke, 0, operator(demo)));
  script.see(`host-b serves nobody ${(await cut) - Date.parse(revokeTime)} ms after its revocation`);
  const decrypt = (out: string): string[] => ['decrypt', 'shared.jwe', '--out', out];
  await script.mortise(decrypt('stolen.txt'), 3, on(demo, 'host-b', 'app'));
  await script.mortise(decrypt('kept.txt'), 0, on(demo, 'host-a', 'app'));
  await hostsListed(demo, 'the registry has no connection of host-b, and one of host-a', (all) => {
    const of = (name: HostName): boolean => all.find(({ host }) => host === name)?.connected === true;
    return of('host-a') && !of('host-b');
  });
  for (const program of [...demo.agents.values(), demo.registry?.program]) {
    prove((await program?.stop()) === 0, `${program?.name} ends with 0`);
  }
  return 'a revoked host is cut off and serves nobody; the other goes on, and all end in good order';
};

/** The registry is killed and comes back; a host is revoked. */
export const outageSteps = async (demo: FleetDemo): Promise<void> => {
  const { script } = demo;
  const answered: string[] = [];
  await script.step('Kill the registry', () => killStep(demo, answered));
  await script.step('Start it again, and prove the ledger whole', () => ledgerStep(demo, answered));
  await script.step('A host serves the tenants of its enrolment', () => tenantsStep(demo));
  await script.step('Revoke a host', () => cutOffStep(demo));
};
