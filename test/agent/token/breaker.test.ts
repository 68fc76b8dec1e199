import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { systemClock } from '../../../agent/clock.ts';
import { AgentError } from '../../../agent/errors.ts';
import { jittered } from '../../../agent/token/backoff.ts';
import { Breaker, type BreakerState } from '../../../agent/token/breaker.ts';
import { Dispatcher } from '../../../agent/token/dispatcher.ts';
import { callOf, rejectsWith } from '../../contract/token.ts';
import { ignoredTokenEvents } from '../../support/token.ts';

const setUp = () => {
  const states: BreakerState[] = [];
  let now = 0;
  mock.method(performance, 'now', () => now);
  const breaker = new Breaker({ changed: (state) => states.push(state) });
  const fail = (times: number): void => {
    for (let count = 0; count < times; count += 1) breaker.finished('HSM_UNAVAILABLE');
  };
  const refused = (): boolean => {
    try {
      breaker.admit();
      return false;
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'HSM_UNAVAILABLE');
      assert.ok(((error as { retryAfterMs?: number }).retryAfterMs ?? 0) >= 50);
      return true;
    }
  };
  return {
    breaker,
    states,
    fail,
    refused,
    pass: (ms: number) => {
      now += ms;
    },
  };
};

test('it opens after failures in a row, lets one call through to see, and closes when that succeeds', (t) => {
  t.after(() => mock.restoreAll());
  const { breaker, states, fail, refused, pass } = setUp();
  fail(19);
  assert.equal(refused(), false);
  fail(1);
  assert.equal(refused(), true);
  pass(250);
  assert.equal(refused(), false, 'the probe');
  assert.equal(refused(), true, 'and no other');
  breaker.finished('ok');
  assert.equal(refused(), false);
  assert.deepEqual(states, ['open', 'half-open', 'closed']);
});

test('a probe that fails opens it for longer, up to 600 ms', (t) => {
  t.after(() => mock.restoreAll());
  const { states, fail, refused, pass } = setUp();
  fail(20);
  for (let round = 0; round < 6; round += 1) {
    pass(1000);
    assert.equal(refused(), false, `round ${round}`);
    fail(1);
    assert.equal(refused(), true);
  }
  pass(600);
  assert.equal(refused(), false, '600 ms is the longest');
  assert.equal(states.filter((state) => state === 'open').length, 7);
});

test('failures among successes do not open it, whoever’s they are, nor do outcomes that say nothing of the token', (t) => {
  t.after(() => mock.restoreAll());
  const { breaker, states, fail, refused } = setUp();
  for (let round = 0; round < 20; round += 1) {
    fail(19);
    breaker.finished('ok');
  }
  for (let count = 0; count < 100; count += 1) {
    breaker.finished('HSM_BUSY');
    breaker.finished('DEADLINE_EXCEEDED');
    breaker.finished('INVALID_CIPHERTEXT');
  }
  assert.equal(refused(), false);
  assert.deepEqual(states, []);
});

test('a probe whose caller left makes room for the next', (t) => {
  t.after(() => mock.restoreAll());
  const { breaker, fail, refused, pass } = setUp();
  fail(20);
  pass(250);
  assert.equal(refused(), false);
  breaker.finished('CANCELLED');
  assert.equal(refused(), false);
});

test('a new process closes it, or lets one call through where those before it died soon', (t) => {
  t.after(() => mock.restoreAll());
  const { breaker, fail, refused } = setUp();
  fail(20);
  breaker.tokenReady({ doubtful: false });
  assert.deepEqual([refused(), refused()], [false, false]);
  breaker.tokenReady({ doubtful: true });
  assert.deepEqual([refused(), refused()], [false, true]);
});

test('waits are spread over their second half', () => {
  assert.equal(
    jittered(1000, () => 0),
    500,
  );
  assert.equal(
    jittered(1000, () => 1),
    1000,
  );
  const drawn = Array.from({ length: 200 }, () => jittered(1000));
  assert.ok(new Set(drawn).size > 50);
  assert.ok(drawn.every((ms) => ms >= 500 && ms <= 1000));
});

test('a call that is refused before it could reach the token does not use up the probe', async () => {
  let admitted = 0;
  const dispatcher = new Dispatcher({
    sessions: 1,
    acquireTimeoutMs: 1000,
    boundPerTenant: 1,
    idleSessionMs: 1000,
    budgets: { operation: 1000, generate: 1000, open: 1000 },
    clock: systemClock,
    events: ignoredTokenEvents,
    admit: () => {
      admitted += 1;
    },
    condemn: () => {},
  });
  const length = [Buffer.alloc(4)];
  const signal = AbortSignal.abort();
  await rejectsWith(dispatcher.submit('random', length, callOf('acme', { signal })), 'CANCELLED');
  await rejectsWith(dispatcher.submit('random', length, callOf('acme', { deadline: 1 })), 'DEADLINE_EXCEEDED');
  await rejectsWith(dispatcher.submit('random', [Buffer.alloc(5)], callOf()), 'TOO_LARGE');
  assert.equal(admitted, 0);
  const waits = rejectsWith(dispatcher.submit('random', length, callOf()), 'SHUTTING_DOWN');
  assert.equal(admitted, 1);
  dispatcher.rejectWaiting(() => new AgentError('SHUTTING_DOWN'));
  await waits;
});
