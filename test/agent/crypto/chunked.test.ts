// Chunked encryption: the Wycheproof vectors, our own containers, and what happens to ciphertext that was touched.
import assert from 'node:assert/strict';
import { createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { inflateSync } from 'node:zlib';
import fc from 'fast-check';
import { ContainerReader } from '../../../agent/crypto/chunked-container.ts';
import { ChunkedDecryptor } from '../../../agent/crypto/chunked-decryptor.ts';
import { ChunkedEncryptor } from '../../../agent/crypto/chunked-encryptor.ts';
import { parseChunkedHeader } from '../../../agent/crypto/chunked-header.ts';
import { deriveChunkedKeys } from '../../../agent/crypto/chunked-keys.ts';
import { decryptContent } from '../../../agent/crypto/content-encryption.ts';
import { parseKeyManagement } from '../../../agent/crypto/key-management.ts';
import { AgentError } from '../../../agent/errors.ts';
import {
  CHUNK_BYTES,
  MAX_CHUNKS,
  openChunk,
  SEALED_CHUNK_BYTES,
  sealChunk,
} from '../../../proto/documents/chunked/chunks.ts';
import { chunkOffset, PREFIX_BYTES, SALT_BYTES } from '../../../proto/documents/chunked/layout.ts';
import { type ContainerVector, readContainerVectors } from '../../support/chunked-vectors.ts';

const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const none = Buffer.alloc(0);
const invalidCiphertext = (thrown: unknown): boolean =>
  thrown instanceof AgentError && thrown.code === 'INVALID_CIPHERTEXT';

/** All the plaintext that comes out, in order, and the error that ends it, if any. */
const decryptPieces = (inputKey: Buffer, context: Buffer, pieces: Iterable<Buffer>) => {
  const out: Buffer[] = [];
  try {
    const [ciphertext, ...more] = pieces as Buffer[];
    const first = ciphertext ?? none;
    const decryptor = new ChunkedDecryptor({ inputKey, context, prefix: first.subarray(0, PREFIX_BYTES) });
    for (const piece of [first.subarray(PREFIX_BYTES), ...more]) out.push(...decryptor.update(piece));
    out.push(...decryptor.final());
    return { plaintext: Buffer.concat(out), error: undefined };
  } catch (error) {
    return { plaintext: Buffer.concat(out), error };
  }
};

/** The ciphertext in pieces of a size; the first holds at least the prefix. */
const cut = (bytes: Buffer, size: number): Buffer[] => {
  const pieces = [bytes.subarray(0, PREFIX_BYTES)];
  for (let at = PREFIX_BYTES; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
  return pieces;
};

const encryptWhole = (inputKey: Buffer, context: Buffer, pieces: readonly Buffer[]): Buffer => {
  const encryptor = new ChunkedEncryptor({ inputKey, context, salt: randomBytes(SALT_BYTES) });
  return Buffer.concat([encryptor.prefix, ...pieces.flatMap((piece) => encryptor.update(piece)), ...encryptor.final()]);
};

interface WycheproofCase {
  readonly tcId: number;
  readonly comment: string;
  readonly key: string;
  readonly ctx: string;
  readonly ct: string;
  readonly aeadKey?: string;
  readonly baseNonce?: string;
  readonly msgLength?: number;
  readonly msgSha512?: string;
  readonly result: 'valid' | 'invalid';
  readonly flags: readonly string[];
}

const OWN = join(import.meta.dirname, '../../vectors/chunked/wycheproof.json');
const SHARED = join(
  import.meta.dirname,
  '../../../../shared/vectors/wycheproof/c2sp_chunked_encryption_aes_256_gcm_test.json',
);

const runWycheproof = (path: string): void => {
  const { testGroups } = JSON.parse(readFileSync(path, 'utf8')) as { testGroups: { tests: WycheproofCase[] }[] };
  const cases = testGroups.flatMap(({ tests }) => tests);
  assert.ok(cases.length >= 33, `${path} holds only ${cases.length} cases`);
  for (const row of cases) {
    const ciphertext = inflateSync(hex(row.ct));
    for (const size of [7_001, SEALED_CHUNK_BYTES, 1 << 20]) {
      const { plaintext, error } = decryptPieces(hex(row.key), hex(row.ctx), cut(ciphertext, size));
      const about = `${row.tcId}: ${row.comment}, in pieces of ${size}`;
      if (row.result === 'valid') assert.equal(error, undefined, about);
      else assert.ok(invalidCiphertext(error), about);
      // A valid prefix may come out before the error is found, and nothing else ever.
      const isWhole = plaintext.length === (row.msgLength ?? 0);
      assert.ok(isWhole || (row.result === 'invalid' && plaintext.length < (row.msgLength ?? 0)), about);
      if (isWhole && row.msgSha512 !== undefined) {
        assert.equal(createHash('sha512').update(plaintext).digest('hex'), row.msgSha512, about);
      }
    }
    if (row.aeadKey === undefined || row.flags.includes('HeaderFailure')) continue;
    const keys = deriveChunkedKeys(hex(row.key), ciphertext.subarray(0, SALT_BYTES), hex(row.ctx));
    assert.equal(keys.key.export().toString('hex'), row.aeadKey);
    assert.equal(keys.baseNonce.toString('hex'), row.baseNonce);
  }
};

describe('Wycheproof vectors of Cobblestone-256', () => {
  test('every case of this repository', () => runWycheproof(OWN));
  test('every case of the full set', { skip: existsSync(SHARED) ? false : 'not beside the checkout' }, () =>
    runWycheproof(SHARED),
  );
});

describe('chunks', () => {
  const inputKey = randomBytes(32);
  const context = Buffer.from('context');
  const LENGTHS = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5];

  test('what is encrypted in any pieces decrypts in any pieces, in the one right length', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...LENGTHS),
        fc.integer({ min: 1, max: 50_000 }),
        fc.integer({ min: 1, max: 50_000 }),
        (length, writeSize, readSize) => {
          const plaintext = randomBytes(length);
          const ciphertext = encryptWhole(inputKey, context, cut(plaintext, writeSize));
          assert.equal(ciphertext.length, PREFIX_BYTES + length + 16 * (Math.floor(length / CHUNK_BYTES) + 1));
          const opened = decryptPieces(inputKey, context, cut(ciphertext, readSize));
          assert.equal(opened.error, undefined);
          assert.ok(opened.plaintext.equals(plaintext));
        },
      ),
      { numRuns: 60 },
    );
  });

  const plaintext = randomBytes(3 * CHUNK_BYTES + 100);
  const ciphertext = encryptWhole(inputKey, context, [plaintext]);
  const chunk = (number: number): Buffer => ciphertext.subarray(chunkOffset(number), chunkOffset(number + 1));
  const prefix = ciphertext.subarray(0, PREFIX_BYTES);

  /** Fails, and gives out nothing but the first so many chunks. */
  const refuses = (bytes: Buffer, chunks: number): void => {
    const opened = decryptPieces(inputKey, context, cut(bytes, SEALED_CHUNK_BYTES));
    assert.ok(invalidCiphertext(opened.error));
    assert.ok(opened.plaintext.equals(plaintext.subarray(0, chunks * CHUNK_BYTES)));
  };

  test('a cut at every boundary, and beside it, is found', () => {
    for (let number = 0; number <= 3; number += 1) {
      for (const beside of [-1, 0, 1, 15, 16, 17]) {
        const length = chunkOffset(number) + beside;
        const opened = decryptPieces(inputKey, context, cut(ciphertext.subarray(0, length), 9_999));
        assert.ok(invalidCiphertext(opened.error), `cut to ${length} bytes`);
        assert.ok(opened.plaintext.equals(plaintext.subarray(0, opened.plaintext.length)));
      }
    }
    assert.ok(invalidCiphertext(decryptPieces(inputKey, context, [ciphertext.subarray(0, -1)]).error));
  });

  test('chunks that are swapped, doubled, left out or appended are found where it happens', () => {
    refuses(Buffer.concat([prefix, chunk(1), chunk(0), chunk(2), chunk(3)]), 0);
    refuses(Buffer.concat([prefix, chunk(0), chunk(0), chunk(1), chunk(2), chunk(3)]), 1);
    refuses(Buffer.concat([prefix, chunk(0), chunk(2), chunk(3)]), 1);
    refuses(Buffer.concat([prefix, chunk(0), chunk(1), chunk(2), chunk(3), chunk(3)]), 3);
    refuses(Buffer.concat([ciphertext, Buffer.alloc(1)]), 3);
    refuses(Buffer.concat([ciphertext, randomBytes(SEALED_CHUNK_BYTES)]), 3);
  });

  test('a chunk of another message under the same key is found', () => {
    const other = encryptWhole(inputKey, context, [plaintext]);
    const foreign = other.subarray(chunkOffset(1), chunkOffset(2));
    refuses(Buffer.concat([prefix, chunk(0), foreign, chunk(2), chunk(3)]), 1);
  });

  test('a changed bit anywhere is found, and what was changed never comes out', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: ciphertext.length * 8 - 1 }), (bit) => {
        const changed = Buffer.from(ciphertext);
        changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
        const opened = decryptPieces(inputKey, context, cut(changed, 20_000));
        assert.ok(invalidCiphertext(opened.error));
        assert.ok(opened.plaintext.equals(plaintext.subarray(0, opened.plaintext.length)));
      }),
      { numRuns: 150 },
    );
  });

  test('another context or another key fails before any chunk', () => {
    for (const [key, other] of [
      [inputKey, none],
      [inputKey, Buffer.from('contexT')],
      [randomBytes(32), context],
    ] as const) {
      const opened = decryptPieces(key, other, [ciphertext]);
      assert.ok(invalidCiphertext(opened.error));
      assert.equal(opened.plaintext.length, 0);
    }
  });

  test('a decryptor that failed gives out nothing more', () => {
    const decryptor = new ChunkedDecryptor({ inputKey, prefix, context });
    assert.throws(() => decryptor.update(Buffer.concat([chunk(0), chunk(0)])), invalidCiphertext);
    assert.throws(() => decryptor.update(chunk(0)), invalidCiphertext);
    assert.throws(() => decryptor.final(), invalidCiphertext);
  });

  test('an encryptor that ended makes no further chunk', () => {
    const encryptor = new ChunkedEncryptor({ inputKey, context, salt: randomBytes(SALT_BYTES) });
    encryptor.final();
    assert.throws(() => encryptor.update(none), TypeError);
    assert.throws(() => encryptor.final(), TypeError);
  });

  test('each chunk opens by itself at its place, and at no other', () => {
    const keys = deriveChunkedKeys(inputKey, prefix.subarray(0, SALT_BYTES), context);
    for (let number = 0; number <= 3; number += 1) {
      const expected = plaintext.subarray(number * CHUNK_BYTES, (number + 1) * CHUNK_BYTES);
      assert.deepEqual(openChunk(keys, number, chunk(number)), expected);
      assert.equal(openChunk(keys, number + 1, chunk(number)), undefined);
    }
  });

  test('the counter reaches over 32 bits and ends at 2^38', () => {
    const keys = deriveChunkedKeys(inputKey, prefix.subarray(0, SALT_BYTES), context);
    const numbers = [0, 255, 256, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, MAX_CHUNKS - 1];
    const sealed = numbers.map((number) => Buffer.concat(sealChunk(keys, number, Buffer.from('x'))));
    assert.equal(new Set(sealed.map((bytes) => bytes.toString('hex'))).size, numbers.length);
    for (const [index, number] of numbers.entries()) {
      assert.equal(openChunk(keys, number, sealed[index] as Buffer)?.toString(), 'x');
    }
    // The nonce of number 2^32 differs from the base nonce in its eighth byte alone.
    const nonce = Buffer.from(keys.baseNonce);
    nonce[7] = (nonce[7] as number) ^ 1;
    const decipher = createDecipheriv('aes-256-gcm', keys.key, nonce);
    decipher.setAuthTag((sealed[4] as Buffer).subarray(1));
    assert.equal(decipher.update((sealed[4] as Buffer).subarray(0, 1)).toString() + decipher.final('utf8'), 'x');
    assert.throws(() => sealChunk(keys, MAX_CHUNKS, none), RangeError);
  });
});

/** Reads a container with a KEK at hand, as docs/spec/chunked.md says. */
const openVector = ({ kek, context, container }: ContainerVector): Buffer => {
  const opening = new ContainerReader().add(container) ?? new ContainerReader().ended();
  const [jwe] = parseChunkedHeader(opening.header);
  assert.ok(jwe);
  const management = parseKeyManagement(jwe, jwe.header.alg, undefined);
  assert.equal(management.kind, 'gcm');
  if (management.kind !== 'gcm') throw new TypeError('unreachable');
  let inputKey: Buffer | undefined;
  try {
    const decipher = createDecipheriv('aes-256-gcm', kek, management.iv);
    decipher.setAuthTag(management.tag);
    const cek = Buffer.concat([decipher.update(jwe.encryptedKey), decipher.final()]);
    inputKey = decryptContent(jwe.enc, cek, jwe.protectedSegment, jwe);
  } catch {
    inputKey = undefined; // the wrap does not open
  }
  if (inputKey === undefined) throw new AgentError('INVALID_CIPHERTEXT');
  const decryptor = new ChunkedDecryptor({ inputKey, prefix: opening.prefix, context });
  return Buffer.concat([...decryptor.update(opening.rest), ...decryptor.final()]);
};

describe('vectors of containers', () => {
  for (const vector of readContainerVectors()) {
    test(vector.name, () => {
      if (vector.error === undefined) assert.deepEqual(openVector(vector), vector.plaintext);
      else assert.throws(() => openVector(vector), { code: vector.error });
    });
  }

  test('a reader takes a container in any pieces, and refuses any other bytes as a request or a ciphertext', () => {
    const [vector] = readContainerVectors();
    const container = vector?.container as Buffer;
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 700 }), fc.option(fc.nat(200)), (size, at) => {
        const bytes = Buffer.from(container);
        if (at !== null) bytes[at] = (bytes[at] as number) ^ 0x20;
        const reader = new ContainerReader();
        try {
          for (let from = 0; from < bytes.length; from += size) {
            const opening = reader.add(bytes.subarray(from, from + size));
            if (opening === undefined) continue;
            parseChunkedHeader(opening.header);
            assert.ok(opening.prefix.length === PREFIX_BYTES);
            return;
          }
          reader.ended();
        } catch (thrown) {
          assert.ok(thrown instanceof AgentError, String(thrown));
          assert.ok(['INVALID_REQUEST', 'INVALID_CIPHERTEXT'].includes(thrown.code));
        }
      }),
      { numRuns: 200 },
    );
  });
});
