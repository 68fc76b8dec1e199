// How far ahead sessions are handed calls, and how long their workers hold answers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Costs } from '../../../agent/token/costs.ts';
import { Pace } from '../../../agent/token/pace.ts';
import { openToken } from '../../../agent/token/token.ts';
import { callOf } from '../../contract/token.ts';
import { makeSoftHsm } from '../../support/softhsm.ts';
import { captureChannels, recordTokenEvents, softHsmOptions } from '../../support/token.ts';

const SHARED_FOR_MS = 1000;

const paceOf = (micros: number, computing: number) => {
  const costs = new Costs({ processors: 2 });
  for (let round = 0; round < 200; round += 1) costs.learn('sign ES256', micros, computing);
  const clock = { now: 0 };
  const pace = new Pace({ costs, now: () => clock.now });
  pace.came('alone');
  return { pace, clock };
};

test('depth follows what calls take, and whether this host computes them or waits', () => {
  const learned = (micros: number, computing: number): number => paceOf(micros, computing).pace.of(1).depth;
  assert.equal(learned(40, 38), 32, 'short and computed');
  assert.equal(learned(600, 590), 7, 'long and computed');
  assert.equal(learned(5000, 4900), 2, 'very long and computed: hardly anything ahead');
  assert.equal(learned(90, 15), 32, 'a near device');
  assert.equal(learned(2000, 20), 2, 'a far device');
  assert.equal(learned(1200, 590), 2, 'what waits for most of its time');
});

test('answers are held for a part of what a session has to do, within bounds, and never for a device', () => {
  const { pace } = paceOf(540, 530);
  assert.deepEqual(pace.of(1), { depth: 8, holdMicros: 2500 }, 'few in flight');
  assert.deepEqual(pace.of(32), { depth: 13, holdMicros: 4000 }, 'a quarter of 32 calls');
  assert.deepEqual(pace.of(1000), { depth: 17, holdMicros: 5000 }, 'the most');
  assert.equal(paceOf(40, 38).pace.of(1000).depth, 32, 'never deeper than that');
  assert.deepEqual(paceOf(2000, 20).pace.of(1000), { depth: 2, holdMicros: 1000 }, 'a device');
});

test('another tenant ends the long holding at once, the agent itself does not, and it comes back when the other is gone', () => {
  const { pace, clock } = paceOf(540, 530);
  const shared = { depth: 8, holdMicros: 2500 };
  pace.came('_platform');
  assert.equal(pace.of(1000).holdMicros, 5000);
  pace.came('other');
  assert.deepEqual(pace.of(1000), shared);
  clock.now = SHARED_FOR_MS - 1;
  pace.came('other');
  assert.deepEqual(pace.of(1000), shared);
  clock.now = SHARED_FOR_MS;
  assert.equal(pace.of(1000).holdMicros, 5000, 'the other tenant has it alone');
  pace.came('alone');
  assert.deepEqual(pace.of(1000), shared);
});

test('a worker holds answers while more questions wait, eight at most, and none when nothing waits', {
  timeout: 60_000,
}, async (t) => {
  t.mock.method(Pace.prototype, 'of', () => ({ depth: 32, holdMicros: 3_600_000_000 }));
  const sockets = captureChannels(t);
  await using hsm = await makeSoftHsm();
  await using token = await openToken({ ...softHsmOptions(hsm, recordTokenEvents().events), sessions: 1 });
  const { tokenId } = await token.generate({ algorithm: 'EC-P256', purpose: 'sign', label: 'pace' }, callOf());
  const sign = (): Promise<Buffer> => token.sign(tokenId, 'ES256', Buffer.alloc(32, 1), callOf());
  await sign();
  let chunks = 0;
  sockets.get(0)?.on('data', () => {
    chunks += 1;
  });
  await Promise.all(Array.from({ length: 20 }, sign)); // would wait for an hour if the last four were held
  assert.ok(chunks >= 1 && chunks <= 3, `20 answers came in ${chunks} pieces`);
});
