// One tenant's flood does not starve another, and its rate limit is its own. Shown by counts, not by times.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { clientOf, startLoad } from './load.ts';

const FLOOD = 96;
const CALLS = 30;
const message = Buffer.from('my turn');

let agent: RunningAgent;
let flooder: MortiseClient;
let modest: MortiseClient;
let limited: MortiseClient;

before(async () => {
  agent = await startAgent({
    tenants: ['flooder', 'modest', 'limited'],
    tenantPolicies: { limited: { rateLimits: { operationsPerSecond: 5, burst: 10 } } },
    env: { PKCS11_SESSION_POOL_SIZE: '1' },
  });
  [flooder, modest, limited] = ['flooder', 'modest', 'limited'].map((tenant) =>
    clientOf(agent, tenant, { retry: false }),
  ) as [MortiseClient, MortiseClient, MortiseClient];
  for (const client of [flooder, modest]) {
    await client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'RSA-3072' });
  }
});
after(async () => {
  for (const client of [flooder, modest, limited]) client?.close();
  await agent?.stop();
});

test('1: against a flood of RSA signatures for the one session, a modest tenant gets its turn each time', async () => {
  const load = startLoad({
    client: flooder,
    callers: FLOOD,
    operation: 'sign',
    act: (caller, correlationId) => caller.sign('signer', { message }, { correlationId }),
  });
  await load.more(FLOOD);
  const before = load.count();
  for (let call = 0; call < CALLS; call += 1) await modest.sign('signer', { message });
  const passed = load.count() - before;
  await load.stop();
  // First come, first served would let about FLOOD calls pass for each of ours. Taking turns lets one or two.
  assert.ok(passed < (CALLS * FLOOD) / 8, `${passed} calls of the flood passed during ${CALLS} of the other tenant`);
});

test('2: a tenant over its rate limit is told so and when to come again; others are not', async () => {
  const outcomes = await Promise.all(
    Array.from({ length: 40 }, () =>
      limited.whoAmI().then(
        () => ({ reason: 'ok', retryAfterMs: 0 }),
        (error) => error as { reason: string; retryAfterMs: number },
      ),
    ),
  );
  const refused = outcomes.filter(({ reason }) => reason === 'RATE_LIMITED');
  assert.ok(refused.length >= 20, `${refused.length} refused`);
  assert.ok(outcomes.some(({ reason }) => reason === 'ok'));
  for (const { retryAfterMs } of refused) assert.ok(retryAfterMs > 0);
  assert.equal((await modest.whoAmI()).tenant, 'modest');
});
