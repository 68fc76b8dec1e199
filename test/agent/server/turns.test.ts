// Work that is spread over turns of the event loop.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Turns } from '../../../agent/server/turns.ts';

const together = (turns: Turns, count: number): number[] => {
  const done: number[] = [];
  for (let number = 0; number < count; number += 1) {
    const wait = turns.take();
    if (wait === undefined) done.push(number);
    else void wait.then(() => done.push(number));
  }
  return done;
};

test('so many go at once, the others in the turns after, in order', async () => {
  const done = together(new Turns({ perTurn: 3 }), 8);
  assert.deepEqual(done, [0, 1, 2]);
  await nextTurn();
  assert.deepEqual(done, [0, 1, 2, 3, 4, 5]);
  await nextTurn();
  assert.deepEqual(done, [0, 1, 2, 3, 4, 5, 6, 7]);
});

test('what comes while others wait goes after them', async () => {
  const turns = new Turns({ perTurn: 2 });
  const done = together(turns, 4);
  await nextTurn();
  assert.equal(done.length, 4);
  const late = turns.take();
  assert.notEqual(late, undefined, 'this turn is used up');
  await late;
  assert.equal(turns.take(), undefined, 'and the next has room for one more');
});

test('a turn in which nothing came leaves no more for the next', async () => {
  const turns = new Turns({ perTurn: 2 });
  together(turns, 2);
  for (let turn = 0; turn < 4; turn += 1) await nextTurn();
  assert.deepEqual(together(turns, 3), [0, 1]);
});

test('callers that ask again at once never have more than their part of a turn', async () => {
  const turns = new Turns({ perTurn: 2 });
  let served = 0;
  const caller = async (): Promise<void> => {
    for (let call = 0; call < 5; call += 1) {
      await turns.take();
      served += 1;
    }
  };
  const all = Promise.all(Array.from({ length: 4 }, caller));
  let most = 0;
  for (let before = 0; before < 20; before = served) {
    await nextTurn();
    most = Math.max(most, served - before);
  }
  await all;
  assert.equal(served, 20);
  assert.ok(most <= 4, `${most} between two looks`); // a look may fall between two turns
});
