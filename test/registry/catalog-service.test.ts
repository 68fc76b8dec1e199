// The catalogue over TLS: what one host puts, the others watch; who waits for hosts learns who is missing.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { encodeKeyRecord } from '../../proto/documents/key-record-parse.ts';
import type { CatalogPosition } from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { CatalogServiceService as catalog } from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { HostsServiceService } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { aRecord } from '../support/key-records.ts';
import { duplex, refusedWith, serverStream, unary } from '../support/registry-client.ts';
import { aHeartbeat } from '../support/registry-messages.ts';
import { startTestRegistry, type TestRegistry } from '../support/registry-server.ts';

const NOTHING = Buffer.alloc(0);

const put = (client: ReturnType<TestRegistry['connect']>, revision: number, change: object = {}) => {
  const value = encodeKeyRecord(aRecord({ tenant: 'acme', keyId: 'orders', revision, ...change }));
  const entry = { tenant: 'acme', entry: { $case: 'keyRecord' as const, value } };
  return unary(client, catalog.putEntry, { entry, expectedRevision: BigInt(revision - 1), correlationId: '' });
};

const from = (at?: CatalogPosition) => ({
  from: [at ?? { tenant: 'acme', position: 0n, head: NOTHING }],
  rebuilds: {},
});

test('what one host puts arrives at the watch of another, on another replica, behind a snapshot', async (t) => {
  const one = await startTestRegistry(t);
  const two = await startTestRegistry(t, { replicaOf: one });
  const writer = one.connect(await one.host('web-1', ['acme']));
  const { at: first } = await put(writer, 1);
  const reader = two.connect(await one.host('web-2', ['acme']));
  const watch = serverStream(reader, catalog.watchCatalog, from());
  const snapshot = await watch.next();
  assert.deepEqual([snapshot.snapshotBegin, snapshot.snapshotComplete, snapshot.changes.length], [true, true, 1]);
  assert.deepEqual(snapshot.at, first);
  const { at: second } = await put(writer, 2, { labels: { team: 'blue' } });
  const news = await watch.next();
  assert.deepEqual([news.at, news.changes[0]?.host, news.changes[0]?.at], [second, 'web-1', second]);
  watch.cancel();
  const again = serverStream(reader, catalog.watchCatalog, from(second));
  const upToDate = await again.next();
  assert.deepEqual([upToDate.snapshotComplete, upToDate.changes, upToDate.at], [true, [], second]);
  again.cancel();
});

test('the same bytes once more are answered as the first time; anything else is a conflict', async (t) => {
  const registry = await startTestRegistry(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const first = await put(client, 1);
  assert.deepEqual(await put(client, 1), first);
  await assert.rejects(put(client, 1, { labels: { a: 'b' } }), refusedWith('KEY_EXISTS'));
  await assert.rejects(put(client, 3), refusedWith('KEY_CONFLICT'));
  const nothing = { tenant: 'acme', entry: undefined };
  const empty = unary(client, catalog.putEntry, { entry: nothing, expectedRevision: 0n, correlationId: '' });
  await assert.rejects(empty, refusedWith('RECORD_INVALID'));
});

test('a position that the registry does not have, or has with another head, is told as rewound', async (t) => {
  const registry = await startTestRegistry(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const { at } = await put(client, 1);
  for (const asked of [
    { tenant: 'acme', position: 9n, head: randomBytes(32) },
    { tenant: 'acme', position: 1n, head: randomBytes(32) },
  ]) {
    const watch = serverStream(client, catalog.watchCatalog, from(asked));
    const { rewound } = await watch.next();
    assert.deepEqual(rewound, { registry: at, asked });
    watch.cancel();
  }
});

test('who waits for hosts sees the missing ones by name until the last has applied the position', async (t) => {
  const registry = await startTestRegistry(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const other = registry.connect(await registry.host('web-2', ['acme']));
  await registry.host('web-3', ['globex']);
  const { at } = await put(client, 1);
  const position = at?.position ?? 0n;
  const wait = serverStream(client, catalog.waitForHosts, { tenant: 'acme', position });
  const state = async () => {
    const { applied, missing } = await wait.next();
    return [applied, missing.map(({ host, connected }) => `${host}${connected ? ' connected' : ''}`)];
  };
  assert.deepEqual(await state(), [[], ['web-1', 'web-2']]);
  const [first, second] = [client, other].map((each) => duplex(each, HostsServiceService.heartbeat));
  first?.write(aHeartbeat({ catalogs: [{ tenant: 'acme', position }] }));
  assert.deepEqual(await state(), [['web-1'], ['web-2']]);
  second?.write(aHeartbeat({ catalogs: [{ tenant: 'acme', position: 0n }] }));
  assert.deepEqual(await state(), [['web-1'], ['web-2 connected']]);
  second?.write(aHeartbeat({ catalogs: [{ tenant: 'acme', position }] }));
  assert.deepEqual(await state(), [['web-1', 'web-2'], []]);
  assert.equal(await wait.end, 'ok');
  first?.cancel();
  second?.cancel();
});

test('a drain tells hosts to go, ends every stream with SHUTTING_DOWN, and refuses new calls', async (t) => {
  const registry = await startTestRegistry(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const heartbeat = duplex(client, HostsServiceService.heartbeat);
  heartbeat.write(aHeartbeat());
  await heartbeat.next();
  const watch = serverStream(client, catalog.watchCatalog, from());
  await watch.next();
  const closed = registry.registry[Symbol.asyncDispose]();
  assert.equal((await heartbeat.next()).command?.$case, 'goAway');
  assert.deepEqual(await Promise.all([heartbeat.end, watch.end]), ['SHUTTING_DOWN', 'SHUTTING_DOWN']);
  await closed;
  await assert.rejects(put(client, 1));
});
