// The wrapped-key blob: the published vectors, and that the decoder takes any text.
import assert from 'node:assert/strict';
import { createDecipheriv, createSecretKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  decodeWrappedKey,
  encodeWrappedKey,
  MAX_WRAPPED_TEXT,
  type WrappedIdentity,
  WrappedKeyError,
  wrappedKeyAad,
} from '../../proto/documents/wrapped-key.ts';

interface Vector extends WrappedIdentity {
  readonly name: string;
  readonly kek: string;
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
  const cipher = createDecipheriv('aes-256-gcm', createSecretKey(Buffer.from(vector.kek, 'hex')), blob.iv);
  cipher.setAAD(wrappedKeyAad(vector, blob.kekVersion));
  cipher.setAuthTag(blob.ciphertext.subarray(-16));
  return Buffer.concat([cipher.update(blob.ciphertext.subarray(0, -16)), cipher.final()]);
};

describe('vectors of docs/spec/wrapped-key.md', () => {
  test('there are valid and invalid ones', () => {
    assert.ok(cases.filter((row) => row.material !== undefined).length >= 3);
    assert.ok(cases.filter((row) => row.error !== undefined).length >= 20);
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

const blobs = fc.record({
  kekVersion: fc.integer({ min: 1, max: 0xffffffff }),
  iv: fc.uint8Array({ minLength: 12, maxLength: 12 }).map((bytes) => Buffer.from(bytes)),
  ciphertext: fc.uint8Array({ minLength: 17, maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
});

describe('decodeWrappedKey', () => {
  test('reads back what was encoded', () => {
    fc.assert(
      fc.property(blobs, (blob) => {
        assert.deepEqual(decodeWrappedKey(encodeWrappedKey(blob)), { scheme: 1, ...blob });
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
        assert.equal(wrappedKeyAad(one, 1).equals(wrappedKeyAad(other, 1)), same);
      }),
    );
  });

  test('binds the KEK version', () => {
    const identity = { tenant: 'acme', keyId: 'k', version: 1, algorithm: 'Ed25519' };
    assert.notDeepEqual(wrappedKeyAad(identity, 1), wrappedKeyAad(identity, 2));
  });
});

describe('encodeWrappedKey', () => {
  test('refuses what the decoder would refuse', () => {
    const [iv, ciphertext] = [Buffer.alloc(12), Buffer.alloc(48)];
    assert.throws(() => encodeWrappedKey({ kekVersion: 0, iv, ciphertext }), { code: 'KEK_VERSION' });
    assert.throws(() => encodeWrappedKey({ kekVersion: 2 ** 32, iv, ciphertext }), { code: 'KEK_VERSION' });
    assert.throws(() => encodeWrappedKey({ kekVersion: 1, iv: Buffer.alloc(16), ciphertext }), { code: 'LENGTH' });
    assert.throws(() => encodeWrappedKey({ kekVersion: 1, iv, ciphertext: Buffer.alloc(16) }), { code: 'LENGTH' });
    assert.throws(() => encodeWrappedKey({ kekVersion: 1, iv, ciphertext: Buffer.alloc(5000) }), { code: 'LENGTH' });
  });
});
