// Openings of streams are let in once and in their minute; shares of streams are given back once.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { createOpenings } from '../../../agent/identity/openings.ts';
import { openReplayMemory } from '../../../agent/identity/replay.ts';
import { createStreamSlots } from '../../../agent/identity/stream-slots.ts';
import { temporaryFolder } from '../../support/folder.ts';

const NOW = 1_800_000_000_000;
const refused = (about: RegExp) => ({ code: 'OPENING_REFUSED', message: about });

test('one opening is let in once, however many ask at the same time, and after a restart', async (t) => {
  const folder = temporaryFolder(t);
  const clock = { now: () => NOW };
  let replay = openReplayMemory({ folder, clock });
  const opening = { tenant: 'acme', principal: 'app', nonce: randomBytes(16), timestamp: NOW };
  const results = await Promise.allSettled([1, 2, 3].map(() => createOpenings({ replay, clock }).take(opening)));
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  await replay.close();
  replay = openReplayMemory({ folder, clock });
  t.after(() => replay.close());
  await assert.rejects(createOpenings({ replay, clock }).take(opening), refused(/used before/));
  // The same bytes of another caller, or other bytes of this one, are another opening.
  await createOpenings({ replay, clock }).take({ ...opening, principal: 'other' });
  await createOpenings({ replay, clock }).take({ ...opening, tenant: 'globex' });
  await createOpenings({ replay, clock }).take({ ...opening, nonce: randomBytes(16) });
});

test('an opening is let in within a minute of its time, and remembered for as long as it could be repeated', async (t) => {
  let now = NOW;
  const clock = { now: () => now };
  const replay = openReplayMemory({ folder: temporaryFolder(t), clock });
  t.after(() => replay.close());
  const openings = createOpenings({ replay, clock });
  const at = (timestamp: number) => ({ tenant: 'acme', principal: 'app', nonce: Buffer.alloc(16, 1), timestamp });
  for (const timestamp of [NOW - 60_001, NOW + 60_001, Number.NaN, Number.POSITIVE_INFINITY]) {
    await assert.rejects(openings.take(at(timestamp)), refused(/this minute/));
  }
  const early = at(NOW + 60_000);
  await openings.take(early);
  now = NOW + 120_000; // the last moment at which its time counts as now
  await replay.sweep();
  await assert.rejects(openings.take(early), refused(/used before/));
  now += 1;
  await assert.rejects(openings.take(early), refused(/this minute/));
});

test('a share is taken by tenant and given back once', () => {
  const slots = createStreamSlots({ perTenant: 2 });
  const leave = slots.enter('acme');
  slots.enter('acme');
  assert.throws(() => slots.enter('acme'), { code: 'OVERLOADED' });
  slots.enter('globex');
  leave();
  leave();
  slots.enter('acme');
  assert.throws(() => slots.enter('acme'), { code: 'OVERLOADED' });
});
