// The log as it is handed in: bounded batches in order, what was acknowledged stays so over a restart, and nothing that a
// registry or a thief of the disk says is believed without its proof.
import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import { open } from 'lmdb';
import type { Handover } from '../../../agent/audit/handover.ts';
import type { AuditLog } from '../../../agent/audit/types.ts';
import { decodeAuditRecord, macInput } from '../../../proto/documents/audit-record.ts';
import { signCheckpoint, verifyCheckpoint } from '../../../proto/documents/checkpoint.ts';
import { cosign, cosignerText } from '../../../proto/documents/cosignature.ts';
import { appendMany, createToken, openLog, tempFolder } from './fixture.ts';

const cosigner = generateKeyPairSync('ed25519');
const NAME = 'registry.test/cosigner';
const pinned = (): string => cosignerText(NAME, cosigner.publicKey);

const countersign = (note: string): string =>
  cosign(note, {
    name: NAME,
    publicKey: cosigner.publicKey,
    seconds: 1_764_000_000,
    sign: (data) => sign(null, data, cosigner.privateKey),
  });

const readAll = async (handover: Handover, tenant: string) => {
  const records = [];
  const batches: number[] = [];
  for (let from = 0; from < (handover.log(tenant)?.size ?? 0); ) {
    const batch = await handover.read(tenant, from);
    assert.ok(batch.length > 0);
    batches.push(batch.length);
    records.push(...batch);
    from += batch.length;
  }
  return { records, batches };
};

test('records come in order, in bounded batches, with MACs that the key of their epoch makes', async (t) => {
  const log = await openLog(t, { path: tempFolder(t) });
  await appendMany(log, 'acme', 2500, 250);
  const handover = await log.handover(pinned);
  const { records, batches } = await readAll(handover, 'acme');
  assert.deepEqual(batches, [...Array(9).fill(256), 196]);
  for (const [index, { record, mac, epoch }] of records.entries()) {
    assert.equal(decodeAuditRecord(record).record.correlationId, `c-${index}`);
    if (index % 500 !== 0) continue;
    const key = await handover.macKey(epoch);
    assert.deepEqual(createHmac('sha256', key).update(macInput(record, index)).digest(), mac);
  }
});

test('checkpoints come oldest first, each once it is covered by what is sent', async (t) => {
  const log = await openLog(t, { path: tempFolder(t), limits: { checkpointSeconds: 3600, checkpointRecords: 1e6 } });
  const handover = await log.handover(pinned);
  const sizes: number[] = [];
  for (let round = 0; round < 40; round += 1) {
    await appendMany(log, 'acme', 3);
    sizes.push((await log.checkpoint('acme')).size);
  }
  const due = handover.checkpoints('acme', 0, 60);
  assert.deepEqual(
    due.map(({ size }) => size),
    sizes.filter((size) => size <= 60),
  );
  for (const { size, text } of due) assert.equal(verifyCheckpoint(text, log.publicJwk).size, size);
  assert.deepEqual(
    handover.checkpoints('acme', 117, 120).map(({ size }) => size),
    [120],
  );
  assert.deepEqual(
    handover.checkpoints('acme', 30, 36).map(({ size }) => size),
    [33, 36],
    'asked from further back again',
  );
  assert.equal(handover.checkpoints('acme', 0, 120).length, 32, 'more than a batch takes, and not all');
});

test('what was acknowledged is so after a restart, with the countersigned checkpoint', async (t) => {
  const [path, token] = [tempFolder(t), createToken()];
  const log = await openLog(t, { path, token });
  await appendMany(log, 'acme', 20);
  const { text } = await log.checkpoint('acme');
  const handover = await log.handover(pinned);
  await handover.acknowledge('acme', 20, countersign(text));
  await handover.acknowledge('acme', 20, '');
  await log.close();
  const again = await (await openLog(t, { path, token })).handover(pinned);
  assert.equal(again.log('acme')?.acknowledged, 20);
  assert.equal(again.countersigned('acme'), countersign(text));
});

test('a row that says more than the registry has acknowledged, made by somebody else, counts for nothing', async (t) => {
  const [path, token] = [tempFolder(t), createToken()];
  const log = await openLog(t, { path, token });
  await appendMany(log, 'acme', 20);
  await (await log.handover(pinned)).acknowledge('acme', 10, '');
  await log.close();
  const root = open<Buffer, Buffer>({ path, encoding: 'binary', keyEncoding: 'binary', noSubdir: false });
  const bytes = Buffer.from(root.get(Buffer.from('aacme')) ?? []);
  assert.ok(bytes.length > 0);
  bytes.write('20', bytes.indexOf('10'));
  await root.put(Buffer.from('aacme'), bytes);
  await root.close();
  const again = await openLog(t, { path, token });
  assert.equal((await again.handover(pinned)).log('acme')?.acknowledged, 0);
  assert.deepEqual((await again.verify('acme')).findings, [], 'the log itself is sound');
});

test('a countersigned checkpoint is kept only with a proof of the pinned registry, and of this very log', async (t) => {
  const token = createToken();
  const log: AuditLog = await openLog(t, { path: tempFolder(t), token });
  await appendMany(log, 'acme', 20);
  const { text } = await log.checkpoint('acme');
  const { origin, size } = verifyCheckpoint(text, log.publicJwk);
  const other = (change: object) =>
    signCheckpoint({ origin, size, root: Buffer.alloc(32, 7), ...change }, token.publicJwk, (data) => token.sign(data));
  const handover = await log.handover(pinned);
  const refused = { code: 'AUDIT_CORRUPT' };
  await assert.rejects(handover.acknowledge('acme', 20, text), refused, 'not countersigned');
  await assert.rejects(handover.acknowledge('acme', 20, countersign(await other({}))), refused, 'another root');
  await assert.rejects(
    handover.acknowledge('acme', 20, countersign(await other({ origin: 'host-1/globex/1' }))),
    refused,
  );
  await assert.rejects(handover.acknowledge('acme', 10, countersign(text)), refused, 'of more than is acknowledged');
  await assert.rejects(handover.acknowledge('acme', 20, 'no note'), refused);
  await assert.rejects((await log.handover(() => undefined)).acknowledge('acme', 20, countersign(text)), refused);
  assert.equal(handover.log('acme')?.acknowledged, 0);
  await handover.acknowledge('acme', 20, countersign(text));
});

test('a new record and a new checkpoint are told, until nobody listens', async (t) => {
  const log = await openLog(t, { path: tempFolder(t) });
  const handover = await log.handover(pinned);
  const heard: string[] = [];
  const stop = handover.onChange((tenant) => void heard.push(tenant));
  await appendMany(log, 'acme', 1);
  await log.checkpoint('acme');
  assert.deepEqual(heard, ['acme', 'acme']);
  stop();
  await appendMany(log, 'acme', 1);
  assert.equal(heard.length, 2);
});
