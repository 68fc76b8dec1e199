// kill -9 of the agent in a loop under load: every answer that a client ever received has its record, the log verifies,
// and keys, counters and the policy's floor are there again. A longer loop is in test/slow/.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { type Answer, allRecords, assertRecorded, clientOf, refusedWith, startLoad } from './load.ts';

const ROUNDS = 4;
const HARD_USES = 100_000;
const plaintext = Buffer.from('survives');

let agent: RunningAgent;
let acme: MortiseClient; // both repeat, so that they find the agent again
let globex: MortiseClient;
const answers: Record<'acme' | 'globex', Answer[]> = { acme: [], globex: [] };
let jwe = '';

before(async () => {
  agent = await startAgent({
    // acme survives a killed process, globex power loss as well: both have to hold here.
    tenantPolicies: { globex: { audit: { durability: 'flushed', whenUnavailable: 'refuse' } } },
  });
  acme = clientOf(agent, 'acme');
  globex = clientOf(agent, 'globex');
  for (const client of [acme, globex]) {
    await client.keys.create({
      keyId: 'counted',
      purpose: 'encrypt',
      algorithm: 'AES-256',
      limits: { hardUses: HARD_USES },
    });
  }
  jwe = (await acme.encrypt('counted', plaintext)).jwe;
});
after(async () => {
  acme?.close();
  globex?.close();
  await agent?.stop();
});

const encrypting = (client: MortiseClient) =>
  startLoad({
    client,
    callers: 4,
    operation: 'encrypt',
    act: (caller, correlationId) => caller.encrypt('counted', plaintext, { correlationId }),
  });

test(`1: kill -9 under load, ${ROUNDS} times: the agent starts again each time`, async () => {
  using acmeOnce = clientOf(agent, 'acme', { retry: false });
  using globexOnce = clientOf(agent, 'globex', { retry: false });
  for (let round = 0; round < ROUNDS; round += 1) {
    const loads = { acme: encrypting(acmeOnce), globex: encrypting(globexOnce) };
    await Promise.all(Object.values(loads).map((load) => load.more(40, 'ok')));
    await agent.end('SIGKILL');
    for (const [tenant, load] of Object.entries(loads)) {
      await load.stop();
      answers[tenant as 'acme'].push(...load.answers);
    }
    await agent.start();
  }
});

test('2: every answer that a client ever received has its record, with either durability', async () => {
  assertRecorded(answers.acme, await allRecords(acme));
  assertRecorded(answers.globex, await allRecords(globex));
});

test('3: the logs verify, asked of the agent and read from the disk beside it', async () => {
  for (const client of [acme, globex]) assert.deepEqual((await client.audit.verify()).findings, []);
  const main = join(import.meta.dirname, '../../agent/main.ts');
  const { status, stdout } = spawnSync(process.execPath, [main, 'audit', 'verify', '--output', 'json'], {
    env: agent.env,
    encoding: 'utf8',
  });
  const report = JSON.parse(stdout);
  assert.deepEqual([status, report.intact, report.macsVerified], [0, true, true]);
  assert.ok(report.tenants.length >= 3);
});

test('4: keys are there, and the use counter never fell behind what was done', async () => {
  assert.deepEqual((await acme.decrypt(jwe)).plaintext, plaintext);
  const done = answers.acme.filter(({ outcome }) => outcome === 'ok').length;
  const { uses } = await acme.keys.get('counted');
  assert.ok(uses >= done + 1, `${uses} counted, ${done + 1} done`);
  assert.ok(uses < HARD_USES, `a crash forfeits part of a block, not all uses: ${uses}`);
});

test('5: the policy version in force is a floor over restarts', async () => {
  const { version } = await agent.policy.publishPlatform();
  await agent.logged((line) => line.msg === 'policy came into force' && line['version'] === version);
  await agent.end('SIGKILL');
  await agent.policy.publishPlatform({ version: version - 1 });
  const from = agent.logs.length;
  await agent.start();
  const refusal = await agent.logged(({ msg }) => msg === 'policy refused', from);
  assert.equal(refusal['code'], 'ROLLBACK');
  assert.equal((await acme.status()).policies[0]?.version, version);
});

test('6: the whole journey of a start is in the platform log: a start for each, a stop for none of the killed', async () => {
  using platform = clientOf(agent, '_platform');
  const operations = (await allRecords(platform)).map(({ operation }) => operation);
  assert.equal(operations.filter((name) => name === 'agent-start').length, ROUNDS + 2);
  assert.equal(operations.filter((name) => name === 'agent-stop').length, 0);
  await assert.rejects(platform.keys.get('counted'), refusedWith('PERMISSION_DENIED'));
});
