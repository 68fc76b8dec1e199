import { test } from 'node:test';
import { killLoop } from '../agent/audit/kill.ts';

for (const durability of ['committed', 'flushed']) {
  test(`every acknowledged record (${durability}) is there after each of 100 kills`, async (t) => {
    await killLoop(t, { kills: 100, durability });
  });
}
