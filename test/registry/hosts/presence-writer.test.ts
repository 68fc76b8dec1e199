// Presences of many hosts in few writes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PresenceWriter } from '../../../registry/hosts/presence-writer.ts';
import type { PresenceRow } from '../../../registry/hosts/store.ts';

const rowOf = (host: string, lastSeen = 1): PresenceRow => ({
  ...{ host, lastSeen, agentVersion: '', startedAt: 0, policies: [], catalogs: [], backlogs: [], parts: [] },
});

/** A store that writes when it is told to. */
const heldStore = () => {
  const writes: { readonly rows: readonly PresenceRow[]; done(): void; fail(cause: Error): void }[] = [];
  return {
    writes,
    putPresences: (rows: readonly PresenceRow[]): Promise<void> => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      writes.push({ rows, done: resolve, fail: reject });
      return promise;
    },
  };
};

test('what many hosts say while one write is under way goes with the next, the newest word of each', async () => {
  const store = heldStore();
  const writer = new PresenceWriter({ store, events: { presenceFailed: () => assert.fail('nothing failed') } });
  const first = writer.put(rowOf('h-0'));
  const rest = Array.from({ length: 400 }, (_, at) => writer.put(rowOf(`h-${at % 200}`, at)));
  assert.equal(store.writes.length, 1);
  store.writes[0]?.done();
  await first;
  assert.equal(store.writes.length, 2);
  const { rows = [], done } = store.writes[1] ?? {};
  assert.equal(rows.length, 200);
  assert.ok(rows.every(({ lastSeen }) => lastSeen >= 200));
  done?.();
  await Promise.all(rest);
  assert.equal(store.writes.length, 2);
});

test('a word does not wait for what is said after it', async () => {
  const store = heldStore();
  const writer = new PresenceWriter({ store, events: { presenceFailed: () => assert.fail('nothing failed') } });
  const first = writer.put(rowOf('h-1'));
  const second = writer.put(rowOf('h-2'));
  store.writes[0]?.done();
  await first;
  const third = writer.put(rowOf('h-3'));
  store.writes[1]?.done();
  await second;
  assert.deepEqual(store.writes[2]?.rows, [rowOf('h-3')]);
  store.writes[2]?.done();
  await third;
});

test('a write that fails is told for each of its hosts, and the next is made', async () => {
  const store = heldStore();
  const failed: string[] = [];
  const writer = new PresenceWriter({ store, events: { presenceFailed: ({ host }) => void failed.push(host) } });
  const first = writer.put(rowOf('h-1'));
  const second = writer.put(rowOf('h-2'));
  store.writes[0]?.fail(new Error('the disk is full'));
  await first;
  store.writes[1]?.done();
  await second;
  assert.deepEqual(failed, ['h-1']);
});
