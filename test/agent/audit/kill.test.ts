import { test } from 'node:test';
import { killLoop, verifyBesideWriter } from './kill.ts';

for (const durability of ['committed', 'flushed']) {
  test(`every acknowledged record (${durability}) is there after kill -9, and the log verifies`, async (t) => {
    await killLoop(t, { kills: 6, durability });
  });
}

test('a store verifies from another process while its agent appends', async (t) => {
  await verifyBesideWriter(t, 10);
});
