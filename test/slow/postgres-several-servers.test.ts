// The schema spread over two PostgreSQL servers by what PostgreSQL itself has: the half of the ledger's parts are foreign
// tables (postgres_fdw) on another server. The same suite runs on it as on one server.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPostgresStore } from '../../registry/store/postgres/store.ts';
import { batchOf, registryStoreContract } from '../contract/registry-store.ts';
import { startPostgres, type TestDatabase, type TestPostgres } from '../support/postgres.ts';

const events = { failed: () => undefined, reconnected: () => undefined };
const PARTS = Array.from({ length: 16 }, (_, part) => part);
let near: TestPostgres;
let far: TestPostgres;
before(async () => {
  [near, far] = await Promise.all([startPostgres(), startPostgres()]);
});
after(async () => {
  await Promise.all([near, far].map((server) => server?.[Symbol.asyncDispose]()));
});

/** What an administrator of the databases does: the odd parts go to the far server. No part may have rows yet. */
const spread = (farUrl: string): string => {
  const { username, hostname, pathname } = new URL(farUrl);
  const server = `host '${decodeURIComponent(hostname)}', dbname '${pathname.slice(1)}', batch_size '256', fetch_size '5000'`;
  return `
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (${server});
    CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user '${username}', password_required 'false');
    -- PostgreSQL does not check row-level security where an insert is routed to a foreign part; a trigger does.
    CREATE FUNCTION mortise.of_the_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.tenant_id IS DISTINCT FROM current_setting('mortise.tenant', true) THEN
        RAISE EXCEPTION 'new row violates row-level security: it is of another tenant';
      END IF;
      RETURN NEW;
    END $$;
    -- A partitioned table with a unique index takes no foreign parts: each part has its own.
    ALTER TABLE mortise.records DROP CONSTRAINT records_pkey;
    ${PARTS.map((part) =>
      part % 2 === 0
        ? `ALTER TABLE mortise.records_${part} ADD PRIMARY KEY (tenant_id, origin, idx);`
        : `DROP TABLE mortise.records_${part};
           CREATE FOREIGN TABLE mortise.records_${part} PARTITION OF mortise.records
             FOR VALUES WITH (MODULUS 16, REMAINDER ${part})
             SERVER far OPTIONS (schema_name 'mortise', table_name 'records_${part}');
           CREATE TRIGGER of_the_tenant BEFORE INSERT ON mortise.records_${part}
             FOR EACH ROW EXECUTE FUNCTION mortise.of_the_tenant();`,
    ).join('\n')}`;
};

const makeSpread = async (): Promise<{ readonly here: TestDatabase; readonly there: TestDatabase }> => {
  const [here, there] = await Promise.all([near.database(), far.database()]);
  await near.query(here.superUrl, spread(there.ownerUrl));
  return { here, there };
};

registryStoreContract('the store over two PostgreSQL servers', async () => {
  const { url } = (await makeSpread()).here;
  const [store, replica] = await Promise.all([
    openPostgresStore({ url, events, connections: 8 }),
    openPostgresStore({ url, events, connections: 8 }),
  ]);
  return { store, replica, close: async () => void (await Promise.all([store.close(), replica.close()])) };
});

test('row-level security of the near server holds for the records on the far one', async () => {
  const { here, there } = await makeSpread();
  const insert = (tenant: string): string => `BEGIN; SELECT set_config('mortise.tenant', '${tenant}', true);
    INSERT INTO mortise.records SELECT '${tenant}', 'o', 0, '', '', 0, 'h', 'e', 't', 'k', 'k', 'p', 'o', 'ok', 'c'; COMMIT`;
  const tenants = Array.from({ length: 12 }, (_, at) => `tenant-${at}`);
  for (const tenant of tenants) await near.query(here.url, insert(tenant));
  const counts = await Promise.all([
    near.query(here.superUrl, 'SELECT * FROM mortise.records'),
    far.query(there.superUrl, 'SELECT * FROM mortise.records'),
  ]);
  const [all, onFar] = counts.map((rows) => rows.length) as [number, number];
  assert.equal(all, tenants.length);
  assert.ok(onFar > 0 && onFar < all, `${onFar} of ${all} records are on the far server`);
  assert.deepEqual(await near.query(here.url, 'SELECT * FROM mortise.records'), []);
  for (const tenant of tenants) {
    const seen = `BEGIN; SELECT set_config('mortise.tenant', '${tenant}', true); SELECT tenant_id FROM mortise.records`;
    assert.deepEqual(await near.query(here.url, seen), [{ tenant_id: tenant }]);
  }
  for (const tenant of tenants) {
    const another = `BEGIN; SELECT set_config('mortise.tenant', 'another', true);
      INSERT INTO mortise.records SELECT '${tenant}', 'o', 1, '', '', 0, 'h', 'e', 't', 'k', 'k', 'p', 'o', 'ok', 'c'`;
    await assert.rejects(near.query(here.url, another), /row-level security/, tenant);
  }
  for (const text of ['DELETE FROM mortise.records', "UPDATE mortise.records SET mac = ''"]) {
    await assert.rejects(near.query(here.url, text), /permission denied/);
  }
  await assert.rejects(near.query(here.url, 'SELECT * FROM mortise.records_1'), /permission denied/);
});

test('without the far server the tenants whose ledger is there wait, and all others go on', async () => {
  const { url } = (await makeSpread()).here;
  const store = await openPostgresStore({ url, events });
  const append = (tenant: string) =>
    store.forTenant(tenant, { kind: 'registry' }).append(batchOf(undefined, `h/${tenant}/1`, [{ key: 'k/1' }]));
  const tenants = Array.from({ length: 12 }, (_, at) => `tenant-${at}`);
  await far[Symbol.asyncDispose]();
  const codes = await Promise.all(
    tenants.map((tenant) =>
      append(tenant).then(
        () => 'ok',
        ({ code }) => code,
      ),
    ),
  );
  assert.deepEqual([...new Set(codes)].sort(), ['STORE_UNAVAILABLE', 'ok']);
  await store.check();
  await store.close();
});
