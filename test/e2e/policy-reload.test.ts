// Policies come and go under load: no request is dropped, bad policies change nothing, revocation bites at once.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect, type MortiseClient } from '../../clients/typescript/index.ts';
import { type LogLine, type RunningAgent, startAgent } from '../support/agent.ts';
import { publishFile } from '../support/policy.ts';
import { allRecords, clientOf, refusedWith, startLoad } from './load.ts';

let agent: RunningAgent;
let acme: MortiseClient;
const message = Buffer.from('under changing rules');

before(async () => {
  agent = await startAgent();
  acme = clientOf(agent, 'acme', { retry: false });
  await acme.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
});
after(async () => {
  acme?.close();
  await agent?.stop();
});

const inForce = (version: number, tenant = '_platform', from = 0): Promise<LogLine> =>
  agent.logged(
    (line) => line.msg === 'policy came into force' && line['tenant'] === tenant && line['version'] === version,
    from,
  );

const refusal = (code: string, from: number): Promise<LogLine> =>
  agent.logged((line) => line.msg === 'policy refused' && line['code'] === code, from);

const policyHealth = (msg: string, from: number): Promise<LogLine> =>
  agent.logged((line) => line.msg === msg && line['part'] === 'policy', from);

test('1: policies are replaced under load without a dropped request', async () => {
  const load = startLoad({
    client: acme,
    callers: 6,
    operation: 'sign',
    act: (caller, correlationId) => caller.sign('signer', { message }, { correlationId }),
  });
  for (let round = 0; round < 5; round += 1) {
    const { version } = await agent.policy.publishPlatform();
    await inForce(version);
    const tenant = await agent.policy.publishTenant('acme');
    await inForce(tenant.version, 'acme');
    await load.more(10, 'ok');
  }
  await load.stop();
  assert.equal(load.count(), load.count('ok'), 'every call was answered with success');
});

test('2: a denied algorithm is denied with the next call, and allowed again with the policy after', async () => {
  const denied = await agent.policy.publishTenant('acme', { algorithms: { deny: ['EC-P256'] } });
  await inForce(denied.version, 'acme');
  await assert.rejects(acme.sign('signer', { message }), refusedWith('POLICY_DENIED'));
  const again = await agent.policy.publishTenant('acme');
  await inForce(again.version, 'acme');
  await acme.sign('signer', { message });
});

test('3: a revoked bearer token is refused although it was accepted, and cached, before', async () => {
  const token = agent.issuer.issue({ tenant: 'acme', claims: { jti: 'stolen-laptop' } });
  using thief = connect({ socketPath: agent.socket, token, retry: false });
  assert.equal((await thief.whoAmI()).tenant, 'acme');
  const { version } = await agent.policy.publishPlatform({ revokedTokens: ['stolen-laptop'] });
  await inForce(version);
  await assert.rejects(thief.whoAmI(), refusedWith('UNAUTHENTICATED'));
});

test('4: a policy that was tampered with changes nothing', async () => {
  const path = join(agent.policy.dir, 'platform.json');
  const before = (await acme.status()).policies[0];
  const good = await readFile(path, 'utf8');
  const jws = JSON.parse(good) as { payload: string };
  const payload = Buffer.from(jws.payload, 'base64url').toString().replace('"fipsOnly": false', '"fipsOnly":  false');
  const from = agent.logs.length;
  await publishFile(path, JSON.stringify({ ...jws, payload: Buffer.from(payload).toString('base64url') }));
  await refusal('SIGNATURE_THRESHOLD', from);
  await policyHealth('part is not healthy', from);
  assert.deepEqual((await acme.status()).policies[0]?.digest, before?.digest);
  await acme.sign('signer', { message });
  await publishFile(path, good);
  await policyHealth('part is healthy again', from);
});

test('5: an older policy, well signed, is not taken again', async () => {
  const path = join(agent.policy.dir, 'platform.json');
  const older = await readFile(path);
  const { version } = await agent.policy.publishPlatform();
  await inForce(version);
  const from = agent.logs.length;
  await publishFile(path, older);
  await refusal('ROLLBACK', from);
  assert.equal((await acme.status()).policies[0]?.version, version);
  await acme.sign('signer', { message });
  await policyHealth('part is not healthy', from);
  const status = await acme.status();
  assert.match(status.parts.find(({ part }) => part === 'policy')?.detail ?? '', /ROLLBACK/);
  assert.equal(await acme.health('mortise.policy'), 'SERVING', 'what is in force still decides');
});

test('6: SIGHUP reads the folder at once', async () => {
  const from = agent.logs.length;
  process.kill(agent.pid, 'SIGHUP');
  await agent.logged(({ msg }) => msg === 'reloading on SIGHUP', from);
  const { version } = await agent.policy.publishPlatform({ version: 100 });
  process.kill(agent.pid, 'SIGHUP');
  await inForce(version);
  await acme.sign('signer', { message });
});

test('7: every change and refusal is in the trail, with version before and after', async () => {
  using platform = clientOf(agent, '_platform');
  const changes = (await allRecords(platform)).filter(({ operation }) => operation === 'load-policy');
  const outcomes = new Set(changes.map(({ outcome }) => outcome));
  for (const outcome of ['ok', 'POLICY_INVALID']) assert.ok(outcomes.has(outcome), [...outcomes].join());
  const tenants = (await allRecords(acme)).filter(({ operation }) => operation === 'load-policy');
  assert.ok(tenants.length >= 7, `${tenants.length} changes of the tenant's policy`);
});
