// Use counters: a hard limit holds exactly, over restarts and over kills; keys without one cost nothing durable.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { KeyStore } from '../../../agent/keys/store.ts';
import { blockSize } from '../../../agent/keys/uses.ts';
import type { KeyLimits, KeyRecord } from '../../../proto/documents/key-record.ts';
import { smallFileSystem, temporaryFolder } from '../../support/folder.ts';
import { aRecord, aVersion } from '../../support/key-records.ts';
import { TEST_SEALING_KEY } from '../../support/sealing-key.ts';
import { openWorld, type World } from './world.ts';

const withKey = async (world: World, limits: KeyLimits): Promise<KeyRecord> => {
  const record = aRecord({ limits });
  await world.keys.catalog.insert(record);
  return record;
};

const freeBytes = (path: string): number => {
  const { bavail, bsize } = statfsSync(path);
  return Number(bavail) * Number(bsize);
};

/** Uses the key until it is refused; gives back how often it could. */
const useUp = async (world: World, record: KeyRecord): Promise<number> => {
  for (let made = 0; made < 5000; made += 1) {
    try {
      await world.keys.catalog.use(record);
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'KEY_LIMIT');
      return made;
    }
  }
  assert.fail('the limit never came');
};

describe('a hard limit', () => {
  for (const hardUses of [1, 2, 15, 16, 17, 100, 1000]) {
    test(`of ${hardUses} uses gives exactly ${hardUses}`, async (t) => {
      const world = openWorld(t);
      const record = await withKey(world, { hardUses });
      assert.equal(await useUp(world, record), hardUses);
      assert.equal(world.keys.catalog.uses('acme', 'invoices'), hardUses);
    });
  }

  test('holds for callers at the same moment, who share one transaction', async (t) => {
    const world = openWorld(t);
    const record = await withKey(world, { hardUses: 50 });
    const results = await Promise.allSettled(Array.from({ length: 80 }, () => world.keys.catalog.use(record)));
    const counts = results.flatMap((row) => (row.status === 'fulfilled' ? [row.value] : []));
    assert.deepEqual(
      counts,
      Array.from({ length: 50 }, (_, index) => index + 1),
    );
    assert.equal(results.filter((row) => row.status === 'rejected' && row.reason.code === 'KEY_LIMIT').length, 30);
  });

  test('goes on exactly where it was after a clean close', async (t) => {
    const world = openWorld(t);
    const record = await withKey(world, { hardUses: 1000 });
    for (let made = 1; made <= 5; made += 1) {
      assert.equal(await world.keys.catalog.use(record), made);
      await world.reopen('closed');
      assert.equal(world.keys.catalog.uses('acme', 'invoices'), made);
    }
    assert.equal(await useUp(world, record), 995);
  });

  test('that was lowered holds at once, even within a reserved block', async (t) => {
    const world = openWorld(t);
    const record = await withKey(world, { hardUses: 1000 });
    for (let made = 0; made < 10; made += 1) await world.keys.catalog.use(record);
    const lowered = { ...record, limits: { hardUses: 12 } };
    assert.equal(await useUp(world, lowered), 2);
    assert.equal(await useUp(world, { ...record, limits: { hardUses: 20 } }), 8);
  });

  test('starts anew with a new version', async (t) => {
    const world = openWorld(t);
    const record = await withKey(world, { hardUses: 3 });
    assert.equal(await useUp(world, record), 3);
    const versions = [aVersion({ state: 'RETIRED' }), aVersion({ version: 2, tokenId: '11'.repeat(16) })];
    const rotated = { ...record, versions, revision: 2 };
    await world.keys.catalog.replace(rotated);
    assert.equal(world.keys.catalog.uses('acme', 'invoices'), 0);
    assert.equal(await useUp(world, rotated), 3);
    assert.equal(await useUp(world, record), 0, 'a caller with the old record cannot use the old version again');
  });

  test('counts nothing where the reservation cannot be written', async (t) => {
    const path = smallFileSystem(t, '256k');
    if (path === undefined) return t.skip('this process may not mount a file system');
    const world = openWorld(t, { path });
    const record = await withKey(world, { hardUses: 5 });
    writeFileSync(join(path, 'ballast'), Buffer.alloc(256 * 1024).subarray(0, freeBytes(path)));
    const fill = async (): Promise<void> => {
      for (let at = 0; at < 1000; at += 1) await world.keys.catalog.insert(aRecord({ keyId: `k${at}` }));
    };
    await assert.rejects(fill(), { code: 'STORE_UNAVAILABLE' });
    await assert.rejects(world.keys.catalog.use(record), { code: 'STORE_UNAVAILABLE' });
    assert.equal(world.keys.catalog.uses('acme', 'invoices'), 0);
    rmSync(join(path, 'ballast'));
    assert.equal(await useUp(world, record), 5);
  });
});

describe('a key without a hard limit', () => {
  test('is counted in memory, and on the disk after a clean close', async (t) => {
    const world = openWorld(t);
    const record = await withKey(world, { softUses: 2 });
    for (let made = 1; made <= 3; made += 1) assert.equal(await world.keys.catalog.use(record), made);
    await world.reopen('closed');
    assert.equal(world.keys.catalog.uses('acme', 'invoices'), 3);
  });

  test('that gets one later is limited from its true count', async (t) => {
    const world = openWorld(t);
    const record = await withKey(world, {});
    for (let made = 0; made < 7; made += 1) await world.keys.catalog.use(record);
    assert.equal(await useUp(world, { ...record, limits: { hardUses: 10 } }), 3);
  });
});

describe('the last use', () => {
  const usage = (world: World) => world.keys.catalog.usage('acme', 'invoices', 1);

  for (const limits of [{}, { hardUses: 1000 }] satisfies KeyLimits[]) {
    test(`of a key with limits ${JSON.stringify(limits)} survives a clean close`, async (t) => {
      const world = openWorld(t);
      const record = await withKey(world, limits);
      assert.deepEqual(usage(world), { made: 0 });
      await world.keys.catalog.use(record);
      const appliedAt = world.now;
      world.now += 1000;
      world.keys.catalog.processed('acme', 'invoices', 1);
      assert.deepEqual(usage(world), { made: 1, appliedAt, processedAt: world.now });
      await world.reopen('closed');
      assert.deepEqual(usage(world), { made: 1, appliedAt, processedAt: world.now });
    });
  }

  test('is unknown of a row that has a count alone', async (t) => {
    const path = temporaryFolder(t);
    const store = new KeyStore({ path, events: { storeFailed: () => assert.fail() } });
    store.unlock(TEST_SEALING_KEY);
    const count = Buffer.alloc(8);
    count.writeBigUInt64BE(5n);
    store.write((writer) => writer.put('uses', 'acme/invoices/1', count));
    await store.close();
    const world = openWorld(t, { path });
    await withKey(world, {});
    assert.deepEqual(usage(world), { made: 5 });
  });
});

describe('blockSize', () => {
  test('covers the waiting callers, never more than is left, and forfeits at most a sixteenth in a crash', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
        fc.integer({ min: 1, max: 500 }),
        (left, wanted) => {
          const block = blockSize(left, wanted);
          assert.ok(block >= 1 && block <= left);
          assert.ok(block >= Math.min(wanted, left));
          assert.ok(block <= Math.max(wanted, Math.min(1024, left / 16)));
        },
      ),
    );
  });
});

describe('a process that is killed', () => {
  /** Runs the child until it has told of so many uses, kills it, and gives back all that it told of. */
  const killAfter = async (path: string, uses: number): Promise<{ told: number; refused: boolean }> => {
    const program = new URL('uses-process.ts', import.meta.url).pathname;
    const child = spawn(process.execPath, [program, path, String(Math.ceil(1.5 * uses))], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const closed = once(child, 'close');
    let told = 0;
    let refused = false;
    for await (const line of createInterface(child.stdout)) {
      if (line === 'used') told += 1;
      else if (line === 'KEY_LIMIT') refused = true;
      else assert.fail(`the child said ${line}`);
      if (told >= uses || refused) child.kill('SIGKILL');
    }
    await closed;
    return { told, refused };
  };

  test('never gives a use twice: all uses ever told of stay within the limit', async (t) => {
    const path = temporaryFolder(t);
    const world = openWorld(t, { path });
    const hardUses = 400;
    await withKey(world, { hardUses });
    await world.keys.close();
    let total = 0;
    let runs = 0;
    for (let refused = false; !refused; runs += 1) {
      assert.ok(runs < 60, 'the limit never came');
      const result = await killAfter(path, 37);
      total += result.told;
      refused = result.refused;
    }
    assert.ok(total <= hardUses, `${total} uses were made of ${hardUses}`);
    assert.ok(total >= hardUses / 2, `only ${total} uses could be made of ${hardUses}`);
    assert.ok(runs > 5, 'the child was hardly ever killed');
    await world.reopen();
    assert.equal(world.keys.catalog.uses('acme', 'invoices'), hardUses);
  });
});
