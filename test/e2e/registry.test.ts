// A real agent at a registry: it enrols, takes policy, hands its log in, and goes on when the registry is gone.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import type { RunningAgent } from '../support/agent.ts';
import { enrolAgent, type Fleet, makeFleet } from '../support/fleet.ts';
import { clientOf, refusedWith } from './load.ts';

const AGENT = join(import.meta.dirname, '../../agent/main.ts');
let fleet: Fleet;
let agent: RunningAgent;
let acme: MortiseClient;

before(async () => {
  fleet = await makeFleet();
  agent = await fleet.agent('host-a', { tenants: ['acme'] });
  acme = clientOf(agent, 'acme', { retry: false });
});
after(async () => {
  acme?.close();
  await fleet?.[Symbol.asyncDispose]();
});

const inForce = (tenant: string, version: number, from = 0) =>
  agent.logged(
    (line) => line.msg === 'policy came into force' && line['tenant'] === tenant && line['version'] === version,
    from,
  );

test('1: it enrols by a token from a file, with a key that nobody else can read', async () => {
  const file = join(agent.dataDir, 'registry', 'identity.pem');
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.match(await readFile(file, 'utf8'), /BEGIN PRIVATE KEY/);
  const before = await readFile(file, 'utf8');
  assert.match(await enrolAgent(agent, 'used up', ['--unless-enrolled']), /host host-a is enrolled already/);
  assert.equal(await readFile(file, 'utf8'), before, 'and not again where it is asked for before every start');
});

test('2: a token of another registry is not sent, and one that is no token is refused', async () => {
  const token = fleet.registry.admit('host-z', ['acme']);
  const other = `${token.slice(0, token.lastIndexOf('.'))}.${'A'.repeat(43)}`;
  await assert.rejects(enrolAgent(agent, other), /its root certificate is not the one that the enrolment token names/);
  await assert.rejects(enrolAgent(agent, 'not a token'), /does not hold an enrolment token/);
  await assert.rejects(enrolAgent(agent, token), /the token is for the host host-z, and this is the host host-a/);
});

test('3: a policy that is published comes into force, and the registry is told so', async () => {
  await acme.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  await acme.sign('signer', { message: Buffer.from('hello') });
  const { version } = await fleet.policy.publishTenant('acme', { algorithms: { deny: ['EC-P256'] } });
  await fleet.publish('acme');
  await inForce('acme', version);
  await assert.rejects(acme.sign('signer', { message: Buffer.from('hello') }), refusedWith('POLICY_DENIED'));
  const told = () => fleet.registry.hosts.get('host-a')?.told.flatMap(({ policies }) => policies) ?? [];
  await fleet.registry.until(
    () => told().some((row) => row.tenant === 'acme' && row.version === BigInt(version)),
    'the policy of acme',
  );
  const again = await fleet.policy.publishTenant('acme');
  await fleet.publish('acme');
  await inForce('acme', again.version);
});

test('4: a tenant that the host was not enrolled for is not served, whatever the platform policy says', async () => {
  const globex = clientOf(agent, 'globex', { retry: false });
  await assert.rejects(
    globex.keys.create({ keyId: 'k', purpose: 'sign', algorithm: 'EC-P256' }),
    refusedWith('POLICY_DENIED'),
  );
  globex.close();
  // The registry takes no log of that tenant from this host, so the refusal stands in the host's own.
  const host = clientOf(agent, '_platform', { retry: false });
  const { records } = await host.audit.records({ newest: true, pageSize: 100 });
  host.close();
  assert.ok(records.some(({ outcome }) => outcome === 'POLICY_DENIED'));
});

test('5: records are handed in as they are made, and the countersigned checkpoint comes back', async () => {
  await acme.sign('signer', { message: Buffer.from('to the ledger') });
  const { ledger } = fleet.registry;
  await ledger.until(() => ledger.operations('host-a', 'acme').filter((name) => name === 'sign').length >= 3, 'sign');
  const log = () => [...ledger.logs].find(([origin]) => origin.startsWith('host-a/acme/'))?.[1];
  await ledger.until(() => log()?.checkpoint.includes('registry.test/cosigner') === true, 'a checkpoint');
  assert.ok(![...ledger.logs.keys()].some((origin) => origin.includes('/globex/')), 'no log of who is not served');
});

test('6: without the registry operations go on; when it is back, the ledger is complete', async () => {
  const { registry } = fleet;
  const signs = (): number => registry.ledger.operations('host-a', 'acme').filter((name) => name === 'sign').length;
  const from = agent.logs.length;
  registry.stop();
  await agent.logged((line) => line.msg.startsWith('not connected to the registry'), from);
  const before = signs();
  for (let count = 0; count < 20; count += 1) await acme.sign('signer', { message: Buffer.from(`offline ${count}`) });
  const parts = (await acme.status()).parts;
  assert.equal(parts.find(({ part }) => part === 'registry')?.healthy, false);
  await registry.start();
  await registry.ledger.until(() => signs() >= before + 20, 'the records of the time without it');
  await agent.logged((line) => line.msg === 'part is healthy again' && line['part'] === 'registry', from);
});

test('7: an agent that starts without the registry serves, under the policy that it has stored', async () => {
  const { registry } = fleet;
  acme.close();
  await agent.end();
  registry.stop();
  await agent.start();
  acme = clientOf(agent, 'acme', { retry: false });
  await acme.sign('signer', { message: Buffer.from('started alone') });
  await registry.start();
  const { ledger } = registry;
  await ledger.until(() => ledger.operations('host-a', '_platform').includes('agent-stop'), 'the end of the first run');
});

test('8: the certificate is renewed with a new key, and no call is lost by it', async () => {
  const file = join(agent.dataDir, 'registry', 'identity.pem');
  const before = await readFile(file, 'utf8');
  const from = agent.logs.length;
  fleet.registry.tellToRenew('host-a');
  const load = Promise.all(
    Array.from({ length: 40 }, (_, index) => acme.sign('signer', { message: Buffer.from(`renewing ${index}`) })),
  );
  await agent.logged((line) => line.msg === 'certificate for the registry renewed', from);
  await agent.logged((line) => line.msg === 'connected to the registry', from);
  await load;
  assert.notEqual(await readFile(file, 'utf8'), before);
  assert.ok(!agent.logs.slice(from).some((line) => line.msg.startsWith('not connected')), 'never without a session');
});

test('9: a host that is revoked serves nobody from then on, also after a restart without the registry', async () => {
  const from = agent.logs.length;
  fleet.registry.revoke('host-a', 'left the building');
  const line = await agent.logged((row) => row.msg === 'the registry has revoked this host', from);
  assert.equal(line['reason'], 'left the building');
  await assert.rejects(acme.sign('signer', { message: Buffer.from('m') }), refusedWith('POLICY_DENIED'));
  acme.close();
  await agent.end();
  fleet.registry.stop();
  await agent.start();
  acme = clientOf(agent, 'acme', { retry: false });
  await assert.rejects(acme.sign('signer', { message: Buffer.from('m') }), refusedWith('POLICY_DENIED'));
  await fleet.registry.start();
});

test('10: the doctor tells of the way to the registry', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [AGENT, 'doctor'], { env: agent.env }).catch(
    (error: { stdout: string }) => error,
  );
  assert.match(stdout, /ok {4}registry +certificate until/);
  assert.match(stdout, /ok {4}registry +localhost:\d+ answers by TLSv1\.3/);
});

test('openssl reads what identity.pem has: a certificate for this host and no other', async () => {
  const file = join(agent.dataDir, 'registry', 'identity.pem');
  const { stdout } = await promisify(execFile)('openssl', ['x509', '-in', file, '-noout', '-ext', 'subjectAltName']);
  assert.match(stdout, /URI:spiffe:\/\/registry\.test\/mortise\/host\/host-a/);
});
