// Reading the ledger: queries and their cursors, exports, verification, receipts; nothing that does not verify is handed out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeAuditRecord } from '../../../proto/documents/audit-record.ts';
import { verifyReceipt } from '../../../proto/documents/tlog-proof.ts';
import type { ExportedRecord } from '../../../registry/ledger/export.ts';
import { Ledger } from '../../../registry/ledger/ledger.ts';
import type { LedgerStore } from '../../../registry/ledger/store.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { cosigner, cosignerKey, enrol, handIn, type Opened, openLedger, REGISTRY } from './fixture.ts';

const collect = async (pieces: AsyncIterable<Buffer>): Promise<string> => {
  const parts: Buffer[] = [];
  for await (const piece of pieces) parts.push(piece);
  return Buffer.concat(parts).toString('utf8');
};

const correlationOf = ({ record }: ExportedRecord): string => decodeAuditRecord(record).record.correlationId;

/** The same ledger, over a store in which one record of `acme` was edited. */
const edited = ({ store, ingest }: Opened, index: number): Ledger => {
  const tampered = <Row extends { readonly index: number; readonly record: Buffer }>(rows: readonly Row[]): Row[] =>
    rows.map((row) => {
      if (row.index !== index) return row;
      const record = Buffer.from(row.record);
      record.write('SVC', record.indexOf('svc'));
      return { ...row, record };
    });
  const forTenant: typeof store.forTenant = (tenant, actor) => {
    const under = store.forTenant(tenant, actor);
    const records = async (query: Parameters<LedgerStore['records']>[0]) => tampered(await under.records(query));
    const query = async (asked: Parameters<LedgerStore['query']>[0]) => tampered(await under.query(asked));
    return { ...under, records, query };
  };
  return new Ledger({ store: { forTenant }, macKeys: ingest.macKeys, cosigner: { ...cosigner, text: cosignerKey } });
};

test('answers page by page, by a cursor that belongs to tenant and filter', async (t) => {
  const opened = await openLedger(t);
  await handIn(opened, opened.host.fill(25));
  const filter = { key: 'invoices' };
  const walked: string[] = [];
  let cursor = '';
  do {
    const { rows, next } = await opened.ledger.query(REGISTRY, 'acme', { filter, limit: 10, cursor });
    walked.push(...rows.map(correlationOf));
    if (next !== '') {
      for (const [tenant, other] of [
        ['acme', { key: 'else' }],
        ['other', filter],
      ] as const) {
        const elsewhere = opened.ledger.query(REGISTRY, tenant, { filter: other, limit: 10, cursor: next });
        await assert.rejects(elsewhere, { code: 'INVALID_REQUEST' });
      }
    }
    cursor = next;
  } while (cursor !== '');
  assert.deepEqual(
    walked,
    Array.from({ length: 25 }, (_, at) => `c-${at}`),
  );
  for (const forged of ['x', 'bm8', Buffer.from('["a","b",1]').toString('base64url'), 'y'.repeat(5000)]) {
    await assert.rejects(opened.ledger.query(REGISTRY, 'acme', { filter, limit: 10, cursor: forged }), {
      code: 'INVALID_REQUEST',
    });
  }
});

test('answers no actor of another tenant', async (t) => {
  const opened = await openLedger(t);
  await enrol(opened.store, 'h-9', ['other']);
  await handIn(opened, opened.host.fill(2));
  const actor = { kind: 'host', name: 'h-9' } as const;
  const { ledger, host } = opened;
  const refused = { code: 'PERMISSION_DENIED' };
  await assert.rejects(ledger.query(actor, 'acme', { filter: {}, limit: 1 }), refused);
  await assert.rejects(ledger.logs(actor, 'acme', { limit: 1 }), refused);
  await assert.rejects(ledger.verify(actor, 'acme', { trusted: [] }), refused);
  await assert.rejects(ledger.receipt(actor, 'acme', `h-1/${host.epoch}/1`), refused);
  for (const format of ['json-lines', 'csv', 'bundle'] as const) {
    await assert.rejects(collect(ledger.export(actor, 'acme', {}, format)), refused);
  }
});

test('names the first record that does not verify, and hands out none of it', async (t) => {
  const opened = await openLedger(t);
  const { host } = opened;
  await handIn(opened, host.fill(9));
  const ledger = edited(opened, 4);
  const corrupt = { code: 'LEDGER_CORRUPT', metadata: { origin: host.origin, index: '4' } };
  await assert.rejects(ledger.query(REGISTRY, 'acme', { filter: {}, limit: 9 }), corrupt);
  assert.equal((await ledger.query(REGISTRY, 'acme', { filter: {}, limit: 4 })).rows.length, 4);
  await assert.rejects(collect(ledger.export(REGISTRY, 'acme', {}, 'csv')), corrupt);
  await assert.rejects(collect(ledger.export(REGISTRY, 'acme', {}, 'bundle')), corrupt);
  await assert.rejects(ledger.receipt(REGISTRY, 'acme', `h-1/${host.epoch}/5`), corrupt);
  const { intact, findings } = await ledger.verify(REGISTRY, 'acme', { trusted: [] });
  assert.equal(intact, false);
  assert.deepEqual(
    findings.map(({ code, index }) => `${code} ${index}`),
    ['RECORD_EDITED 4'],
  );
});

test('verifies whole logs, and against checkpoints that were kept elsewhere', async (t) => {
  const opened = await openLedger(t);
  const { host, ledger } = opened;
  await handIn(opened, host.fill(600));
  const kept = [await host.checkpoint(300), await host.checkpoint(600)];
  assert.deepEqual(await ledger.verify(REGISTRY, 'acme', { trusted: kept }), {
    ...{ intact: true, logs: 1, records: 600, findings: [] },
  });
  const fork = host.takenBack(200);
  for (let at = 0; at < 100; at += 1) fork.add({ principal: 'else' });
  const codes = async (trusted: string[]) =>
    (await ledger.verify(REGISTRY, 'acme', { trusted })).findings.map(({ code }) => code);
  assert.deepEqual(await codes([await fork.checkpoint()]), ['LOG_FORKED']);
  host.fill(1);
  assert.deepEqual(await codes([await host.checkpoint()]), ['LOG_TRUNCATED']);
  assert.deepEqual(await codes([await new LedgerHost({ epoch: 1 }).fill(1).checkpoint()]), ['LOG_TRUNCATED']);
  await assert.rejects(ledger.verify(REGISTRY, 'acme', { trusted: ['no'] }), { code: 'INVALID_REQUEST' });
});

test('gives a receipt for every record, which verifies offline and for no other record', async (t) => {
  const opened = await openLedger(t);
  const { host, ledger } = opened;
  await handIn(opened, host.fill(700));
  for (const index of [0, 1, 255, 256, 300, 511, 512, 698, 699]) {
    const eventId = `h-1/${host.epoch}/${index + 1}`;
    const { proof, row, publicJwk } = await ledger.receipt(REGISTRY, 'acme', eventId);
    assert.equal(JSON.parse(publicJwk).x, host.publicJwk['x']);
    const by = { publicJwk: host.publicJwk, cosigner };
    const verified = verifyReceipt({ proof, ...row }, by);
    assert.equal(verified.index, index);
    assert.equal(verified.checkpoint.size, 700);
    assert.throws(() => verifyReceipt({ proof, ...(host.records[(index + 1) % 700] as ExportedRecord) }, by));
    assert.throws(() => verifyReceipt({ proof: proof.replace(`index ${index}`, `index ${index + 1}`), ...row }, by));
    assert.throws(() => verifyReceipt({ proof, ...row }, { publicJwk: new LedgerHost().publicJwk }));
  }
});

test('says of a record that no checkpoint covers that its receipt is pending', async (t) => {
  const opened = await openLedger(t);
  const { host, ledger } = opened;
  await handIn(opened, host.fill(3));
  host.fill(1);
  const session = opened.ingest.session('h-1');
  await session.open(host.origin, host.jwk, 4);
  await session.batch(host.batch(3));
  await assert.rejects(ledger.receipt(REGISTRY, 'acme', `h-1/${host.epoch}/4`), { code: 'RECEIPT_PENDING' });
  await assert.rejects(ledger.receipt(REGISTRY, 'acme', `h-1/${host.epoch}/5`), { code: 'RECORD_UNKNOWN' });
  await assert.rejects(ledger.receipt(REGISTRY, 'other', `h-1/${host.epoch}/1`), { code: 'RECORD_UNKNOWN' });
  await assert.rejects(ledger.receipt(REGISTRY, 'acme', 'h-1'), { code: 'INVALID_REQUEST' });
});

test('exports JSON lines and CSV in which no cell is a formula', async (t) => {
  const opened = await openLedger(t);
  const { host, ledger } = opened;
  host.add({ principal: '=HYPERLINK("http://x")', correlationId: 'a,"b"\r\nc', detail: '{"n":1}' });
  host.add({ principal: '-2+3' });
  await handIn(opened, host);
  const lines = (await collect(ledger.export(REGISTRY, 'acme', {}, 'json-lines'))).trimEnd().split('\n');
  const [first] = lines.map((line) => JSON.parse(line));
  assert.equal(lines.length, 2);
  assert.equal(first.principal, '=HYPERLINK("http://x")');
  assert.equal(first.record, host.records[0]?.record.toString('base64'));
  const csv = await collect(ledger.export(REGISTRY, 'acme', {}, 'csv'));
  assert.ok(csv.startsWith('origin,index,time,tenant,principal,'));
  assert.ok(csv.includes(`,"'=HYPERLINK(""http://x"")",`));
  assert.ok(csv.includes(',"a,""b""\r\nc",'));
  assert.ok(csv.includes(",'-2+3,"));
  const some = await collect(ledger.export(REGISTRY, 'acme', { principal: '-2+3' }, 'csv'));
  assert.equal(some.trimEnd().split('\r\n').length, 2);
  assert.throws(() => ledger.export(REGISTRY, 'acme', { key: 'k' }, 'bundle'), { code: 'INVALID_REQUEST' });
});
