// SIGTERM: calls in flight are answered, new ones refused, the log is whole, the exit code is 0. A second signal forces.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { processGone, type RunningAgent, startAgent } from '../support/agent.ts';
import { freeze } from '../support/freeze.ts';
import { allRecords, assertRecorded, clientOf, codeOf, startLoad } from './load.ts';

let agent: RunningAgent;
let client: MortiseClient;
const message = Buffer.from('last orders');

before(async () => {
  agent = await startAgent({ env: { MORTISE_DRAIN_SECONDS: '10' } });
  client = clientOf(agent, 'acme');
  await client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
});
after(async () => {
  client?.close();
  await agent?.stop();
});

test('1: SIGTERM under load answers every call that was accepted, and exits 0', async () => {
  using once = clientOf(agent, 'acme', { retry: false });
  const load = startLoad({
    client: once,
    callers: 8,
    operation: 'sign',
    act: (caller, correlationId) => caller.sign('signer', { message }, { correlationId }),
  });
  await load.more(40, 'ok');
  assert.equal(await agent.end('SIGTERM'), 0);
  await load.stop();
  const codes = new Set(load.answers.map(({ outcome }) => outcome));
  codes.delete('ok');
  for (const code of codes) assert.ok(['SHUTTING_DOWN', 'AGENT_UNREACHABLE'].includes(code), code);
  assert.ok(!existsSync(agent.socket), 'the socket is gone');
  await agent.start();
  const records = await allRecords(client);
  assertRecorded(load.answers, records);
  const done = new Set(records.filter(({ outcome }) => outcome === 'ok').map((record) => record.correlationId));
  const lost = load.answers.filter(({ outcome, correlationId }) => outcome !== 'ok' && done.has(correlationId));
  assert.deepEqual(lost, [], 'what was done and recorded was also answered');
  assert.deepEqual((await client.audit.verify()).findings, []);
});

test('2: a slow call in flight is answered before the end', async () => {
  using once = clientOf(agent, 'acme', { retry: false });
  await once.whoAmI(); // connected
  const slow = once.keys.create({ keyId: 'slow', purpose: 'sign', algorithm: 'RSA-4096' });
  await once.whoAmI(); // a connection is read in order: the agent has begun with the slow call
  const ended = agent.end('SIGTERM');
  assert.equal((await slow).key.versions[0]?.algorithm, 'RSA-4096');
  assert.equal(await ended, 0);
  await agent.start();
  assert.equal((await client.keys.get('slow')).state, 'ACTIVE');
});

test('3: the last checkpoint covers the whole log', async () => {
  await client.sign('signer', { message });
  assert.equal(await agent.end('SIGTERM'), 0);
  const stopped = await agent.logged(({ msg }) => msg === 'agent has stopped');
  assert.ok(stopped);
  await agent.start();
  const { records } = await client.audit.records({ newest: true, pageSize: 1 });
  assert.equal(records[0]?.operation, 'sign');
  assert.ok((await client.audit.verify()).checkpointTime !== undefined);
  using platform = clientOf(agent, '_platform');
  const stops = (await allRecords(platform)).filter(({ operation }) => operation === 'agent-stop');
  assert.equal(stops.length, 3);
});

test('4: SIGTERM while the token hangs ends in time, and a second signal ends it at once', async () => {
  using once = clientOf(agent, 'acme', { retry: false });
  await once.whoAmI();
  const hung = agent.tokenPid();
  await freeze(hung);
  const stuck = once.sign('signer', { message }, { deadlineMs: 30_000 }).then(() => 'ok', codeOf);
  await once.whoAmI();
  const from = agent.logs.length;
  process.kill(agent.pid, 'SIGTERM');
  await agent.logged(({ msg }) => msg === 'agent is stopping', from);
  assert.equal(await agent.end('SIGTERM'), 3);
  assert.ok(['AGENT_UNREACHABLE', 'SHUTTING_DOWN'].includes(await stuck), await stuck);
  await agent.logged(({ msg }) => msg === 'agent is ended by force', from);
  await processGone(hung); // no token process is left behind
  await agent.start();
  assert.deepEqual((await client.audit.verify()).findings, []);
});
