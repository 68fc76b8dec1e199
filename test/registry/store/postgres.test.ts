// The store in PostgreSQL passes the suite of stores with two replicas, and the database itself keeps tenants apart.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { migrate } from '../../../registry/store/postgres/connections.ts';
import { openPostgresStore } from '../../../registry/store/postgres/store.ts';
import { registryStoreContract } from '../../contract/registry-store.ts';
import { RUNTIME_ROLE, startPostgres, type TestPostgres } from '../../support/postgres.ts';

const events = { failed: () => undefined, reconnected: () => undefined };
const WAIT_MS = 30_000;
let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

registryStoreContract('the store in PostgreSQL', async () => {
  const { url } = await postgres.database();
  const [store, replica] = await Promise.all([
    openPostgresStore({ url, events, connections: 8 }),
    openPostgresStore({ url, events, connections: 8 }),
  ]);
  return { store, replica, close: async () => void (await Promise.all([store.close(), replica.close()])) };
});

test('migrations run once though many replicas begin at the same time', async () => {
  const { ownerUrl, url } = await postgres.database({ migrated: false });
  await assert.rejects(openPostgresStore({ url, events }), { code: 'STORE_UNAVAILABLE', message: /migrate it first/ });
  await Promise.all(Array.from({ length: 5 }, () => migrate({ url: ownerUrl, runtimeRole: RUNTIME_ROLE })));
  await (await openPostgresStore({ url, events })).close();
});

test('no role that row-level security does not bind may run the registry', async () => {
  const { superUrl, ownerUrl } = await postgres.database();
  await assert.rejects(openPostgresStore({ url: superUrl, events }), { message: /superuser/ });
  await assert.rejects(openPostgresStore({ url: ownerUrl, events }), { message: /owns the tables/ });
});

test('the database shows no row of a tenant without that tenant set, and takes none for another', async () => {
  const { superUrl, ownerUrl, url } = await postgres.database();
  const store = await openPostgresStore({ url, events });
  const change = { revision: 1, entry: Buffer.from('e'), host: 'h', changedAt: 1 };
  await store.forTenant('acme', { kind: 'registry' }).change({ kind: 'key', name: 'k' }, () => change);
  const tables = await postgres.query(
    superUrl,
    `SELECT c.relname AS name, c.relrowsecurity AS secured, c.relforcerowsecurity AS forced FROM pg_class c
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
     WHERE c.relnamespace = 'mortise'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition`,
  );
  assert.equal(tables.length, 14);
  for (const { name, secured, forced } of tables) assert.ok(secured && forced, `${name} is not secured`);
  assert.equal((await postgres.query(superUrl, 'SELECT * FROM mortise.entries')).length, 1);
  for (const role of [url, ownerUrl]) {
    assert.deepEqual(await postgres.query(role, 'SELECT * FROM mortise.entries'), []);
    const other = "BEGIN; SELECT set_config('mortise.tenant', 'other', true); SELECT * FROM mortise.entries";
    assert.deepEqual(await postgres.query(role, other), []);
  }
  const insert = `BEGIN; SELECT set_config('mortise.tenant', 'other', true);
    INSERT INTO mortise.positions VALUES ('acme', 9, '')`;
  await assert.rejects(postgres.query(url, insert), /row-level security/);
  for (const text of ['DELETE FROM mortise.records', "UPDATE mortise.records SET mac = ''"]) {
    await assert.rejects(postgres.query(url, text), /permission denied/);
  }
  await assert.rejects(postgres.query(url, 'SELECT * FROM mortise.records_0'), /permission denied/);
  await store.close();
});

test('after the connection that listens was cut, listeners are told to look again', async () => {
  const { superUrl, url } = await postgres.database();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error('the store did not listen again in time')), WAIT_MS);
  const store = await openPostgresStore({ url, events: { ...events, reconnected: () => resolve() } });
  await store.insertTenant({ tenant: 'acme', displayName: '', createdAt: 1 });
  const told = new Set<string>();
  store.watchCatalog((tenant) => told.add(tenant));
  const cut = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'LISTEN%'`;
  assert.equal((await postgres.query(superUrl, cut)).length, 1);
  await promise;
  clearTimeout(timer);
  await new Promise(setImmediate);
  assert.deepEqual([...told], ['acme']);
  await store.close();
});
