// The wrapped-key blob: the published vectors, and that the decoder takes any text.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { schemeOfKey, WRAP_SCHEMES, wrappingKeyId } from '../../proto/documents/wrap-schemes.ts';
import {
  decodeWrappedKey,
  encodeWrappedKey,
  MAX_WRAPPED_TEXT,
  type WrappedIdentity,
  WrappedKeyError,
  wrappedKeyAad,
} from '../../proto/documents/wrapped-key.ts';
import { openInSoftware } from '../fakes/wraps.ts';

const HEADER = { scheme: 'aes-gcm', kekVersion: 1 } as const;

interface Vector extends WrappedIdentity {
  readonly name: string;
  readonly kek: string;
  /** Of the schemes with HMAC. */
  readonly hmac?: string;
  readonly kekVersion: number;
  readonly blob: string;
  readonly material?: string;
  readonly error?: string;
}

const { cases } = JSON.parse(readFileSync(new URL('../vectors/wrapped-key/vectors.json', import.meta.url), 'utf8')) as {
  cases: readonly Vector[];
};

/** Opens a blob as the vault does, with the KEK in software. */
const open = (vector: Vector): Buffer => {
  const blob = decodeWrappedKey(vector.blob);
  assert.equal(blob.kekVersion, vector.kekVersion);
  const keys = { aes: Buffer.from(vector.kek, 'hex'), hmac: Buffer.from(vector.hmac ?? '', 'hex') };
  return openInSoftware(blob.scheme, keys, { aad: wrappedKeyAad(vector, blob), data: blob.sealed });
};

describe('vectors of docs/spec/wrapped-key.md', () => {
  test('there are valid and invalid ones', () => {
    assert.ok(cases.filter((row) => row.material !== undefined).length >= 3);
    assert.ok(cases.filter((row) => row.error !== undefined).length >= 60);
    const schemes = cases.filter((row) => row.material !== undefined).map((row) => decodeWrappedKey(row.blob).scheme);
    assert.deepEqual([...new Set(schemes)], ['aes-gcm', 'aes-cbc-hmac', 'aes-kwp', 'aes-kw']);
  });
  for (const vector of cases) {
    test(vector.name, () => {
      if (vector.material !== undefined) assert.equal(open(vector).toString('hex'), vector.material);
      else if (vector.error === 'OPEN') assert.throws(() => open(vector), /unable to authenticate/);
      else {
        assert.throws(
          () => decodeWrappedKey(vector.blob),
          (error) => error instanceof WrappedKeyError && error.code === vector.error,
        );
      }
    });
  }
});

const bytesOf = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => Buffer.from(bytes));
const blobs = fc
  .tuple(fc.constantFrom(...WRAP_SCHEMES), fc.nat(20), fc.integer({ min: 1, max: 0xffffffff }))
  .chain(([{ scheme, ivBytes, tagBytes, unit, least }, units, kekVersion]) =>
    bytesOf(ivBytes + least + units * unit + tagBytes).map((sealed) => ({ scheme, kekVersion, sealed })),
  );

describe('decodeWrappedKey', () => {
  test('reads back what was encoded', () => {
    fc.assert(
      fc.property(blobs, (blob) => {
        assert.deepEqual(decodeWrappedKey(encodeWrappedKey(blob)), blob);
      }),
    );
  });

  test('takes any text: a blob that encodes to the same text, or WrappedKeyError', () => {
    const near = fc.tuple(blobs, fc.nat(), fc.nat(255)).map(([blob, at, byte]) => {
      const bytes = Buffer.from(encodeWrappedKey(blob), 'base64url');
      bytes[at % bytes.length] = byte;
      return bytes.toString('base64url');
    });
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.base64String(), near), (text) => {
        try {
          assert.equal(encodeWrappedKey(decodeWrappedKey(text)), text);
        } catch (error) {
          assert.ok(error instanceof WrappedKeyError, String(error));
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('refuses a text beyond the limit before it decodes it', () => {
    assert.throws(() => decodeWrappedKey('A'.repeat(MAX_WRAPPED_TEXT + 1)), { code: 'LENGTH' });
  });
});

describe('wrappedKeyAad', () => {
  test('is different for every identity', () => {
    const identities = fc.record({
      tenant: fc.string({ maxLength: 4 }),
      keyId: fc.string({ maxLength: 4 }),
      version: fc.integer({ min: 1, max: 20 }),
      algorithm: fc.string({ maxLength: 4 }),
    });
    fc.assert(
      fc.property(identities, identities, (one, other) => {
        const same = (['tenant', 'keyId', 'version', 'algorithm'] as const).every((name) => one[name] === other[name]);
        assert.equal(wrappedKeyAad(one, HEADER).equals(wrappedKeyAad(other, HEADER)), same);
      }),
    );
  });

  test('binds the KEK version and the scheme', () => {
    const identity = { tenant: 'acme', keyId: 'k', version: 1, algorithm: 'Ed25519' };
    assert.notDeepEqual(wrappedKeyAad(identity, HEADER), wrappedKeyAad(identity, { ...HEADER, kekVersion: 2 }));
    const all = WRAP_SCHEMES.map(({ scheme }) => wrappedKeyAad(identity, { ...HEADER, scheme }).toString('hex'));
    assert.equal(new Set(all).size, WRAP_SCHEMES.length);
  });
});

describe('encodeWrappedKey', () => {
  test('refuses what the decoder would refuse', () => {
    const blob = { ...HEADER, sealed: Buffer.alloc(60) };
    assert.throws(() => encodeWrappedKey({ ...blob, kekVersion: 0 }), { code: 'KEK_VERSION' });
    assert.throws(() => encodeWrappedKey({ ...blob, kekVersion: 2 ** 32 }), { code: 'KEK_VERSION' });
    for (const { scheme, ivBytes, tagBytes, unit, least, most } of WRAP_SCHEMES) {
      const sealed = (bytes: number): Buffer => Buffer.alloc(ivBytes + bytes + tagBytes);
      for (const bytes of [least, most]) encodeWrappedKey({ ...HEADER, scheme, sealed: sealed(bytes) });
      for (const bytes of [least - unit, most + unit, ...(unit > 1 ? [least + 1] : [])]) {
        assert.throws(() => encodeWrappedKey({ ...HEADER, scheme, sealed: sealed(bytes) }), { code: 'LENGTH' });
      }
    }
  });
});

describe('wrappingKeyId', () => {
  test('says the scheme of a key in 16 bytes, as schemeOfKey reads it', () => {
    for (const { scheme, number } of WRAP_SCHEMES) {
      const random = randomBytes(16);
      const id = wrappingKeyId(scheme, random);
      assert.equal(schemeOfKey(id), scheme);
      const marked = `6d776b2d6b656b0${number}${random.toString('hex', 8)}`; // "mwk-kek"
      assert.equal(id, scheme === 'aes-gcm' ? random.toString('hex') : marked);
    }
  });

  test('takes keys of before, and of unknown marks, for keys of AES-GCM', () => {
    for (const id of [randomBytes(16).toString('hex'), '6d776b2d6b656b09aabbccddeeff0011', '6d776b2d6b656b02', 'ab']) {
      assert.equal(schemeOfKey(id), 'aes-gcm');
    }
  });
});
