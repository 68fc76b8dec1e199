// Presences as notices: few, and none lost.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { presenceNames, presencesOf } from '../../../registry/store/notices.ts';

test('presences of many hosts become few notices that PostgreSQL takes, and come out of them as they were', () => {
  const rows = Array.from({ length: 1_000 }, (_, at) => {
    const host = `${'long-name-of-a-host-'.repeat(at % 12)}${at}`;
    return at % 3 === 0 ? { host, replica: undefined } : { host, replica: `r-${at % 3}` };
  });
  const names = presenceNames(rows);
  assert.ok(names.length < 40);
  assert.ok(names.every((name) => Buffer.byteLength(`presence ${name}`) < 8_000));
  const order = (all: readonly { host: string }[]) => [...all].sort((a, b) => (a.host < b.host ? -1 : 1));
  assert.deepEqual(order(names.flatMap(presencesOf)), order(rows));
  assert.deepEqual(presenceNames([]), []);
});
