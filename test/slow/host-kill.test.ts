// A long campaign of kill -9 at random moments, of the agent and of its token process, under load of two tenants with
// either durability. MORTISE_SLOW_ROUNDS sets the number of rounds.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type Answer, allRecords, assertRecorded, clientOf, startLoad } from '../e2e/load.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';

const ROUNDS = Number(process.env['MORTISE_SLOW_ROUNDS'] ?? 40);
const CALLERS = 4;
const TENANTS = ['acme', 'globex'] as const;
const message = Buffer.from('again and again');

let agent: RunningAgent;
const clients = {} as Record<(typeof TENANTS)[number], MortiseClient>;
const answers = { acme: [] as Answer[], globex: [] as Answer[] };

before(async () => {
  agent = await startAgent({
    tenantPolicies: { globex: { audit: { durability: 'flushed', whenUnavailable: 'refuse' } } },
  });
  for (const tenant of TENANTS) {
    clients[tenant] = clientOf(agent, tenant, { retry: false });
    await clients[tenant].keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
    await clients[tenant].keys.create({ keyId: 'files', purpose: 'encrypt', algorithm: 'AES-256' });
  }
});
after(async () => {
  for (const client of Object.values(clients)) client.close();
  await agent?.stop();
});

const loadsOf = (tenant: (typeof TENANTS)[number]) => [
  startLoad({
    client: clients[tenant],
    callers: CALLERS,
    operation: 'sign',
    act: (client, correlationId) => client.sign('signer', { message }, { correlationId }),
  }),
  startLoad({
    client: clients[tenant],
    callers: CALLERS,
    operation: 'encrypt',
    act: (client, correlationId) => client.encrypt('files', message, { correlationId }),
  }),
];

test(`${ROUNDS} kills at random moments: every answer received has its record and the logs verify`, async (context) => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const loads = TENANTS.map((tenant) => ({ tenant, of: loadsOf(tenant) }));
    await Promise.all(loads.flatMap(({ of }) => of.map((load) => load.more(5, 'ok'))));
    await sleep(randomInt(200)); // the moment is the point here
    if (round % 3 === 2) {
      const from = agent.logs.length;
      process.kill(agent.tokenPid(), 'SIGKILL');
      await agent.logged(({ msg }) => msg === 'token is ready', from);
    } else {
      await agent.end('SIGKILL');
    }
    for (const { tenant, of } of loads) {
      for (const load of of) {
        await load.stop();
        answers[tenant].push(...load.answers);
      }
    }
    if (round % 3 !== 2) await agent.start();
  }
  for (const tenant of TENANTS) {
    using reader = clientOf(agent, tenant); // finds the agent again
    assertRecorded(answers[tenant], await allRecords(reader));
    assert.deepEqual((await reader.audit.verify()).findings, []);
    context.diagnostic(`${tenant}: ${answers[tenant].length} answers`);
  }
});
