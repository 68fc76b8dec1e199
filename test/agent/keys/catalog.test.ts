// The catalogue over a real LMDB folder: compare-and-set, order, durability, damage and full disks.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, type TestContext, test } from 'node:test';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { smallFileSystem } from '../../support/folder.ts';
import { aRecord, aVersion } from '../../support/key-records.ts';
import { changeStored, damageRecord, openWorld, type World } from './world.ts';

const ids = (world: World, tenant = 'acme', query = {}): readonly string[] =>
  world.keys.catalog.list(tenant, { limit: 1000, accept: () => true, ...query }).map((row) => row.keyId);

describe('the catalogue', () => {
  test('gives back what was stored, also after a restart, frozen', async (t) => {
    const world = openWorld(t);
    const record = aRecord({ labels: { team: 'pay' } });
    await world.keys.catalog.insert(record);
    assert.deepEqual(world.keys.catalog.get('acme', 'invoices'), record);
    assert.ok(Object.isFrozen(world.keys.catalog.get('acme', 'invoices')?.labels));
    await world.reopen('closed');
    assert.deepEqual(world.keys.catalog.get('acme', 'invoices'), record);
    assert.equal(world.keys.catalog.get('globex', 'invoices'), undefined);
    assert.equal(world.keys.catalog.get('acme', 'invoice'), undefined);
  });

  test('does not change with the object that was handed in', async (t) => {
    const world = openWorld(t);
    const labels: Record<string, string> = { team: 'pay' };
    await world.keys.catalog.insert(aRecord({ labels }));
    labels['team'] = 'other';
    assert.equal(world.keys.catalog.get('acme', 'invoices')?.labels['team'], 'pay');
  });

  test('refuses a second record with the same id', async (t) => {
    const world = openWorld(t);
    await world.keys.catalog.insert(aRecord());
    await assert.rejects(world.keys.catalog.insert(aRecord()), { code: 'KEY_EXISTS' });
  });

  test('replaces only the next revision: of two writers one wins', async (t) => {
    const world = openWorld(t);
    await world.keys.catalog.insert(aRecord());
    const next = (state: KeyRecord['state']) => world.keys.catalog.replace(aRecord({ state, revision: 2 }));
    const results = await Promise.allSettled([next('SUSPENDED'), next('REVOKED')]);
    assert.deepEqual(
      results.map((row) => (row.status === 'fulfilled' ? 'ok' : row.reason.code)),
      ['ok', 'KEY_CONFLICT'],
    );
    assert.equal(world.keys.catalog.get('acme', 'invoices')?.state, 'SUSPENDED');
    await assert.rejects(world.keys.catalog.replace(aRecord({ revision: 4 })), { code: 'KEY_CONFLICT' });
    await assert.rejects(world.keys.catalog.replace(aRecord({ keyId: 'none', revision: 2 })), { code: 'KEY_UNKNOWN' });
  });

  test('lists by key id within the tenant, by prefix and after an id', async (t) => {
    const world = openWorld(t);
    for (const keyId of ['b', 'a.b', 'a', 'a-b', 'c', 'a0', 'ab']) await world.keys.catalog.insert(aRecord({ keyId }));
    await world.keys.catalog.insert(aRecord({ tenant: 'acm', keyId: 'x' }));
    await world.keys.catalog.insert(aRecord({ tenant: 'acme-2', keyId: 'y' }));
    const sorted = ['a', 'a-b', 'a.b', 'a0', 'ab', 'b', 'c'];
    assert.deepEqual(ids(world), sorted);
    for (const [index, after] of sorted.entries())
      assert.deepEqual(ids(world, 'acme', { after }), sorted.slice(index + 1));
    assert.deepEqual(ids(world, 'acme', { prefix: 'a' }), sorted.slice(0, 5));
    assert.deepEqual(ids(world, 'acme', { prefix: 'a', after: 'a.b' }), ['a0', 'ab']);
    assert.deepEqual(ids(world, 'acme', { prefix: 'b', after: 'a' }), ['b']);
    assert.deepEqual(ids(world, 'acme', { prefix: 'zz' }), []);
    assert.deepEqual(ids(world, 'acme', { limit: 2, accept: (row: KeyRecord) => row.keyId !== 'a' }), ['a-b', 'a.b']);
    assert.deepEqual(ids(world, 'nobody'), []);
    await world.reopen('closed');
    assert.deepEqual(ids(world), sorted);
  });

  test('reports what it stored', async (t) => {
    const world = openWorld(t);
    await world.keys.catalog.insert(aRecord());
    const versions = [aVersion({ state: 'RETIRED' }), aVersion({ version: 2, tokenId: '11'.repeat(16) })];
    await world.keys.catalog.replace(aRecord({ versions, state: 'SUSPENDED', revision: 2 }));
    const key = { tenant: 'acme', keyId: 'invoices' };
    const made = { algorithm: 'AES-256', custody: 'hsm' };
    assert.deepEqual(world.events, [
      { name: 'created', event: { ...key, ...made } },
      { name: 'rotated', event: { ...key, version: 2, ...made } },
      { name: 'stateChanged', event: { ...key, from: 'ACTIVE', to: 'SUSPENDED' } },
    ]);
  });
});

describe('a damaged record', () => {
  const damaged = async (t: TestContext): Promise<World> => {
    const world = openWorld(t);
    for (const keyId of ['a', 'b', 'c']) await world.keys.catalog.insert(aRecord({ keyId }));
    await damageRecord(world, 'acme/b');
    await world.reopen();
    return world;
  };

  test('makes only that key unusable, and is reported', async (t) => {
    const world = await damaged(t);
    assert.throws(() => world.keys.catalog.get('acme', 'b'), { code: 'KEY_STATE' });
    assert.equal(world.keys.catalog.get('acme', 'a')?.keyId, 'a');
    assert.deepEqual(ids(world), ['a', 'c']);
    assert.deepEqual(
      world.seen('corruptRecord').map((row) => row['keyId']),
      ['b'],
    );
  });

  test('is never overwritten', async (t) => {
    const world = await damaged(t);
    await assert.rejects(world.keys.catalog.insert(aRecord({ keyId: 'b' })), { code: 'KEY_STATE' });
    await assert.rejects(world.keys.catalog.replace(aRecord({ keyId: 'b', revision: 2 })), { code: 'KEY_STATE' });
  });

  test('is noticed where it lies under another name', async (t) => {
    const world = openWorld(t);
    await world.keys.catalog.insert(aRecord({ keyId: 'a' }));
    await world.keys.catalog.insert(aRecord({ keyId: 'b' }));
    let bytes: Buffer = Buffer.alloc(0);
    await changeStored(world, 'acme/a', (value) => {
      bytes = value;
      return value;
    });
    await changeStored(world, 'acme/b', () => bytes);
    await world.reopen();
    assert.throws(() => world.keys.catalog.get('acme', 'b'), { code: 'KEY_STATE' });
    assert.equal(world.keys.catalog.get('acme', 'a')?.keyId, 'a');
  });
});

describe('a full disk', () => {
  test('refuses the change, leaves memory as it was, and takes changes again when there is space', async (t) => {
    const path = smallFileSystem(t, '512k');
    if (path === undefined) return t.skip('this process may not mount a file system');
    const world = openWorld(t, { path });
    const labels = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`label-${i}`, 'x'.repeat(255)]));
    let stored = 0;
    const fill = async (): Promise<void> => {
      for (; stored < 1000; stored += 1) await world.keys.catalog.insert(aRecord({ keyId: `k${stored}`, labels }));
    };
    await assert.rejects(fill(), { code: 'STORE_UNAVAILABLE' });
    assert.ok(stored > 5, `only ${stored} records fitted`);
    assert.equal(world.keys.catalog.get('acme', `k${stored}`), undefined);
    assert.equal(world.seen('storeFailed').length, 1);
    await assert.rejects(world.keys.catalog.insert(aRecord({ keyId: 'again', labels })), { code: 'STORE_UNAVAILABLE' });
    execFileSync('mount', ['-o', 'remount,size=4m', path]);
    await world.keys.catalog.insert(aRecord({ keyId: 'again', labels }));
    await world.reopen('closed');
    assert.equal(ids(world).length, stored + 1, 'every record that was acknowledged is there, and no other');
  });
});
