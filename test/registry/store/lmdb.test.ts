// The embedded store passes the suite of stores, and keeps what it has taken.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openLmdbStore } from '../../../registry/store/lmdb/store.ts';
import { registryStoreContract } from '../../contract/registry-store.ts';

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
