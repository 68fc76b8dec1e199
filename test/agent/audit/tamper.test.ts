// Each tampering is done with a plain LMDB handle on a closed store, as an attacker with the disk would.
import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { open, type RootDatabase } from 'lmdb';
import { checkpointKey, headKey, recordKey } from '../../../agent/audit/rows.ts';
import type { Verification } from '../../../agent/audit/types.ts';
import { verifyStore } from '../../../agent/audit/verify.ts';
import { appendMany, createToken, openLog, tempFolder } from './fixture.ts';

type Db = RootDatabase<Buffer, Buffer>;
const token = createToken();
const other = createToken();
const unwrap = (wrapped: Buffer, context: Buffer): Promise<Buffer> => token.unwrap(wrapped, context);

/** Two tenants of 30 and 10 records, with checkpoints of "acme" at 10, 20 and 30; closed. */
const makeStore = async (t: TestContext): Promise<{ path: string; checkpoints: string[] }> => {
  const path = tempFolder(t);
  const log = await openLog(t, { path, token });
  const checkpoints: string[] = [];
  for (let i = 0; i < 3; i += 1) {
    await appendMany(log, 'acme', 10, 5);
    checkpoints.push((await log.checkpoint('acme')).text);
  }
  await appendMany(log, 'globex', 10);
  await log.close();
  return { path, checkpoints };
};

const tamper = async (path: string, change: (db: Db) => Promise<unknown>): Promise<void> => {
  const db: Db = open({ path, encoding: 'binary', keyEncoding: 'binary' });
  await change(db);
  await db.flushed;
  await db.close();
};

const read = (db: Db, key: Buffer): Buffer => {
  const value = db.get(key);
  assert.ok(value, 'the row to tamper with is there');
  return Buffer.from(value);
};

const codes = ({ findings }: Verification): string[] =>
  findings.map(({ code, tenant, index }) => `${code} ${tenant} ${index}`);

const verify = (path: string, trusted: string[] = []): Promise<Verification> =>
  verifyStore({ path, unwrap, checkpointKey: token.publicJwk, trusted });

test('an untouched store is intact, and so is a copy of it', async (t) => {
  const { path, checkpoints } = await makeStore(t);
  const copy = join(tempFolder(t), 'copy');
  cpSync(path, copy, { recursive: true });
  for (const folder of [path, copy]) {
    const found = await verify(folder, checkpoints);
    assert.deepEqual([found.intact, found.macsVerified, codes(found)], [true, true, []]);
    assert.equal(found.tenants.find(({ tenant }) => tenant === 'acme')?.checkpoints, 3);
  }
});

for (const [where, offset] of [
  ['the first field', 30],
  ['the middle', 90],
  ['the MAC', -1],
] as const) {
  test(`finds a byte edited in ${where} of a record, at its position`, async (t) => {
    const { path } = await makeStore(t);
    await tamper(path, (db) => {
      const key = recordKey('acme', 13);
      const value = read(db, key);
      const at = offset < 0 ? value.length + offset : offset;
      value[at] = (value[at] as number) ^ 1;
      return db.put(key, value);
    });
    assert.deepEqual(codes(await verify(path)), ['RECORD_EDITED acme 13']);
    const log = await openLog(t, { path, token });
    await assert.rejects(log.list('acme', { from: 10, limit: 10 }), {
      code: 'AUDIT_CORRUPT',
      metadata: { index: '13' },
    });
    assert.equal((await log.list('acme', { from: 0, limit: 13 })).length, 13);
  });
}

test('finds a deleted record at its position', async (t) => {
  const { path } = await makeStore(t);
  await tamper(path, (db) => db.remove(recordKey('acme', 7)));
  assert.deepEqual(codes(await verify(path)), ['RECORD_MISSING acme 7']);
});

test('finds a record that was deleted and the rest moved up', async (t) => {
  const { path } = await makeStore(t);
  await tamper(path, async (db) => {
    for (let i = 7; i < 29; i += 1) void db.put(recordKey('acme', i), read(db, recordKey('acme', i + 1)));
    await db.remove(recordKey('acme', 29));
  });
  assert.deepEqual(codes(await verify(path)), ['RECORD_MISSING acme 7']);
});

for (const [a, b] of [
  [3, 4],
  [3, 7],
  [0, 29],
] as const) {
  test(`finds records ${a} and ${b} swapped`, async (t) => {
    const { path } = await makeStore(t);
    await tamper(path, async (db) => {
      const [first, second] = [read(db, recordKey('acme', a)), read(db, recordKey('acme', b))];
      void db.put(recordKey('acme', a), second);
      await db.put(recordKey('acme', b), first);
    });
    assert.deepEqual(codes(await verify(path)), [`RECORD_REORDERED acme ${a}`, `RECORD_REORDERED acme ${b}`]);
    const blind = codes(await verifyStore({ path }));
    assert.ok(blind.includes(`RECORD_REORDERED acme ${a}`), String(blind));
  });
}

test('finds a record of another tenant put in', async (t) => {
  const { path } = await makeStore(t);
  await tamper(path, (db) => db.put(recordKey('acme', 5), read(db, recordKey('globex', 5))));
  assert.deepEqual(codes(await verify(path)), ['RECORD_EDITED acme 5']);
});

test('finds a cut-off tail, and takes no more records on top of it', async (t) => {
  const { path } = await makeStore(t);
  await tamper(path, async (db) => {
    for (let i = 27; i < 30; i += 1) await db.remove(recordKey('acme', i));
  });
  assert.ok(codes(await verify(path)).includes('LOG_TRUNCATED acme 27'));
  const log = await openLog(t, { path, token });
  await assert.rejects(log.append({ ...ENTRY, tenant: 'acme' }), { code: 'AUDIT_CORRUPT' });
  await log.append({ ...ENTRY, tenant: 'globex' });
  const { ok, writable, corrupt } = log.health();
  assert.deepEqual([ok, writable, corrupt], [false, true, ['acme']]);
  const found = await log.verify('acme');
  assert.ok(codes(found).includes('LOG_TRUNCATED acme 27'));
});

const ENTRY = {
  principal: 'p',
  key: '-',
  algorithm: '-',
  operation: 'encrypt',
  outcome: 'ok',
  correlationId: 'c',
} as const;

for (const size of [10, 20, 30]) {
  test(`finds the checkpoint of ${size} records removed`, async (t) => {
    const { path } = await makeStore(t);
    await tamper(path, (db) => db.remove(checkpointKey('acme', size)));
    assert.deepEqual(codes(await verify(path)), [`CHECKPOINT_INVALID acme ${size}`]);
  });
}

test('finds a checkpoint signed by another key, edited, or put at another size', async (t) => {
  const { path } = await makeStore(t);
  await tamper(path, async (db) => {
    const value = read(db, checkpointKey('acme', 20));
    const at = value.indexOf('\n20\n') + 1;
    value[at] = 0x31;
    void db.put(checkpointKey('acme', 20), value);
    await db.put(checkpointKey('acme', 25), read(db, checkpointKey('acme', 10)));
  });
  assert.deepEqual(codes(await verify(path)), [
    'CHECKPOINT_INVALID acme 20',
    'CHECKPOINT_INVALID acme 20', // the gap it leaves
    'CHECKPOINT_INVALID acme 25',
  ]);
  const pinned = await verifyStore({ path, unwrap, checkpointKey: other.publicJwk });
  assert.ok(pinned.findings.some(({ code, index }) => code === 'CHECKPOINT_INVALID' && index === 10));
});

test('finds one tenant taken back whole, though all its rows agree', async (t) => {
  const path = tempFolder(t);
  const log = await openLog(t, { path, token });
  await appendMany(log, 'acme', 12);
  await log.checkpoint('acme');
  await log.close();
  const old = join(tempFolder(t), 'old');
  cpSync(path, old, { recursive: true });
  // The same epoch cannot be had twice, so the later state is that of the next start.
  const again = await openLog(t, { path, token });
  await appendMany(again, 'acme', 8);
  await appendMany(again, 'globex', 4);
  await again.checkpoint('acme');
  await again.close();

  const from: Db = open({ path: old, encoding: 'binary', keyEncoding: 'binary', readOnly: true });
  const oldHead = read(from, headKey('acme'));
  await from.close();
  await tamper(path, async (db) => {
    for (let i = 12; i < 20; i += 1) void db.remove(recordKey('acme', i));
    void db.remove(checkpointKey('acme', 20));
    await db.put(headKey('acme'), oldHead);
  });
  assert.deepEqual(codes(await verify(path)), ['LOG_TRUNCATED acme 12']);
});

test('a whole store taken back is found against a checkpoint that was kept elsewhere, and only so', async (t) => {
  const path = tempFolder(t);
  const log = await openLog(t, { path, token });
  await appendMany(log, 'acme', 12);
  await log.close();
  const old = join(tempFolder(t), 'old');
  cpSync(path, old, { recursive: true });
  const again = await openLog(t, { path, token });
  await appendMany(again, 'acme', 8);
  const kept = (await again.checkpoint('acme')).text;
  await again.close();

  assert.deepEqual(codes(await verify(old)), []);
  assert.deepEqual(codes(await verify(old, [kept])), ['LOG_TRUNCATED acme 12']);
  // And a store that grew again past the kept size is a fork of it.
  const fork = await openLog(t, { path: old, token });
  await appendMany(fork, 'acme', 10);
  await fork.close();
  assert.deepEqual(codes(await verify(old)), []);
  assert.deepEqual(codes(await verify(old, [kept])), ['LOG_FORKED acme 20']);
});

test('without the MAC keys an edit is found between two checkpoints, and the answer says what it lacks', async (t) => {
  const { path } = await makeStore(t);
  await tamper(path, (db) => {
    const value = read(db, recordKey('acme', 13));
    value[value.length - 1] = (value[value.length - 1] as number) ^ 1;
    return db.put(recordKey('acme', 13), value);
  });
  const found = await verifyStore({ path });
  assert.equal(found.macsVerified, false);
  assert.deepEqual(codes(found), ['RECORD_EDITED acme 10']);
});

test('finds an edited host head, and no tenant takes records on top of it', async (t) => {
  const { path } = await makeStore(t);
  await tamper(path, (db) => {
    const value = read(db, Buffer.from('m'));
    value[value.length - 1] = (value[value.length - 1] as number) ^ 1;
    return db.put(Buffer.from('m'), value);
  });
  assert.equal(codes(await verify(path))[0], 'LOG_FORKED * 0');
  const log = await openLog(t, { path, token });
  await assert.rejects(log.append({ ...ENTRY, tenant: 'globex' }), { code: 'AUDIT_CORRUPT' });
  await assert.rejects(log.checkpoint('globex'), { code: 'AUDIT_CORRUPT' });
  assert.deepEqual([log.health().ok, log.health().writable], [false, false]);
});

test('finds a whole tenant deleted', async (t) => {
  const { path } = await makeStore(t);
  await tamper(path, async (db) => {
    for (let i = 0; i < 10; i += 1) void db.remove(recordKey('globex', i));
    void db.remove(checkpointKey('globex', 10));
    await db.remove(headKey('globex'));
  });
  assert.deepEqual(codes(await verify(path)), ['LOG_TRUNCATED globex 0']);
});

test('takes an odd file or hostile rows for findings, not crashes', async (t) => {
  const { path } = await makeStore(t);
  await tamper(path, async (db) => {
    void db.put(headKey('acme'), Buffer.from('no head'));
    void db.put(recordKey('globex', 3), Buffer.alloc(5));
    await db.put(checkpointKey('globex', 4), Buffer.alloc(40));
  });
  const found = codes(await verify(path));
  assert.ok(found.includes('LOG_TRUNCATED acme 0'));
  assert.ok(found.includes('RECORD_EDITED globex 3'));
  assert.ok(found.includes('CHECKPOINT_INVALID globex 4'));
});
