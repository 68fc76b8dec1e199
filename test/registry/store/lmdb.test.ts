// The embedded store passes the suite of stores, and keeps what it has taken.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openLmdbStore } from '../../../registry/store/lmdb/store.ts';
import { batchOf, registryStoreContract } from '../../contract/registry-store.ts';

const events = { failed: () => undefined, reconnected: () => undefined };

registryStoreContract('the store in LMDB', async () => {
  const path = await mkdtemp(join(tmpdir(), 'mortise-store-'));
  const store = openLmdbStore({ path, events });
  return {
    store,
    close: async () => {
      await store.close();
      await rm(path, { recursive: true });
    },
  };
});

test('the store in LMDB has after a new start what it had taken, and refuses work once closed', async () => {
  const path = await mkdtemp(join(tmpdir(), 'mortise-store-'));
  try {
    const first = openLmdbStore({ path, events });
    await first.insertTenant({ tenant: 'acme', displayName: 'A', createdAt: 1 });
    await first.close();
    await assert.rejects(first.tenant('acme'), { code: 'STORE_UNAVAILABLE' });
    const second = openLmdbStore({ path, events });
    assert.equal((await second.tenant('acme'))?.displayName, 'A');
    await second.close();
  } finally {
    await rm(path, { recursive: true });
  }
});

test('a store that the ledger has filled goes on revoking, and keeps all that it has taken', async () => {
  const path = await mkdtemp(join(tmpdir(), 'mortise-store-'));
  const failures: unknown[] = [];
  const told = { ...events, failed: ({ cause }: { cause: unknown }) => void failures.push(cause) };
  const store = openLmdbStore({ path, mapSizeBytes: 4 * 2 ** 20, events: told });
  try {
    const ledger = store.forTenant('acme', { kind: 'registry' });
    let append = batchOf(undefined, 'h/acme/1', [{}]);
    let taken = 0;
    const fill = async (): Promise<void> => {
      for (let batch = 0; batch < 1000; batch += 1) {
        await ledger.append(append);
        taken = append.log.size;
        append = batchOf(append.log, 'h/acme/1', Array(100).fill({}));
      }
    };
    await assert.rejects(fill(), { code: 'STORE_UNAVAILABLE' });
    assert.match(String(failures[0]), /reached its limit/);
    const row = { host: 'h', state: 'REVOKED', tenants: [], bringsCertificate: false, revision: 1 } as const;
    assert.equal(await store.change({ host: row }), true);
    assert.equal((await ledger.log('h/acme/1'))?.size, taken);
    assert.equal((await ledger.records({ origin: 'h/acme/1', from: taken - 1, limit: 9 })).length, 1);
  } finally {
    await store.close();
    await rm(path, { recursive: true });
  }
});
