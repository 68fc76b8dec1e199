// What somebody can do who writes the key store but does not have the token: nothing but take keys away. Real LMDB
// edits; every edit also repairs whatever needs no key.
import assert from 'node:assert/strict';
import { createHash, createSecretKey, randomBytes } from 'node:crypto';
import { cpSync } from 'node:fs';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { openKeys } from '../../../agent/keys/keys.ts';
import { Seals } from '../../../agent/keys/seals.ts';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { FakeToken } from '../../fakes/token.ts';
import { temporaryFolder } from '../../support/folder.ts';
import { aRecord, aVersion } from '../../support/key-records.ts';
import { TEST_SEALING_KEY } from '../../support/sealing-key.ts';
import { changeStored, openWorld, readStored, type World } from './world.ts';

const MAC_BYTES = 32;

/** Two keys of acme, `target` revoked after it was active, and `other` active. */
const twoKeys = async (t: TestContext, target: Partial<KeyRecord> = {}): Promise<World> => {
  const world = openWorld(t);
  await world.keys.catalog.insert(aRecord({ keyId: 'other', versions: [aVersion({ tokenId: '22'.repeat(16) })] }));
  await world.keys.catalog.insert(aRecord({ keyId: 'target', ...target }));
  return world;
};

const revoke = (world: World): Promise<void> => {
  const { stateBefore: _, ...record } = world.keys.catalog.get('acme', 'target') as KeyRecord;
  return world.keys.catalog.replace({ ...record, state: 'REVOKED', revision: record.revision + 1 });
};

/** Edits the record as text, with the checksum that needs no key. */
const editRecord = (world: World, edit: (record: Record<string, unknown>) => void): Promise<void> =>
  changeStored(world, 'acme/target', (bytes) => {
    const record = JSON.parse(bytes.subarray(MAC_BYTES).toString());
    edit(record);
    const value = Buffer.from(JSON.stringify(record));
    return Buffer.concat([createHash('sha256').update(value).digest(), value]);
  });

/** `target` cannot be used or made again, it is told, and `other` works. */
const onlyTargetIsLost = async (world: World, problem: RegExp): Promise<void> => {
  await world.reopen();
  assert.throws(() => world.keys.catalog.get('acme', 'target'), { code: 'KEY_STATE' });
  await assert.rejects(world.keys.catalog.insert(aRecord({ keyId: 'target' })), { code: 'KEY_STATE' });
  const told = world.seen('corruptRecord');
  assert.deepEqual(
    told.map((row) => row['keyId']),
    ['target'],
  );
  assert.match(String(told[0]?.['problem']), problem);
  assert.deepEqual(world.keys.health(), { ok: true, damaged: 1 });
  const other = world.keys.catalog.get('acme', 'other') as KeyRecord;
  assert.equal(other.state, 'ACTIVE');
  assert.equal(await world.keys.catalog.use(other), 1);
  await world.keys.catalog.replace({ ...other, revision: other.revision + 1 });
  await world.keys.catalog.insert(aRecord({ keyId: 'third' }));
};

describe('a record that was edited', () => {
  const edits: Readonly<Record<string, (record: Record<string, unknown>) => void>> = {
    'from REVOKED to ACTIVE': (record) => {
      record['state'] = 'ACTIVE';
    },
    'to a higher limit': (record) => {
      record['limits'] = { hardUses: 1_000_000 };
    },
    'to a wider grant': (record) => {
      record['grants'] = [{ principal: 'mallory', operations: ['sign'] }];
    },
    "to another key's token object": (record) => {
      record['versions'] = [{ ...(record['versions'] as object[])[0], tokenId: '22'.repeat(16) }];
    },
  };
  for (const [name, edit] of Object.entries(edits)) {
    test(`${name} makes only its key unusable, and is told`, async (t) => {
      const world = await twoKeys(t, { limits: { hardUses: 5 } });
      await revoke(world);
      await editRecord(world, edit);
      await onlyTargetIsLost(world, /altered/);
    });
  }

  test('is found with one bit anywhere changed', async (t) => {
    const world = await twoKeys(t);
    const bytes = await readStored(world, 'acme/target');
    for (const at of [0, MAC_BYTES - 1, MAC_BYTES, bytes.length >> 1, bytes.length - 1]) {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] as number) ^ 1;
      await changeStored(world, 'acme/target', () => flipped);
      await world.reopen();
      assert.throws(() => world.keys.catalog.get('acme', 'target'), { code: 'KEY_STATE' }, `byte ${at}`);
    }
    await changeStored(world, 'acme/target', () => bytes);
    await world.reopen();
    assert.equal(world.keys.catalog.get('acme', 'target')?.keyId, 'target', 'the bytes as they were are good again');
  });

  test('is found where it is shorter than a MAC', async (t) => {
    const world = await twoKeys(t);
    await changeStored(world, 'acme/target', () => Buffer.from('{}'));
    await onlyTargetIsLost(world, /altered/);
  });
});

describe('a row that was moved', () => {
  test('to another key is found', async (t) => {
    const world = await twoKeys(t);
    const other = await readStored(world, 'acme/other');
    await changeStored(world, 'acme/target', () => other);
    await onlyTargetIsLost(world, /altered, or copied/);
  });

  test('to another table is found', async (t) => {
    const world = await twoKeys(t);
    await world.keys.catalog.use(world.keys.catalog.get('acme', 'other') as KeyRecord);
    const record = await readStored(world, 'acme/target');
    await changeStored(world, 'acme/other/1', () => record, 'uses');
    await world.reopen();
    assert.equal(world.keys.catalog.uses('acme', 'other'), Number.MAX_SAFE_INTEGER);
    assert.match(String(world.seen('corruptRecord')[0]?.['problem']), /use count.*altered/);
    assert.equal(world.keys.catalog.get('acme', 'target')?.keyId, 'target');
  });

  test('to a key that never was makes no key', async (t) => {
    const world = await twoKeys(t);
    const record = await readStored(world, 'acme/target');
    await changeStored(world, 'globex/target', () => record);
    await world.reopen();
    assert.throws(() => world.keys.catalog.get('globex', 'target'), { code: 'KEY_STATE' });
    assert.match(String(world.seen('corruptRecord')[0]?.['problem']), /not written by this agent/);
  });
});

describe('a row that was taken back', () => {
  test('from REVOKED to its own authentic ACTIVE is found', async (t) => {
    const world = await twoKeys(t);
    const active = await readStored(world, 'acme/target');
    await world.reopen();
    await revoke(world);
    await changeStored(world, 'acme/target', () => active);
    await onlyTargetIsLost(world, /older/);
  });

  test('is found beside a damaged row, which makes nothing else doubtful', async (t) => {
    const world = await twoKeys(t);
    const active = await readStored(world, 'acme/target');
    await world.reopen();
    await revoke(world);
    await changeStored(world, 'acme/target', () => active);
    await changeStored(world, 'acme/other', () => Buffer.from('sacrificed'));
    await world.reopen();
    for (const keyId of ['target', 'other']) {
      assert.throws(() => world.keys.catalog.get('acme', keyId), { code: 'KEY_STATE' });
    }
    assert.deepEqual(world.keys.health(), { ok: true, damaged: 2 });
  });

  test('with its part of the index, but not the rest, opens no key at all', async (t) => {
    const world = await twoKeys(t);
    const copy = temporaryFolder(t);
    await world.keys.close();
    cpSync(world.path, copy, { recursive: true });
    await world.reopen();
    await revoke(world);
    const older = openWorld(t, { path: copy });
    const record = await readStored(older, 'acme/target');
    const buckets: [string, Buffer][] = [];
    for (let at = 0; at < 128; at += 1)
      buckets.push([`bucket/${at}`, await readStored(older, `bucket/${at}`, 'seals')]);
    await changeStored(world, 'acme/target', () => record);
    for (const [name, bytes] of buckets) {
      await changeStored(world, name, () => (bytes.length === 0 ? undefined : bytes), 'seals');
    }
    await assert.rejects(world.reopen(), { code: 'STORE_UNAVAILABLE', message: /part \d+ of the index/ });
    assert.deepEqual(world.keys.health(), { ok: false, damaged: 0 });
    assert.equal(world.keys.catalog.get('acme', 'other'), undefined, 'nothing was loaded');
  });

  test('together with everything else is not found: only evidence kept elsewhere tells', async (t) => {
    const world = await twoKeys(t);
    const copy = temporaryFolder(t);
    await world.keys.close();
    cpSync(world.path, copy, { recursive: true });
    await world.reopen();
    await revoke(world);
    const older = openWorld(t, { path: copy });
    assert.equal(older.keys.catalog.get('acme', 'target')?.state, 'ACTIVE');
    assert.deepEqual(older.keys.health(), { ok: true, damaged: 0 });
  });
});

describe('a row that was removed', () => {
  test('is found, and its name is not given to a new key', async (t) => {
    const world = await twoKeys(t);
    await changeStored(world, 'acme/target', () => undefined);
    await onlyTargetIsLost(world, /removed/);
  });

  for (const [how, change] of [
    ['removed', () => undefined],
    ['set back to an older count', (_: Buffer, older: Buffer) => older],
  ] as const) {
    test(`as a use count that was ${how} gives no further uses`, async (t) => {
      const world = await twoKeys(t, { limits: { hardUses: 1000 } });
      const use = () => world.keys.catalog.use(world.keys.catalog.get('acme', 'target') as KeyRecord);
      await use();
      const older = await readStored(world, 'acme/target/1', 'uses');
      await world.reopen();
      for (let made = 0; made < 200; made += 1) await use();
      await changeStored(world, 'acme/target/1', (bytes) => change(bytes, older), 'uses');
      await world.reopen();
      await assert.rejects(use(), { code: 'KEY_LIMIT' });
      assert.equal(world.seen('corruptRecord').length, 1);
    });
  }

  test('of the index, or its root, opens no key at all', async (t) => {
    const world = await twoKeys(t);
    await changeStored(world, 'root', () => undefined, 'seals');
    await assert.rejects(world.reopen(), { code: 'STORE_UNAVAILABLE', message: /root of the index is missing/ });
  });
});

describe('a list of KEKs', () => {
  const call = { tenant: 'acme', deadline: Date.now() + 30_000, signal: new AbortController().signal };

  test('that was taken back is not used, and other tenants go on', async (t) => {
    const world = openWorld(t, { token: new FakeToken() });
    const make = (tenant: string) =>
      world.keys.vault.generate({ tenant, keyId: 'signer', version: 1, algorithm: 'Ed25519' }, call);
    await make('acme');
    await make('globex');
    const older = await readStored(world, 'acme', 'keks');
    await world.reopen();
    await world.keys.vault.rotateKek('acme', call);
    await changeStored(world, 'acme', () => older, 'keks');
    await world.reopen();
    await assert.rejects(make('acme'), { code: 'STORE_UNAVAILABLE' });
    await make('globex');
    assert.deepEqual(world.seen('corruptKeks'), [{ tenant: 'acme' }]);
    assert.deepEqual(world.keys.health(), { ok: true, damaged: 1 });
  });
});

describe('a note', () => {
  test('that somebody else wrote never has an object of the token destroyed', async (t) => {
    const token = new FakeToken();
    const world = openWorld(t, { token });
    const { tokenId } = await token.generate(
      { algorithm: 'AES-256', purpose: 'encrypt', label: 'mortise:key:acme:target:v1' },
      { tenant: 'acme', deadline: Date.now() + 30_000, signal: new AbortController().signal },
    );
    await world.keys.catalog.insert(aRecord({ keyId: 'target', versions: [aVersion({ tokenId })] }));
    const note = Buffer.from(JSON.stringify({ tenant: 'acme', keyId: 'none', madeAt: 0 }));
    const sum = createHash('sha256').update(note).digest();
    await changeStored(world, tokenId, () => Buffer.concat([sum, note]), 'notes');
    await world.reopen();
    await world.keys.reaper.run();
    await world.keys.objects.discard(tokenId);
    assert.equal(token.calls.get('destroy'), undefined);
    assert.equal(world.seen('orphanKept').length, 1);
  });
});

describe('the store', () => {
  test('gives and takes nothing before it is unlocked, and opens under its own key only', async (t) => {
    const world = await twoKeys(t);
    await world.keys.close();
    const keys = openKeys({
      path: world.path,
      kekLabelPrefix: 'test:kek',
      clock: { now: () => world.now },
      token: world.token,
      audit: { append: async () => {} },
      events: new Proxy({}, { get: () => () => {} }) as Parameters<typeof openKeys>[0]['events'],
    });
    t.after(() => keys.close());
    assert.equal(keys.catalog.get('acme', 'other'), undefined);
    assert.deepEqual(keys.health(), { ok: false, damaged: 0 });
    await assert.rejects(keys.catalog.insert(aRecord({ keyId: 'other' })), { code: 'STORE_UNAVAILABLE' });
    const { wrapped } = TEST_SEALING_KEY;
    assert.throws(() => keys.unlock({ key: createSecretKey(randomBytes(32)), wrapped }), { code: 'STORE_UNAVAILABLE' });
    assert.equal(keys.catalog.get('acme', 'other'), undefined);
    keys.unlock(TEST_SEALING_KEY);
    assert.equal(keys.catalog.get('acme', 'other')?.keyId, 'other');
  });
});

describe('seals', () => {
  type Step = { readonly table: string; readonly key: string; readonly value: Buffer | undefined };
  const step: fc.Arbitrary<Step> = fc.record({
    table: fc.constantFrom('records', 'uses'),
    key: fc.constantFrom('a/x', 'a/y', 'b/x', 'é', ''),
    value: fc.option(
      fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes)),
      { nil: undefined },
    ),
  });

  test('accept exactly the newest value of each row, whatever was written before', () => {
    const { key } = TEST_SEALING_KEY;
    fc.assert(
      fc.property(fc.array(fc.array(step, { maxLength: 4 }), { maxLength: 12 }), (transactions) => {
        const index = new Map<string, Buffer>();
        const rows = new Map<string, Buffer>();
        const history: { table: string; key: string; sealed: Buffer }[] = [];
        const begun = Seals.begin(key);
        index.set('root', begun.root);
        for (const steps of transactions) {
          const seals = Seals.open(key, (name) => index.get(name));
          const changes = steps.map(({ value, ...row }) => ({
            ...row,
            sealed: value && seals.seal(row.table, row.key, value),
          }));
          for (const { sealed, ...row } of changes) {
            if (sealed === undefined) rows.delete(`${row.table}/${row.key}`);
            else rows.set(`${row.table}/${row.key}`, sealed);
            if (sealed !== undefined) history.push({ ...row, sealed });
          }
          for (const row of seals.stage(changes).rows) {
            if (row.value === undefined) index.delete(row.key);
            else index.set(row.key, row.value);
          }
        }
        const seals = Seals.open(key, (name) => index.get(name));
        for (const row of history) {
          const newest = rows.get(`${row.table}/${row.key}`);
          const found = seals.unseal(row.table, row.key, row.sealed);
          if (newest === undefined) assert.equal(found, 'added');
          else if (newest.equals(row.sealed)) assert.deepEqual(found, row.sealed.subarray(MAC_BYTES));
          else assert.equal(found, 'older');
        }
        const named = ['records', 'uses'].flatMap((table) => seals.keys(table).map((name) => `${table}/${name}`));
        assert.deepEqual(named.sort(), [...rows.keys()].sort());
      }),
      { numRuns: 200 },
    );
  });

  test('are as they were where a change was not stored', () => {
    const { seals, root } = Seals.begin(TEST_SEALING_KEY.key);
    const sealed = seals.seal('records', 'a', Buffer.from('value'));
    seals.stage([{ table: 'records', key: 'a', sealed }]);
    assert.equal(seals.unseal('records', 'a', sealed), 'added');
    const { rows, commit } = seals.stage([{ table: 'records', key: 'a', sealed }]);
    commit();
    assert.deepEqual(seals.unseal('records', 'a', sealed), Buffer.from('value'));
    assert.notDeepEqual(rows.at(-1)?.value, root);
  });
});
