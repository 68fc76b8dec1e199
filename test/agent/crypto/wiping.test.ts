// Secrets that pass through node:crypto leave no copy in buffers of ours: what ciphers and hashes hand out is watched.
import assert from 'node:assert/strict';
import { createCipheriv, createHmac, Decipheriv, Hash, randomBytes } from 'node:crypto';
import { describe, type TestContext, test } from 'node:test';
import { aesKeyUnwrap, aesKeyWrap } from '../../../agent/crypto/aes-key-wrap.ts';
import {
  CONTENT_ENCRYPTIONS,
  type ContentEncryption,
  decryptContent,
} from '../../../agent/crypto/content-encryption.ts';
import { CURVES } from '../../../agent/crypto/curves.ts';
import { concatKdf, unwrapByAgreement } from '../../../agent/crypto/ecdh-es.ts';

const NONE = Buffer.alloc(0);
const isWiped = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

/** Every buffer that a method of node:crypto's classes gives out from now on. */
const watch = (t: TestContext, target: object, ...methods: readonly string[]): Buffer[] => {
  const given: Buffer[] = [];
  for (const name of methods) {
    const original = (target as Record<string, (...args: unknown[]) => unknown>)[name] as (
      ...args: unknown[]
    ) => unknown;
    t.mock.method(
      target as never,
      name as never,
      function watched(this: unknown, ...args: unknown[]) {
        const result = original.apply(this, args);
        if (Buffer.isBuffer(result) && result.length > 0) given.push(result);
        return result;
      } as never,
    );
  }
  return given;
};

describe('key agreement', () => {
  const ecdh = { curve: CURVES.get('P-256') as never, point: NONE, apu: NONE, apv: NONE };

  for (const [what, change] of [
    ['opens', 0],
    ['does not open', 1],
  ] as const) {
    test(`leaves neither Z nor the key that wraps where it ${what}`, (t) => {
      const secret = randomBytes(32);
      const kek = concatKdf(secret, { algorithmId: 'ECDH-ES+A256KW', apu: NONE, apv: NONE, bits: 256 });
      const cek = randomBytes(32);
      const wrapped = aesKeyWrap(kek, cek);
      wrapped[0] = (wrapped[0] as number) ^ change;
      const digests = watch(t, Hash.prototype, 'digest');
      const opened = unwrapByAgreement(secret, ecdh, wrapped);
      assert.equal(opened?.equals(cek) ?? false, change === 0);
      assert.ok(isWiped(secret));
      assert.equal(digests.length, 1);
      assert.ok(digests.every(isWiped));
    });
  }
});

describe('an unwrapped key', () => {
  test('is in no buffer but the one that is given out', (t) => {
    const [kek, key] = [randomBytes(32), randomBytes(32)];
    const wrapped = aesKeyWrap(kek, key);
    const given = watch(t, Decipheriv.prototype, 'update', 'final');
    const opened = aesKeyUnwrap(kek, wrapped) as Buffer;
    assert.ok(opened.equals(key));
    assert.ok(given.length > 0);
    for (const bytes of given) assert.ok(bytes === opened || isWiped(bytes));
  });
});

describe('content', () => {
  const enc = CONTENT_ENCRYPTIONS.get('A128CBC-HS256') as ContentEncryption;

  const seal = (cek: Buffer, plaintext: Buffer, padded = true) => {
    const iv = randomBytes(16);
    const cipher = createCipheriv('aes-128-cbc', cek.subarray(16), iv).setAutoPadding(padded);
    const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
    const length = Buffer.alloc(8);
    const mac = createHmac('sha256', cek.subarray(0, 16)).update(iv).update(ciphertext).update(length).digest();
    return { iv, ciphertext, tag: mac.subarray(0, 16) };
  };

  test('in AES-CBC is in no buffer but the one that is given out', (t) => {
    const [cek, plaintext] = [randomBytes(32), randomBytes(100)];
    const sealed = seal(cek, plaintext);
    const given = watch(t, Decipheriv.prototype, 'update', 'final');
    const opened = decryptContent(enc, cek, '', sealed) as Buffer;
    assert.ok(opened.equals(plaintext));
    assert.equal(given.length, 2);
    assert.ok(given.every(isWiped));
  });

  test('in AES-CBC with wrong padding is wiped', (t) => {
    const cek = randomBytes(32);
    const sealed = seal(cek, Buffer.alloc(32, 0xff), false);
    const given = watch(t, Decipheriv.prototype, 'update', 'final');
    assert.equal(decryptContent(enc, cek, '', sealed), undefined);
    assert.equal(given.length, 1);
    assert.ok(given.every(isWiped));
  });

  test('in AES-GCM that does not verify is wiped', (t) => {
    const gcm = CONTENT_ENCRYPTIONS.get('A256GCM') as ContentEncryption;
    const sealed = { iv: randomBytes(12), ciphertext: randomBytes(40), tag: randomBytes(16) };
    const given = watch(t, Decipheriv.prototype, 'update', 'final');
    assert.equal(decryptContent(gcm, randomBytes(32), '', sealed), undefined);
    assert.equal(given.length, 1);
    assert.ok(given.every(isWiped));
  });
});
