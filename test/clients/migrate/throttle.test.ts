// How a campaign gives way: a model agent with a known number of workers and live traffic of its own, on a clock of the
// test's, shows what the campaign takes and what is left to the others.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, Throttle } from '../../../clients/cli/migrate/throttle.ts';

const never = new AbortController().signal;

/** Time that passes only when somebody waits. */
class TestClock implements Clock {
  time = 0;
  readonly waits: number[] = [];

  now(): number {
    return this.time;
  }

  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (ms <= 0) return;
    this.waits.push(ms);
    this.time += ms;
  }
}

/** One call after the other, each as long as `latency` says; answers how long all of it took. */
const callOneByOne = async (
  throttle: Throttle,
  clock: TestClock,
  count: number,
  latency: () => number,
): Promise<number> => {
  const start = clock.time;
  for (let at = 0; at < count; at += 1) {
    await throttle.take(never);
    const ms = latency();
    clock.time += ms;
    throttle.done('jwe', ms);
    throttle.release();
  }
  return clock.time - start;
};
const aThrottle = (concurrency = 8, rate?: number): { throttle: Throttle; clock: TestClock } => {
  const clock = new TestClock();
  return { clock, throttle: new Throttle({ clock, limits: { concurrency, rate } }) };
};

test('begins with one call at a time and takes more while latencies stay near the best', async () => {
  const { throttle, clock } = aThrottle();
  assert.equal(throttle.allowed, 1);
  await callOneByOne(throttle, clock, 40, () => 10);
  assert.equal(throttle.allowed, 8);
  assert.deepEqual(clock.waits, [], 'an idle agent is not rested');
});

test('takes fewer when latencies grow, and then rests between calls, up to twenty times their length', async () => {
  const { throttle, clock } = aThrottle();
  await callOneByOne(throttle, clock, 40, () => 10);
  await callOneByOne(throttle, clock, 20, () => 40);
  assert.equal(throttle.allowed, 1);
  const [calls, ms] = [50, 40];
  const took = await callOneByOne(throttle, clock, calls, () => ms);
  const share = (calls * ms) / took;
  assert.ok(share < 0.5, `the campaign still takes ${share} of one caller's share`);
  assert.ok(share > 1 / 25, `the campaign starves with ${share}`);
});

test('comes back when latencies fall', async () => {
  const { throttle, clock } = aThrottle();
  await callOneByOne(throttle, clock, 40, () => 10);
  await callOneByOne(throttle, clock, 60, () => 50);
  assert.equal(throttle.allowed, 1);
  await callOneByOne(throttle, clock, 80, () => 10);
  assert.equal(throttle.allowed, 8);
});

test('jitter within twice the best changes nothing', async () => {
  const { throttle, clock } = aThrottle();
  let at = 0;
  await callOneByOne(throttle, clock, 100, () => [10, 14, 18, 12][at++ % 4] as number);
  assert.equal(throttle.allowed, 8);
  assert.deepEqual(clock.waits, []);
});

test('a busy agent halves it at once, and is left alone for as long as it asks, longer each time', async () => {
  const { throttle, clock } = aThrottle();
  await callOneByOne(throttle, clock, 40, () => 10);
  assert.equal(throttle.busy(undefined), 100);
  assert.equal(throttle.allowed, 4);
  assert.equal(throttle.busy(undefined), 200);
  assert.equal(throttle.busy(7000), 7000, 'the agent knows better');
  for (let at = 0; at < 10; at += 1) throttle.busy(undefined);
  assert.equal(throttle.busy(undefined), 5000, 'not for ever');
  assert.equal(throttle.allowed, 1);
  const before = clock.time;
  await throttle.take(never);
  assert.ok(clock.time - before >= 5000, 'new files wait too');
});

test('no more files a second than the rate', async () => {
  const { throttle, clock } = aThrottle(8, 20);
  const took = await callOneByOne(throttle, clock, 100, () => 1);
  assert.ok(took >= 99 * 50, `${took} ms for 100 files`);
  assert.ok(took <= 101 * 50 + 100, `${took} ms for 100 files`);
});

test('no more at a time than it allows; one that ends lets the next one in', async () => {
  const { throttle } = aThrottle(1);
  await throttle.take(never);
  let isIn = false;
  const next = throttle.take(never).then(() => {
    isIn = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isIn, false);
  throttle.release();
  await next;
  assert.equal(isIn, true);
});

test('a wait that is broken off gives its place back', async () => {
  const { throttle } = aThrottle(1);
  await assert.rejects(throttle.take(AbortSignal.abort()), { name: 'AbortError' });
  await throttle.take(never);
});
