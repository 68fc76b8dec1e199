import assert from 'node:assert/strict';
import { createHmac, createSecretKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  AUDIT_RECORD_LABEL,
  type AuditRecord,
  decodeAuditRecord,
  encodeAuditRecord,
  MAX_DETAIL_BYTES,
  MAX_FIELD_BYTES,
  macInput,
  parseEventId,
} from '../../proto/documents/audit-record.ts';
import { DocumentError, decodeCanonical, encodeCanonical } from '../../proto/documents/canonical.ts';
import { leafHash } from '../../proto/documents/merkle.ts';

const RECORD: AuditRecord = {
  tenant: 'acme',
  principal: 'app-1',
  key: 'orders/3',
  algorithm: 'A256GCMKW',
  operation: 'encrypt',
  outcome: 'ok',
  time: '2026-11-24T07:26:37.000042Z',
  correlationId: 'c-1',
  eventId: 'host-1/1764000000/17',
  detail: '{"uid":1000}',
};

interface Vector {
  readonly name: string;
  readonly record?: AuditRecord;
  readonly index?: number;
  readonly macKey?: string;
  readonly bytes: string;
  readonly mac?: string;
  readonly leafHash?: string;
}
const vectors = JSON.parse(readFileSync(join(import.meta.dirname, '../vectors/audit/records.json'), 'utf8')) as {
  valid: Vector[];
  invalid: Vector[];
};

test('the valid vectors encode, decode, MAC and hash as published', () => {
  assert.ok(vectors.valid.length >= 4, 'there are vectors');
  for (const { name, record, index, macKey, bytes, mac, leafHash: leaf } of vectors.valid) {
    const encoded = encodeAuditRecord(record as AuditRecord);
    assert.equal(encoded.toString('hex'), bytes, name);
    assert.deepEqual(decodeAuditRecord(encoded).record, record, name);
    const key = createSecretKey(Buffer.from(macKey as string, 'hex'));
    const computed = createHmac('sha256', key)
      .update(macInput(encoded, index as number))
      .digest();
    assert.equal(computed.toString('hex'), mac, name);
    assert.equal(leafHash(Buffer.concat([encoded, computed])).toString('hex'), leaf, name);
  }
});

test('the invalid vectors are refused', () => {
  assert.ok(vectors.invalid.length >= 10, 'there are vectors');
  for (const { name, bytes } of vectors.invalid) {
    assert.throws(() => decodeAuditRecord(Buffer.from(bytes, 'hex')), DocumentError, name);
  }
});

const field = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 });
const records = fc.record(
  {
    tenant: fc.constantFrom('acme', '_platform', 'a', 'a-1'),
    principal: field,
    key: field,
    algorithm: field,
    operation: field,
    outcome: field,
    time: fc.constant(RECORD.time),
    correlationId: field,
    eventId: fc.tuple(fc.nat(), fc.nat()).map(([epoch, sequence]) => `host-1/${epoch}/${sequence}`),
    detail: fc.oneof(
      fc.constant(''),
      fc.dictionary(fc.string(), fc.jsonValue()).map((value) => JSON.stringify(value)),
    ),
  },
  { noNullPrototype: true },
);

test('what is encoded decodes to itself, and no two records share an encoding', () => {
  fc.assert(
    fc.property(records, records, (a, b) => {
      fc.pre(Buffer.byteLength(a.detail) <= MAX_DETAIL_BYTES && Buffer.byteLength(b.detail) <= MAX_DETAIL_BYTES);
      const bytes = encodeAuditRecord(a);
      assert.deepEqual(decodeAuditRecord(bytes).record, a);
      assert.equal(bytes.equals(encodeAuditRecord(b)), JSON.stringify(a) === JSON.stringify(b));
    }),
    { numRuns: 500 },
  );
});

test('any bytes are a record that encodes back to them, or a DocumentError', () => {
  const good = encodeAuditRecord(RECORD);
  const mutated = fc.tuple(fc.nat(good.length - 1), fc.nat(255), fc.nat(4)).map(([at, byte, cut]) => {
    const copy = Buffer.from(good.subarray(0, good.length - cut));
    if (at < copy.length) copy[at] = byte;
    return copy;
  });
  const labelled = fc
    .uint8Array({ maxLength: 200 })
    .map((tail) => Buffer.concat([Buffer.from(`${AUDIT_RECORD_LABEL}\0`), tail]));
  fc.assert(
    fc.property(fc.oneof(mutated, labelled, fc.uint8Array({ maxLength: 200 })), (bytes) => {
      try {
        assert.deepEqual(encodeAuditRecord(decodeAuditRecord(bytes).record), Buffer.from(bytes));
      } catch (error) {
        if (!(error instanceof DocumentError)) throw error;
      }
    }),
    { numRuns: 3000 },
  );
});

for (const [what, change] of [
  ['an empty field', { principal: '' }],
  ['a field over the limit', { principal: 'x'.repeat(MAX_FIELD_BYTES + 1) }],
  ['a field over the limit in bytes alone', { principal: 'ü'.repeat(MAX_FIELD_BYTES / 2 + 1) }],
  ['detail over the limit', { detail: JSON.stringify({ x: 'x'.repeat(MAX_DETAIL_BYTES) }) }],
  ['detail that is no JSON object', { detail: '[1]' }],
  ['a lone surrogate', { key: '\ud800' }],
  ['a tenant that is none', { tenant: 'ACME' }],
  ['a time without microseconds', { time: '2026-11-24T07:26:37.123Z' }],
  ['a time of another zone', { time: '2026-11-24T07:26:37.123456+01:00' }],
  ['a day that does not exist', { time: '2026-02-31T07:26:37.123456Z' }],
  ['an event id with a leading zero', { eventId: 'host-1/01/2' }],
] as const) {
  test(`refuses ${what}`, () => {
    assert.throws(() => encodeAuditRecord({ ...RECORD, ...change }), DocumentError);
  });
}

test('a field exactly at the limit is kept', () => {
  const record = { ...RECORD, principal: 'ü'.repeat(MAX_FIELD_BYTES / 2) };
  assert.deepEqual(decodeAuditRecord(encodeAuditRecord(record)).record, record);
  assert.deepEqual(parseEventId('h/4294967295/9007199254740991'), {
    host: 'h',
    epoch: 4294967295,
    sequence: 2 ** 53 - 1,
  });
  assert.throws(() => parseEventId('h/4294967296/0'), DocumentError);
});

test('canonical lists keep their borders', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 6 }), (fields) => {
      const limits = { fields: fields.length, maxFieldBytes: 10_000 };
      const bytes = encodeCanonical('label', fields);
      assert.deepEqual(decodeCanonical('label', bytes, limits), fields);
      assert.throws(() => decodeCanonical('labe', bytes, limits), DocumentError);
      assert.throws(() => decodeCanonical('label', bytes, { ...limits, fields: fields.length + 1 }), DocumentError);
      assert.throws(() => decodeCanonical('label', Buffer.concat([bytes, Buffer.alloc(1)]), limits), DocumentError);
    }),
  );
});
