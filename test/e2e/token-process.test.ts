// The token process dies and hangs under load: the agent stays, service returns by itself, nothing goes unrecorded.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type LogLine, type RunningAgent, startAgent } from '../support/agent.ts';
import { freeze } from '../support/freeze.ts';
import { allRecords, assertRecorded, clientOf, type Load, startLoad } from './load.ts';

const CALLERS = 8;
const message = Buffer.from('signed under fire');

let agent: RunningAgent;
let client: MortiseClient;
let patient: MortiseClient;

before(async () => {
  agent = await startAgent({ env: { PKCS11_SESSION_POOL_SIZE: '4' } });
  client = clientOf(agent, 'acme', { retry: false });
  patient = clientOf(agent, 'acme');
  await patient.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
});
after(async () => {
  client?.close();
  patient?.close();
  await agent?.stop();
});

const signing = (): Load =>
  startLoad({
    client,
    callers: CALLERS,
    operation: 'sign',
    act: (caller, correlationId) => caller.sign('signer', { message }, { correlationId }),
  });

const isReady = ({ msg }: LogLine): boolean => msg === 'token is ready';
const RETRYABLE = ['ok', 'HSM_UNAVAILABLE', 'HSM_BUSY'];

test('1: SIGKILL to the token process under load costs calls in flight at most, and it comes back by itself', async () => {
  const agentPid = agent.pid;
  const load = signing();
  await load.more(50, 'ok');
  for (let round = 0; round < 3; round += 1) {
    const from = agent.logs.length;
    process.kill(agent.tokenPid(), 'SIGKILL');
    await agent.logged(isReady, from);
    await load.more(20, 'ok');
  }
  await load.stop();
  const codes = [...new Set(load.answers.map(({ outcome }) => outcome))];
  assert.deepEqual(
    codes.filter((code) => !RETRYABLE.includes(code)),
    [],
  );
  assert.equal(agent.pid, agentPid, 'the agent is the same process');
  assertRecorded(load.answers, await allRecords(patient));
});

test('2: a client that repeats sees nothing of it', async () => {
  const load = startLoad({
    client: patient,
    callers: 4,
    operation: 'sign',
    act: (caller, correlationId) => caller.sign('signer', { message }, { correlationId }),
  });
  await load.more(20, 'ok');
  const from = agent.logs.length;
  process.kill(agent.tokenPid(), 'SIGKILL');
  await agent.logged(isReady, from);
  await load.more(20, 'ok');
  await load.stop();
  assert.equal(load.count(), load.count('ok'));
});

test('3: each return of the token process is in the trail of the platform', async () => {
  using platform = clientOf(agent, '_platform');
  const restarts = (await allRecords(platform)).filter(({ operation }) => operation === 'token-restart');
  assert.equal(restarts.length, 4);
  assert.equal(JSON.parse(restarts[0]?.detail ?? '{}').signal, 'SIGKILL');
});

test('4: while the token process is away, what does not need it goes on', async () => {
  const { jws } = await patient.sign('signer', { message });
  const from = agent.logs.length;
  process.kill(agent.tokenPid(), 'SIGKILL');
  await agent.logged(({ msg }) => msg === 'token process ended unasked', from);
  assert.equal((await client.verify({ jws })).valid, true);
  assert.equal((await client.keys.get('signer')).keyId, 'signer');
  assert.equal((await client.status()).parts.find(({ part }) => part === 'audit')?.healthy, true);
  await agent.logged(isReady, from);
});

test('5: a token process that hangs in a call is killed once the call has outlived its budget, and callers recover', async () => {
  await Promise.all(Array.from({ length: 8 }, () => patient.sign('signer', { message }))); // its sessions are open
  const from = agent.logs.length;
  const hung = agent.tokenPid();
  await freeze(hung);
  const stuck = client.sign('signer', { message }, { deadlineMs: 1500 }).then(
    () => 'ok',
    (error) => error.reason,
  );
  const others = Array.from({ length: 4 }, () => patient.sign('signer', { message }));
  assert.ok(['DEADLINE_EXCEEDED', 'HSM_UNAVAILABLE', 'HSM_BUSY'].includes(await stuck), await stuck);
  for (const { jws } of await Promise.all(others)) assert.ok(jws.length > 0);
  assert.notEqual((await agent.logged(isReady, from))['pid'], hung);
  assert.throws(() => process.kill(hung, 0), { code: 'ESRCH' });
});

test('6: the log verifies', async () => {
  const { intact, findings } = await patient.audit.verify();
  assert.deepEqual([intact, findings], [true, []]);
});
