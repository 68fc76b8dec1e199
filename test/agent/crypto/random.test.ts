// The random pool: what it mixes, that nothing is given twice or stays behind, and what a failing source does.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, test } from 'node:test';
import { RandomPool } from '../../../agent/crypto/random.ts';
import { AgentError } from '../../../agent/errors.ts';

const CALL = { tenant: 'acme', deadline: Date.now() + 60_000, signal: new AbortController().signal };

describe('random pool', () => {
  /** Every byte a source gave, in order. */
  let token: { given: Buffer[]; fail: boolean; calls: { tenant: string }[]; answer: (length: number) => Buffer };
  let system: { given: Buffer[]; fail: boolean };
  let failures: string[];
  let now: number;
  let pool: RandomPool;

  beforeEach(() => {
    token = { given: [], fail: false, calls: [], answer: randomBytes };
    system = { given: [], fail: false };
    failures = [];
    now = 1_000_000;
    pool = new RandomPool({
      clock: { now: () => now },
      events: { randomSourceFailed: ({ source }) => failures.push(source) },
      system: (length) => {
        if (system.fail) throw new Error('no entropy');
        const bytes = randomBytes(length);
        system.given.push(Buffer.from(bytes));
        return bytes;
      },
      token: {
        random: async (length, call) => {
          token.calls.push(call);
          if (token.fail) throw new AgentError('HSM_UNAVAILABLE');
          const bytes = token.answer(length);
          token.given.push(Buffer.from(bytes));
          return bytes;
        },
      },
    });
  });

  const mixed = (chunk: number): Buffer =>
    Buffer.from((token.given[chunk] as Buffer).map((byte, index) => byte ^ (system.given[chunk]?.[index] as number)));

  test('hands out the XOR of both sources, each byte once, in order', async () => {
    const taken: Buffer[] = [];
    for (let total = 0; total < 20_000; total += 56) taken.push(await pool.take(56));
    const all = Buffer.concat(taken);
    const source = Buffer.concat([mixed(0), mixed(1), mixed(2)]);
    assert.ok(all.equals(source.subarray(0, all.length)));
  });

  test('takes at once share one refill and no byte', async () => {
    const taken = await Promise.all(Array.from({ length: 400 }, () => pool.take(32)));
    assert.equal(new Set(taken.map((bytes) => bytes.toString('hex'))).size, 400);
    assert.ok(token.calls.length <= 3, `${token.calls.length} calls`);
    assert.ok(token.calls.every((call) => call.tenant === '_platform'));
  });

  test('refills before it is empty, without a take that waits', async () => {
    await pool.take(32);
    assert.equal(token.calls.length, 1);
    for (let round = 0; round < 5; round += 1) await pool.take(1000);
    assert.equal(token.calls.length, 2);
  });

  test('goes on with the operating system alone while the token is gone, says so, and comes back', async () => {
    token.fail = true;
    const bytes = await pool.take(1000);
    assert.ok(bytes.equals((system.given[0] as Buffer).subarray(0, 1000)));
    assert.deepEqual(failures, ['token']);
    for (let round = 0; round < 30; round += 1) await pool.take(1000);
    assert.equal(token.calls.length, 1, 'does not ask a token that has just failed');
    token.fail = false;
    now += 1000;
    for (let round = 0; round < 30; round += 1) await pool.take(1000);
    assert.ok(token.given.length >= 2);
    assert.deepEqual(failures, ['token']);
  });

  test('goes on with the token alone when the operating system fails', async () => {
    system.fail = true;
    assert.ok((await pool.take(100)).equals((token.given[0] as Buffer).subarray(0, 100)));
    assert.deepEqual(failures, ['operating-system']);
  });

  test('fails closed when neither source works, and recovers', async () => {
    token.fail = true;
    system.fail = true;
    await assert.rejects(pool.take(32), { code: 'HSM_UNAVAILABLE' });
    await assert.rejects(pool.fresh(32, CALL), { code: 'HSM_UNAVAILABLE' });
    system.fail = false;
    assert.equal((await pool.take(32)).length, 32);
  });

  test('a token that answers short or with one byte over and over has failed', async () => {
    for (const answer of [
      () => randomBytes(5),
      (length: number) => Buffer.alloc(length),
      (length: number) => Buffer.alloc(length, 0xa5),
    ]) {
      token.answer = answer;
      await assert.rejects(pool.fresh(64, CALL), { code: 'HSM_UNAVAILABLE' });
    }
    await pool.take(32);
    assert.deepEqual(failures, ['token']);
  });

  test('fresh bytes go past the pool, in the queue of the caller, and need the token', async () => {
    const bytes = await pool.fresh(5000, CALL);
    assert.ok(bytes.equals(mixed(0)));
    assert.equal(token.calls[0]?.tenant, 'acme');
    token.fail = true;
    await assert.rejects(pool.fresh(16, CALL), { code: 'HSM_UNAVAILABLE' });
    assert.deepEqual(failures, []);
  });

  test('a take beyond the size of the pool is a mistake of the program', async () => {
    await assert.rejects(pool.take(4096), RangeError);
  });

  test('after closing nothing is handed out, and those who wait are told', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const slow = new RandomPool({
      clock: { now: () => now },
      events: { randomSourceFailed: () => undefined },
      token: { random: async (length) => promise.then(() => randomBytes(length)) },
    });
    const waiting = assert.rejects(slow.take(8), { code: 'SHUTTING_DOWN' });
    const closing = slow.close();
    resolve();
    await closing;
    await waiting;
    await pool.take(8);
    await pool.close();
    await assert.rejects(pool.take(8), { code: 'SHUTTING_DOWN' });
    await assert.rejects(pool.fresh(8, CALL), { code: 'SHUTTING_DOWN' });
  });
});
