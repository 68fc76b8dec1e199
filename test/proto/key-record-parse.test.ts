// The stored key record: what is encoded comes back, and any other bytes are refused with a KeyRecordError.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  encodeKeyRecord,
  KEY_RECORD_SCHEMA,
  KeyRecordError,
  MAX_KEY_RECORD_BYTES,
  parseKeyRecord,
} from '../../proto/documents/key-record-parse.ts';
import { anyRecord, aRecord, aVersion, MADE_AT } from '../support/key-records.ts';

const bytesOf = (json: unknown): Buffer => Buffer.from(JSON.stringify(json));
const stored = (change: Record<string, unknown>): Buffer =>
  bytesOf({ schema: KEY_RECORD_SCHEMA, ...aRecord(), ...change });

const refuses = (bytes: Uint8Array, path: string): void => {
  assert.throws(
    () => parseKeyRecord(bytes),
    (error) => {
      assert.ok(error instanceof KeyRecordError, String(error));
      assert.equal(error.path, path);
      return true;
    },
  );
};

describe('parseKeyRecord', () => {
  test('reads back every record that encodes', () => {
    fc.assert(
      fc.property(anyRecord, (record) => {
        assert.deepEqual(parseKeyRecord(encodeKeyRecord(record)), record);
      }),
      { numRuns: 200 },
    );
  });

  test('takes any bytes: a record or KeyRecordError', () => {
    const near = fc.tuple(anyRecord, fc.nat(), fc.integer({ min: 0x20, max: 0x80 })).map(([record, at, byte]) => {
      const bytes = encodeKeyRecord(record);
      bytes[at % bytes.length] = byte;
      return bytes;
    });
    const json = fc.json().map((text) => Buffer.from(text));
    let parsed = 0;
    fc.assert(
      fc.property(fc.oneof(near, json, fc.uint8Array()), (bytes) => {
        try {
          const record = parseKeyRecord(bytes);
          assert.deepEqual(parseKeyRecord(encodeKeyRecord(record)), record);
          parsed += 1;
        } catch (error) {
          assert.ok(error instanceof KeyRecordError, String(error));
        }
      }),
      { numRuns: 800 },
    );
    assert.ok(parsed > 0, 'the fuzz never came near a valid record');
  });

  const wrong: readonly [string, Record<string, unknown>, string][] = [
    ['an unknown member', { secret: 'x' }, ''],
    ['another schema', { schema: 'mortise.key/v2' }, 'schema'],
    ['no schema', { schema: undefined }, 'schema'],
    ['a tenant that is none', { tenant: 'Acme' }, 'tenant'],
    ['a key id that is none', { keyId: '../x' }, 'keyId'],
    ['a state that is judged by time', { state: 'EXPIRED' }, 'state'],
    ['no revision', { revision: 0 }, 'revision'],
    ['a revision beyond 2^53-1', { revision: 2 ** 53 }, 'revision'],
    ['a label with a control character', { labels: { a: '\n' } }, 'labels'],
    ['a label that is not text', { labels: { a: 1 } }, 'labels'],
    ['33 labels', { labels: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`l${i}`, ''])) }, 'labels'],
    ['a limit of 0', { limits: { hardUses: 0 } }, 'limits.hardUses'],
    ['a limit that is text', { limits: { hardUses: '5' } }, 'limits'],
    ['an expiry after the last date', { limits: { hardExpiry: 8.64e15 + 1 } }, 'limits.hardExpiry'],
    ['a grant of an unknown operation', { grants: [{ principal: 'a', operations: ['fly'] }] }, 'grants'],
    ['a grant of an inherited name', { grants: [{ principal: 'a', operations: ['constructor'] }] }, 'grants'],
    ['65 grants', { grants: Array.from({ length: 65 }, () => ({ principal: 'a', operations: ['sign'] })) }, 'grants'],
    ['no version', { versions: [] }, 'versions'],
    ['two primary versions', { versions: [aVersion(), aVersion({ version: 2 })] }, 'versions'],
    ['no primary version', { versions: [aVersion({ state: 'RETIRED' })] }, 'versions'],
    ['versions out of order', { versions: [aVersion({ version: 2, state: 'RETIRED' }), aVersion()] }, 'versions[1]'],
    ['version 0', { versions: [aVersion({ version: 0 })] }, 'versions[0].version'],
    ['a forbidden algorithm', { versions: [aVersion({ algorithm: 'DES' })] }, 'versions[0].algorithm'],
    ['an algorithm of another purpose', { versions: [aVersion({ algorithm: 'Ed25519' })] }, 'versions[0].algorithm'],
    ['a JOSE name of another algorithm', { versions: [aVersion({ jose: 'RSA1_5' })] }, 'versions[0].algorithm'],
    ['a token id that is not hex', { versions: [aVersion({ tokenId: 'XY' })] }, 'versions[0].tokenId'],
    ['custody hsm with a blob', { versions: [aVersion({ wrapped: 'AAAA' })] }, 'versions[0]'],
    ['custody wrapped without a blob', { versions: [aVersion({ custody: 'wrapped' })] }, 'versions[0]'],
    ['a blob beyond its limit', { versions: [aVersion({ wrapped: 'A'.repeat(6000) })] }, 'versions[0].wrapped'],
    ['a private JWK', { versions: [aVersion({ publicJwk: { kty: 'OKP', d: 'AA' } })] }, 'versions[0].publicJwk'],
    ['a live version of a destroyed key', { state: 'DESTROYED' }, 'versions'],
    ['pending without a way back', { state: 'PENDING_DESTRUCTION', destroyAt: MADE_AT }, 'stateBefore'],
    ['pending without an end', { state: 'PENDING_DESTRUCTION', stateBefore: 'ACTIVE' }, 'destroyAt'],
    ['a way back of an active key', { stateBefore: 'ACTIVE' }, 'stateBefore'],
    ['a way back from being destroyed', { state: 'PENDING_DESTRUCTION', stateBefore: 'DESTROYED' }, 'stateBefore'],
  ];
  for (const [name, change, path] of wrong) test(`refuses ${name}`, () => refuses(stored(change), path));

  test('refuses what is not an object, not JSON, not UTF-8 or too large', () => {
    for (const text of ['', 'null', '[]', '"x"', '1', '{', '\uFEFF{}']) refuses(Buffer.from(text), '');
    refuses(Buffer.from([0x22, 0xff, 0x22]), '');
    refuses(Buffer.alloc(MAX_KEY_RECORD_BYTES + 1, 0x20), '');
  });

  test('gives a label called "__proto__" no power', () => {
    const text = encodeKeyRecord(aRecord({ labels: { a: 'b' } }))
      .toString()
      .replace('"a":"b"', '"__proto__":"b"');
    refuses(Buffer.from(text), 'labels');
  });

  test('does not quote the bytes in the error', () => {
    assert.throws(
      () => parseKeyRecord(Buffer.from('{"hunter2')),
      (error) => !String(error).includes('hunter2'),
    );
  });
});

describe('encodeKeyRecord', () => {
  test('refuses a record that would not load', () => {
    assert.throws(() => encodeKeyRecord(aRecord({ versions: [] })), KeyRecordError);
  });
});
