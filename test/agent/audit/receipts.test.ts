// Receipts of a real log: they verify, cover old and new records, wait no longer than asked, and cost the token at most
// one signature a second for a tenant.
import assert from 'node:assert/strict';
import { createSecretKey, generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import { open } from 'lmdb';
import { checkpointKey, decodeCheckpointRow, encodeCheckpointRow } from '../../../agent/audit/rows.ts';
import { nodeKey } from '../../../agent/audit/tree.ts';
import type { AuditLog } from '../../../agent/audit/types.ts';
import { AgentError } from '../../../agent/errors.ts';
import { signCheckpoint, verifyCheckpoint } from '../../../proto/documents/checkpoint.ts';
import { cosign, cosignerText } from '../../../proto/documents/cosignature.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import { proveRecord } from '../../../proto/documents/receipt.ts';
import { appendMany, createToken, entry, openLog, recordEvents, tempFolder } from './fixture.ts';

const QUIET = { checkpointRecords: 1_000_000, checkpointSeconds: 3600 };
const cosigner = generateKeyPairSync('ed25519');
const NAME = 'registry.test/cosigner';
const countersign = (note: string): string =>
  cosign(note, {
    ...{ name: NAME, publicKey: cosigner.publicKey, seconds: 1_764_000_000 },
    sign: (data) => sign(null, data, cosigner.privateKey),
  });

const ask = (log: AuditLog, tenant: string, eventId: string, more: Partial<Parameters<AuditLog['receipt']>[1]> = {}) =>
  log.receipt(tenant, {
    eventId,
    ...{ countersigned: false, waitMs: 20_000, signal: new AbortController().signal, mayRead: () => true },
    ...more,
  });

test('proves every record of a log by the pinned key alone', async (t) => {
  const log = await openLog(t, { path: tempFolder(t), limits: QUIET });
  await appendMany(log, 'acme', 900, 300);
  await appendMany(log, 'globex', 3);
  const records = await log.list('acme', { limit: 1000 });
  for (const index of [0, 1, 254, 255, 256, 257, 511, 512, 767, 768, 899]) {
    const eventId = records[index]?.record.eventId as string;
    const receipt = await ask(log, 'acme', eventId);
    const proven = proveRecord(receipt, { publicJwk: log.publicJwk, eventId });
    assert.deepEqual([proven.index, proven.size, proven.record.correlationId], [index, 900, `c-${index}`]);
    assert.equal(receipt.countersigned, false);
  }
});

test('knows no record of another tenant, host, past or future', async (t) => {
  const log = await openLog(t, { path: tempFolder(t), limits: QUIET });
  await appendMany(log, 'acme', 5);
  const theirs = await log.append(entry('globex'));
  const [, epoch] = theirs.split('/') as [string, string];
  const unknown = { code: 'RECORD_UNKNOWN' };
  await assert.rejects(ask(log, 'acme', theirs), unknown);
  await assert.rejects(ask(log, 'nobody', theirs), unknown);
  await assert.rejects(ask(log, 'acme', `host-2/${epoch}/0`), unknown);
  await assert.rejects(ask(log, 'acme', `host-1/${Number(epoch) - 1}/0`), unknown);
  await assert.rejects(ask(log, 'acme', `host-1/${epoch}/77`), unknown);
  assert.equal((await ask(log, 'globex', theirs)).countersigned, false);
});

test('asks whether the caller may know of the record before anything is signed for it', async (t) => {
  const token = createToken();
  const log = await openLog(t, { path: tempFolder(t), token, limits: QUIET });
  const eventId = await log.append(entry('acme', 3));
  const asked: string[] = [];
  const mayRead = (principal: string): boolean => {
    asked.push(principal);
    return false;
  };
  await assert.rejects(ask(log, 'acme', eventId, { mayRead }), { code: 'RECORD_UNKNOWN' });
  assert.deepEqual([asked, token.calls.sign], [['app-3'], 0]);
});

test('says that a receipt is pending while no checkpoint can be signed, and has it once one can', async (t) => {
  const token = createToken();
  const log = await openLog(t, { path: tempFolder(t), token, limits: QUIET });
  const eventId = await log.append(entry('acme'));
  token.broken = new AgentError('HSM_UNAVAILABLE');
  const pending = (error: unknown): boolean =>
    error instanceof AgentError && error.code === 'RECEIPT_PENDING' && error.retryAfterMs === 1000;
  await assert.rejects(ask(log, 'acme', eventId, { waitMs: 0 }), pending);
  await assert.rejects(ask(log, 'acme', eventId, { signal: AbortSignal.abort() }), pending);
  token.broken = undefined;
  assert.equal(proveRecord(await ask(log, 'acme', eventId), { publicJwk: log.publicJwk }).index, 0);
});

test('a hundred that ask at once, and again, cost two signatures', async (t) => {
  const token = createToken();
  const log = await openLog(t, { path: tempFolder(t), token, limits: QUIET });
  const ids = await Promise.all(Array.from({ length: 100 }, (_, number) => log.append(entry('acme', number))));
  const receipts = await Promise.all(ids.map((id) => ask(log, 'acme', id)));
  assert.equal(token.calls.sign, 1);
  for (const [index, receipt] of receipts.entries()) {
    assert.equal(proveRecord(receipt, { publicJwk: log.publicJwk }).index, index);
  }
  const later = await Promise.all(Array.from({ length: 50 }, (_, number) => log.append(entry('acme', number))));
  await Promise.all(later.map((id) => ask(log, 'acme', id)));
  assert.equal(token.calls.sign, 2);
});

test('gives the checkpoint that the registry has countersigned where that covers the record', async (t) => {
  const [path, token] = [tempFolder(t), createToken()];
  const log = await openLog(t, { path, token, limits: QUIET });
  const first = await log.append(entry('acme'));
  await assert.rejects(ask(log, 'acme', first, { countersigned: true }), { code: 'RECEIPT_PENDING' });
  const handover = await log.handover(() => cosignerText(NAME, cosigner.publicKey));
  await handover.acknowledge('acme', 1, countersign((await log.checkpoint('acme')).text));
  const second = await log.append(entry('acme'));
  const pinned = { publicJwk: log.publicJwk, cosigner: cosignerText(NAME, cosigner.publicKey) };
  for (const more of [{ countersigned: true }, {}]) {
    const receipt = await ask(log, 'acme', first, more);
    assert.equal(receipt.countersigned, true);
    assert.equal(proveRecord(receipt, pinned).countersignedAt, 1_764_000_000);
  }
  const receipt = await ask(log, 'acme', second);
  assert.equal(receipt.countersigned, false);
  assert.throws(() => proveRecord(receipt, pinned));
  await assert.rejects(ask(log, 'acme', second, { countersigned: true, waitMs: 0 }), { code: 'RECEIPT_PENDING' });
});

test('gives no receipt over a tree or record that somebody changed on the disk', async (t) => {
  const [path, token] = [tempFolder(t), createToken()];
  const first = await openLog(t, { path, token, limits: QUIET });
  await appendMany(first, 'acme', 600, 300);
  const records = await first.list('acme', { limit: 600 });
  const idOf = (index: number): string => records[index]?.record.eventId as string;
  await ask(first, 'acme', idOf(599));
  await first.close();
  const db = open<Buffer, Buffer>({ path, encoding: 'binary', keyEncoding: 'binary' });
  assert.equal(db.get(nodeKey('acme', 1, 0))?.length, 32, 'kept when it was first needed');
  await db.put(nodeKey('acme', 1, 0), Buffer.alloc(32));
  await db.close();
  const events = recordEvents();
  const log = await openLog(t, { path, token, events, limits: QUIET });
  await assert.rejects(ask(log, 'acme', idOf(599)), { code: 'AUDIT_CORRUPT' });
  assert.ok(events.seen.some(({ name }) => name === 'corrupt'));
});

test('tells no caller of a checkpoint, or of a key, that somebody else put on the disk', async (t) => {
  const [path, token] = [tempFolder(t), createToken()];
  const first = await openLog(t, { path, token, limits: QUIET });
  const eventId = await first.append(entry('acme'));
  const { text } = await first.checkpoint('acme');
  await first.close();
  const forger = generateKeyPairSync('ed25519');
  const publicJwk = forger.publicKey.export({ format: 'jwk' }) as PublicJwk;
  const checkpoint = verifyCheckpoint(text, first.publicJwk);
  const forged = await signCheckpoint(checkpoint, publicJwk, async (data) => sign(null, data, forger.privateKey));
  const db = open<Buffer, Buffer>({ path, encoding: 'binary', keyEncoding: 'binary' });
  const key = checkpointKey('acme', 1);
  const { value } = decodeCheckpointRow(db.get(key) as Buffer);
  const rows = [
    encodeCheckpointRow(createSecretKey(Buffer.alloc(32)), { ...value, text: forged, publicJwk }),
    encodeCheckpointRow(createSecretKey(Buffer.alloc(32)), { ...value, epoch: 77 }),
    Buffer.from('nonsense'),
  ];
  await db.close();
  for (const row of rows) {
    const disk = open<Buffer, Buffer>({ path, encoding: 'binary', keyEncoding: 'binary' });
    await disk.put(key, row);
    await disk.close();
    const events = recordEvents();
    const log = await openLog(t, { path, token, events, limits: QUIET });
    const corrupt = { code: 'AUDIT_CORRUPT', metadata: { index: '1' } };
    await assert.rejects(ask(log, 'acme', eventId), corrupt);
    await assert.rejects(log.checkpoint('acme'), corrupt);
    assert.ok(events.seen.some(({ name }) => name === 'corrupt'));
    await log.close();
  }
});
