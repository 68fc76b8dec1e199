// Rate limits of tenants, the memory of verified tokens, and the bound on recorded refusals.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AgentError } from '../../../agent/errors.ts';
import type { VerifiedToken } from '../../../agent/identity/jwt.ts';
import { createRateLimiter, type RateLimits } from '../../../agent/identity/rate-limit.ts';
import { createRefusalRecorder, type RefusalLog } from '../../../agent/identity/refusals.ts';
import { TokenBucket } from '../../../agent/identity/token-bucket.ts';
import { createTokenCache } from '../../../agent/identity/token-cache.ts';
import { NOW, testClock } from './support.ts';

const limited = (take: () => void): number => {
  try {
    take();
    return 0;
  } catch (error) {
    assert.ok(error instanceof AgentError && error.code === 'RATE_LIMITED');
    return error.retryAfterMs ?? 0;
  }
};

test('a tenant gets its burst and then its rate, whatever another tenant does', () => {
  const clock = testClock();
  const limiter = createRateLimiter({ clock, limits: () => ({ operationsPerSecond: 10, burst: 3 }) });
  for (let count = 0; count < 3; count += 1) limiter.take('blue');
  assert.equal(
    limited(() => limiter.take('blue')),
    100,
  );
  limiter.take('green');
  clock.advance(99);
  assert.equal(
    limited(() => limiter.take('blue')),
    1,
  );
  clock.advance(1);
  limiter.take('blue');
  assert.equal(
    limited(() => limiter.take('blue')),
    100,
  );
});

test('a change of the limits counts at once, and no limits are no limit', () => {
  const clock = testClock();
  let limits: RateLimits | undefined = { operationsPerSecond: 1, burst: 1 };
  const limiter = createRateLimiter({ clock, limits: () => limits });
  limiter.take('blue');
  assert.equal(
    limited(() => limiter.take('blue')),
    1000,
  );
  limits = { operationsPerSecond: 100, burst: 50 };
  assert.equal(
    limited(() => limiter.take('blue')),
    10,
  );
  limits = undefined;
  for (let count = 0; count < 1000; count += 1) limiter.take('blue');
});

test('no history lets a bucket give more than burst and rate allow', () => {
  const step = fc.record({ waitMs: fc.integer({ min: -500, max: 2000 }), takes: fc.nat(20) });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 50 }),
      fc.nat(20),
      fc.integer({ min: 1, max: 50 }),
      (steps, burst, perSecond) => {
        const rate = { burst, perSecond };
        let now = NOW;
        let forward = 0;
        let taken = 0;
        const bucket = new TokenBucket(rate, now);
        for (const { waitMs, takes } of steps) {
          now += waitMs;
          forward += Math.max(0, waitMs);
          for (let count = 0; count < takes; count += 1) if (bucket.take(rate, now) === 0) taken += 1;
        }
        assert.ok(taken <= burst + (forward * perSecond) / 1000 + 0.01);
      },
    ),
  );
});

const verified = (expiresAt = NOW + 300_000): VerifiedToken => ({
  issuer: 'i',
  tenant: 'blue',
  principal: 'p',
  scopes: new Set(),
  id: undefined,
  notBefore: NOW,
  expiresAt,
  singleUse: false,
});

test('the cache keeps a token for its time, never past exp, and not at all for no time', () => {
  const clock = testClock();
  const cache = createTokenCache({ clock });
  cache.put('a', verified(), 60);
  cache.put('b', verified(NOW + 10_000), 60);
  cache.put('c', verified(), 0);
  assert.ok(cache.get('a') && cache.get('b') && !cache.get('c') && !cache.get('d'));
  clock.advance(10_000);
  assert.ok(cache.get('a') && !cache.get('b'));
  clock.advance(50_000);
  assert.ok(!cache.get('a'));
});

test('the cache is bounded: the oldest goes first', () => {
  const cache = createTokenCache({ clock: testClock(), maxEntries: 3 });
  for (const token of ['a', 'b', 'c', 'a', 'd']) cache.put(token, verified(), 60);
  assert.deepEqual(
    ['a', 'b', 'c', 'd'].map((token) => cache.get(token) !== undefined),
    [true, false, true, true],
  );
});

type Recorded = Parameters<RefusalLog['append']>[0];
const refusal = (uid: number) => ({
  peer: { uid, gid: 5, pid: 9 },
  operation: 'encrypt',
  code: 'UNAUTHENTICATED',
  correlationId: 'c',
});

test('refusals of strangers stand in the log of the host, with the peer', async () => {
  const records: Recorded[] = [];
  const record = createRefusalRecorder({
    clock: testClock(),
    audit: { append: async (event) => void records.push(event) },
  });
  await record(refusal(1001));
  assert.deepEqual(records, [
    {
      tenant: '_platform',
      principal: '-',
      key: '-',
      algorithm: '-',
      operation: 'encrypt',
      outcome: 'UNAUTHENTICATED',
      correlationId: 'c',
      detail: { uid: 1001, gid: 5, pid: 9 },
    },
  ]);
});

test('a flood of refusals is counted, not written, and hides no refusal of another uid', async () => {
  const clock = testClock();
  const records: Recorded[] = [];
  const record = createRefusalRecorder({ clock, audit: { append: async (event) => void records.push(event) } });
  for (let count = 0; count < 1000; count += 1) await record(refusal(1001));
  assert.equal(records.length, 50);
  await record(refusal(1002));
  assert.equal(records.length, 51);
  clock.advance(1000);
  await record(refusal(1001));
  assert.equal(records.at(-1)?.detail['suppressed'], 950);
  clock.advance(1000);
  await record(refusal(1001));
  assert.equal(records.at(-1)?.detail['suppressed'], undefined);
});

test('a refusal that cannot be recorded is an error and stays counted', async () => {
  const clock = testClock();
  const records: Recorded[] = [];
  let broken = true;
  const record = createRefusalRecorder({
    clock,
    audit: {
      append: async (event) => {
        if (broken) throw new AgentError('AUDIT_UNAVAILABLE');
        records.push(event);
      },
    },
  });
  await assert.rejects(record(refusal(1001)), /cannot be recorded/);
  broken = false;
  await record(refusal(1001));
  assert.equal(records[0]?.detail['suppressed'], 1);
});

test('no number of uids makes the recorder grow or lose count', async () => {
  const clock = testClock();
  const records: Recorded[] = [];
  const record = createRefusalRecorder({ clock, audit: { append: async (event) => void records.push(event) } });
  for (let count = 0; count < 60; count += 1) await record(refusal(1));
  for (let uid = 2; uid < 2000; uid += 1) await record(refusal(uid));
  const suppressed = records.reduce((sum, event) => sum + Number(event.detail['suppressed'] ?? 0), 0);
  assert.equal(records.length + suppressed, 60 + 1998);
  assert.equal(suppressed, 10);
});
