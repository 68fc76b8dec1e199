// The second act: a registry, and two hosts that are enrolled at it. What they share comes in demo-shared.ts, what
// happens when the registry is gone in demo-outage.ts.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type FleetDemo, hostsListed, operator } from './demo-fleet.ts';
import { outageSteps } from './demo-outage.ts';
import { sharedSteps } from './demo-shared.ts';
import { TENANTS, type Tenant } from './lab.ts';
import { HOSTS, type HostName, prepareHost, registryEnvironment, startHost, startRegistry } from './lab-fleet.ts';
import { answerOf, prove } from './script.ts';

const registryStep = async (demo: FleetDemo): Promise<string> => {
  const { script, lab, desk } = demo;
  const anchor = join(lab.policyDir, 'trust-anchor.json');
  const made = ['--trust-domain', 'lab.example', '--trust-anchor', anchor, '--token-out', 'admin.token'];
  await script.mortise(['registry', 'init', ...made], 0, { name: 'registry', env: registryEnvironment(lab) });
  const begun = performance.now();
  demo.registry = await startRegistry(lab, demo.registryLog);
  const { port } = demo.registry;
  script.see(`"mortise registry serve" is READY on port ${port} after ${Math.round(performance.now() - begun)} ms`);
  const enrol = ['registry', 'enrol', '--registry', `localhost:${port}`, '--enrolment-token', 'admin.token'];
  await script.mortise(enrol, 0, operator(demo));
  const thief = { name: 'thief', env: { MORTISE_ADMIN_DIR: join(desk, 'thief') } };
  prove((await script.mortise(enrol, 3, thief)).stderr.includes('ENROLMENT_REFUSED'), 'a token is good once');
  const status = answerOf<{ store: string; requiresHybridTls: boolean; parts: { healthy: boolean }[] }>(
    await script.mortise(['registry', 'status'], 0, operator(demo)),
  );
  prove(status.store === 'lmdb' && status.requiresHybridTls, 'an embedded store, and hybrid key agreement required');
  prove(status.parts.length > 0 && status.parts.every(({ healthy }) => healthy), 'every part is healthy');
  return 'a registry with its own CA; a one-time token makes one administrator, over X25519MLKEM768';
};

/** The signed policy with one number changed, and the officers' signatures left as they are. */
const forge = (from: string, to: string): void => {
  const jws = JSON.parse(readFileSync(from, 'utf8')) as { payload: string };
  const payload = JSON.parse(Buffer.from(jws.payload, 'base64url').toString()) as { version: number };
  const forged = Buffer.from(JSON.stringify({ ...payload, version: payload.version + 1 })).toString('base64url');
  writeFileSync(to, JSON.stringify({ ...jws, payload: forged }));
};

const publishStep = async (demo: FleetDemo): Promise<string> => {
  const { script, lab, desk } = demo;
  const root = operator(demo);
  for (const tenant of TENANTS) await script.mortise(['tenant', 'create', tenant], 0, root);
  for (const name of ['platform.json', ...TENANTS.map((tenant) => `tenants/${tenant}.json`)]) {
    await script.mortise(['policy', 'publish', join(lab.policyDir, name)], 0, root);
  }
  forge(join(lab.policyDir, 'platform.json'), join(desk, 'forged-policy.json'));
  const refused = await script.mortise(['policy', 'publish', 'forged-policy.json'], 4, root);
  prove(refused.stderr.includes('POLICY_INVALID'), 'a policy that nobody signed is invalid');
  const { versions } = answerOf<{ versions: { version: number; officers: string[] }[] }>(
    await script.mortise(['policy', 'history'], 0, root),
  );
  prove(versions.length === 1 && versions[0]?.officers.join() === 'alice,bob', 'version 1, by alice and bob, alone');
  return 'the registry takes what the officers signed, and nothing else, not even of its own administrator';
};

const enrolHost = async (demo: FleetDemo, name: HostName, tenants: readonly Tenant[]): Promise<void> => {
  const { script, lab, registry } = demo;
  const host = await prepareHost(lab, name, registry?.port ?? 0);
  const served = tenants.flatMap((tenant) => ['--tenant', tenant]);
  await script.mortise(['host', 'enrol', name, ...served, '--out', `${name}.token`], 0, operator(demo));
  await script.agent(['enrol', '--token-file', `${name}.token`], { name, env: host.agentEnv });
  demo.hosts.set(name, host);
  demo.agents.set(name, await startHost(lab, host));
};

const enrolStep = async (demo: FleetDemo): Promise<string> => {
  const { script } = demo;
  await enrolHost(demo, 'host-a', TENANTS);
  await enrolHost(demo, 'host-b', ['acme']);
  const hosts = await hostsListed(demo, 'both hosts are connected, with the policy of acme', (all) =>
    HOSTS.every((name) =>
      all.some(({ host, connected, policies }) => {
        return host === name && connected && policies.some(({ tenant }) => tenant === 'acme');
      }),
    ),
  );
  await script.mortise(['host', 'list'], 0, operator(demo));
  for (const { host, policies } of hosts) {
    script.see(`${host}: ${policies.map(({ tenant, version }) => `${tenant} version ${version}`).join(', ')}`);
  }
  const [b] = hosts.filter(({ host }) => host === 'host-b');
  prove(b?.policies.some(({ tenant }) => tenant === 'globex') === false, 'nothing of globex is on host-b');
  return 'two agents over one token are connected, each with the policies of its tenants and no others';
};

/** The second act. Ends what it began, however it goes. */
export const registrySteps = async (stage: Pick<FleetDemo, 'script' | 'lab' | 'desk'>): Promise<void> => {
  const { script, lab } = stage;
  const registryLog = join(lab.folder, 'registry.log');
  const demo: FleetDemo = { ...stage, registryLog, registry: undefined, hosts: new Map(), agents: new Map() };
  prove(!existsSync(join(lab.folder, 'registry')), 'nothing of a registry is there yet');
  try {
    await script.step('Make a registry', () => registryStep(demo));
    await script.step('Publish the officers’ policies', () => publishStep(demo));
    await script.step('Enrol two hosts', () => enrolStep(demo));
    await sharedSteps(demo);
    await outageSteps(demo);
  } finally {
    for (const program of [...demo.agents.values(), demo.registry?.program]) await program?.kill();
  }
};
