// Following one log: ReadLog's pages, where they are cut, and what it says of a record that does not verify.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeAuditRecord, MAX_DETAIL_BYTES } from '../../../proto/documents/audit-record.ts';
import { Ledger } from '../../../registry/ledger/ledger.ts';
import { cosigner, cosignerKey, handIn, type Opened, openLedger, REGISTRY } from './fixture.ts';

const PAGE_BYTES = 3 * 1024 * 1024;
const bytesOf = ({ record, mac }: { readonly record: Buffer; readonly mac: Buffer }): number =>
  record.length + mac.length;

/** Details of the largest size, so that fewer than a thousand records fill a page. */
const wide = (host: Opened['host'], count: number): void => {
  const detail = JSON.stringify({ pad: 'x'.repeat(MAX_DETAIL_BYTES - '{"pad":""}'.length) });
  for (let at = 0; at < count; at += 1) host.add({ detail });
};

/** The same ledger over rows that `change` has been at. */
const altered = ({ store, ingest }: Opened, change: (index: number, record: Buffer, mac: Buffer) => void): Ledger => {
  const forTenant: typeof store.forTenant = (tenant, actor) => {
    const under = store.forTenant(tenant, actor);
    const records: typeof under.records = async (query) =>
      (await under.records(query)).map((row) => {
        const copy = { ...row, record: Buffer.from(row.record), mac: Buffer.from(row.mac) };
        change(copy.index, copy.record, copy.mac);
        return copy;
      });
    return { ...under, records };
  };
  return new Ledger({ store: { forTenant }, macKeys: ingest.macKeys, cosigner: { ...cosigner, text: cosignerKey } });
};

test('reads a log page by page, in order and without a gap, to its end', async (t) => {
  const opened = await openLedger(t);
  const { host, ledger } = opened;
  await handIn(opened, host.fill(25));
  const { origin } = host;
  const seen: number[] = [];
  for (let from = 0; ; ) {
    const { rows, size } = await ledger.read(REGISTRY, 'acme', { origin, from, limit: 10 });
    assert.equal(size, 25);
    if (rows.length === 0) break;
    for (const row of rows) {
      assert.equal(row.origin, origin);
      assert.ok(row.record.equals(host.records[row.index]?.record as Buffer));
      seen.push(row.index);
    }
    from = seen.length;
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 25 }, (_, at) => at),
  );
  assert.deepEqual(await ledger.read(REGISTRY, 'acme', { origin, from: 99, limit: 10 }), { rows: [], size: 25 });
});

test('answers a log that is not there, or that is of another tenant, with nothing', async (t) => {
  const opened = await openLedger(t);
  await handIn(opened, opened.host.fill(2));
  const nothing = { rows: [], size: 0 };
  const { ledger, host } = opened;
  assert.deepEqual(await ledger.read(REGISTRY, 'acme', { origin: 'h-1/acme/1', from: 0, limit: 10 }), nothing);
  assert.deepEqual(await ledger.read(REGISTRY, 'other', { origin: host.origin, from: 0, limit: 10 }), nothing);
  const actor = { kind: 'host', name: 'h-9' } as const;
  await assert.rejects(ledger.read(actor, 'acme', { origin: host.origin, from: 0, limit: 1 }), {
    code: 'PERMISSION_DENIED',
  });
});

test('cuts a page at 3 MiB, and the next one begins with the record that did not fit', async (t) => {
  const opened = await openLedger(t);
  const { host, ledger } = opened;
  wide(host, 800);
  await handIn(opened, host);
  const { origin } = host;
  const first = await ledger.read(REGISTRY, 'acme', { origin, from: 0, limit: 1000 });
  assert.equal(first.size, 800);
  const sent = first.rows.reduce((sum, row) => sum + bytesOf(row), 0);
  const left = host.records[first.rows.length];
  assert.ok(sent <= PAGE_BYTES);
  assert.ok(left !== undefined && sent + bytesOf(left) > PAGE_BYTES, 'it is cut no earlier than it must be');
  const second = await ledger.read(REGISTRY, 'acme', { origin, from: first.rows.length, limit: 1000 });
  assert.equal(second.rows[0]?.index, first.rows.length);
  assert.equal(first.rows.length + second.rows.length, 800);
});

test('names the first record of a log that does not verify, and hands out none from there on', async (t) => {
  const opened = await openLedger(t);
  const { host } = opened;
  await handIn(opened, host.fill(9));
  const { origin } = host;
  const corrupt = { code: 'LEDGER_CORRUPT', metadata: { origin, index: '4' } };
  const damages: readonly ((index: number, record: Buffer, mac: Buffer) => void)[] = [
    (index, record) => void (index === 4 && record.write('SVC', record.indexOf('svc'))),
    (index, _record, mac) => void (index === 4 && mac.fill(0)),
    (index, record) => void (index === 4 && record.fill(0)),
    (index, record) => void (index === 4 && record.write('ACME', record.indexOf('acme'))),
  ];
  for (const damage of damages) {
    const ledger = altered(opened, damage);
    await assert.rejects(ledger.read(REGISTRY, 'acme', { origin, from: 0, limit: 100 }), corrupt);
    await assert.rejects(ledger.read(REGISTRY, 'acme', { origin, from: 4, limit: 1 }), corrupt);
    const before = await ledger.read(REGISTRY, 'acme', { origin, from: 0, limit: 4 });
    assert.deepEqual(
      before.rows.map(({ record }) => decodeAuditRecord(record).record.correlationId),
      ['c-0', 'c-1', 'c-2', 'c-3'],
    );
    assert.equal((await ledger.read(REGISTRY, 'acme', { origin, from: 5, limit: 100 })).rows.length, 4);
  }
});

test('takes two records that changed places for what they are', async (t) => {
  const opened = await openLedger(t);
  const { host, store, ingest } = opened;
  await handIn(opened, host.fill(9));
  const forTenant: typeof store.forTenant = (tenant, actor) => {
    const under = store.forTenant(tenant, actor);
    const records: typeof under.records = async (query) => {
      const rows = await under.records(query);
      const at = (index: number): number => (index === 3 ? 4 : index === 4 ? 3 : index);
      return rows.map((row) => ({ ...row, ...(host.records[at(row.index)] as (typeof host.records)[0]) }));
    };
    return { ...under, records };
  };
  const parts = { store: { forTenant }, macKeys: ingest.macKeys, cosigner: { ...cosigner, text: cosignerKey } };
  await assert.rejects(new Ledger(parts).read(REGISTRY, 'acme', { origin: host.origin, from: 0, limit: 9 }), {
    code: 'LEDGER_CORRUPT',
    metadata: { origin: host.origin, index: '3' },
  });
});
