// What a worker says of its time: computed, starved of a processor, or waiting for a device.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Costs } from '../../../agent/token/costs.ts';
import { Computing, type ThreadTimes, threadTimes } from '../../../agent/token/process/computing.ts';

/** What a call of a millisecond is said to be made of, by a thread of which the kernel counts so much for each. */
const sharesOf = (each: ThreadTimes): ThreadTimes => {
  const kernel = { computed: 0, starved: 0 };
  const computing = new Computing(() => ({ ...kernel }));
  for (let call = 0; call < 100; call += 1) {
    kernel.computed += each.computed;
    kernel.starved += each.starved;
    computing.of(1000);
  }
  return computing.of(1000);
};

test('a thread that waits for a processor is told from one that waits for a device', () => {
  assert.deepEqual(sharesOf({ computed: 950, starved: 0 }), { computed: 950, starved: 0 }, 'a library that computes');
  assert.deepEqual(sharesOf({ computed: 40, starved: 10 }), { computed: 40, starved: 10 }, 'a device');
  assert.deepEqual(
    sharesOf({ computed: 200, starved: 800 }),
    { computed: 200, starved: 800 },
    'five for one processor',
  );
  assert.deepEqual(sharesOf({ computed: 900, starved: 400 }), { computed: 600, starved: 400 }, 'more than there was');
});

test('sessions that take the processors from each other do not bring more sessions', () => {
  const costs = new Costs({ processors: 2 });
  const micros = 2700; // of ten sessions for two processors
  const { computed, starved } = sharesOf({ computed: 200, starved: 800 });
  for (let call = 0; call < 200; call += 1) {
    costs.learn('sign RS256', (micros * (1000 - starved)) / 1000, (micros * computed) / 1000);
  }
  assert.equal(costs.sessions(10), 2);
});

test('the kernel tells the times of this very thread, and processor time alone where it has no more', () => {
  const before = threadTimes();
  const until = process.threadCpuUsage().user + 20_000;
  while (process.threadCpuUsage().user < until);
  const after = threadTimes();
  assert.ok(after.computed - before.computed >= 15_000, `${after.computed - before.computed} µs`);
  assert.ok(after.starved >= before.starved);
  const without = threadTimes('/nowhere');
  assert.equal(without.starved, 0);
  assert.ok(without.computed > 0);
});
