// Ranges of a chunked message: exactly the bytes asked for, from the chunks that hold them, and no way to be given less
// than there is or anything that was not authenticated in its place.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ChunkedEncryptor } from '../../../agent/crypto/chunked-encryptor.ts';
import { INPUT_KEY_BYTES } from '../../../agent/crypto/chunked-keys.ts';
import { type ByteRange, ChunkedRangeDecryptor } from '../../../agent/crypto/chunked-range.ts';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { CHUNK_BYTES, MAX_CHUNKS, SEALED_CHUNK_BYTES } from '../../../proto/documents/chunked/chunks.ts';
import { chunkOffset, PREFIX_BYTES, SALT_BYTES } from '../../../proto/documents/chunked/layout.ts';

const inputKey = randomBytes(INPUT_KEY_BYTES);
const context = Buffer.from('case 7');
const SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 5 * CHUNK_BYTES + 77];
const plaintext = randomBytes(Math.max(...SIZES));

const seal = (bytes: number): Buffer => {
  const encryptor = new ChunkedEncryptor({ inputKey, context, salt: randomBytes(SALT_BYTES) });
  return Buffer.concat([encryptor.prefix, ...encryptor.update(plaintext.subarray(0, bytes)), ...encryptor.final()]);
};
const SEALED = new Map(SIZES.map((bytes) => [bytes, seal(bytes)]));

/** The sealed chunks that hold a range, as a client finds them. */
const chunksOf = (sealed: Buffer, { offset, length = Number.MAX_SAFE_INTEGER }: ByteRange): Buffer => {
  const first = Math.floor(offset / CHUNK_BYTES);
  const end = Math.ceil((offset + length) / CHUNK_BYTES);
  return sealed.subarray(chunkOffset(first), chunkOffset(end));
};

/** What comes out of chunks in pieces of a size. */
const open = (sealed: Buffer, range: ByteRange, chunks = chunksOf(sealed, range), pieceBytes = 10_000): Buffer => {
  const decryptor = new ChunkedRangeDecryptor(range, { inputKey, context, prefix: sealed.subarray(0, PREFIX_BYTES) });
  const pieces: Buffer[] = [];
  for (let at = 0; at < chunks.length; at += pieceBytes) {
    pieces.push(...decryptor.update(chunks.subarray(at, at + pieceBytes)).map((piece) => Buffer.from(piece)));
  }
  return Buffer.concat([...pieces, ...decryptor.final()]);
};
const fails = (run: () => unknown, code: Code, about = /./): void =>
  assert.throws(run, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, about);
    return true;
  });

describe('ranges of chunked messages', () => {
  test('any range of any message is that part of the plaintext, whatever the pieces', () => {
    const ranges = fc.record({
      bytes: fc.constantFrom(...SIZES),
      from: fc.double({ min: 0, max: 1, noNaN: true }),
      length: fc.option(fc.integer({ min: 1, max: 4 * CHUNK_BYTES }), { nil: undefined }),
      pieceBytes: fc.integer({ min: 1_000, max: 70_000 }),
    });
    fc.assert(
      fc.property(ranges, ({ bytes, from, length, pieceBytes }) => {
        const range = { offset: Math.floor(from * bytes), length };
        const sealed = SEALED.get(bytes) as Buffer;
        const end = Math.min(bytes, range.offset + (length ?? bytes));
        const out = open(sealed, range, chunksOf(sealed, range), pieceBytes);
        assert.ok(out.equals(plaintext.subarray(range.offset, end)));
      }),
      { numRuns: 300 },
    );
  });

  test('a range that ends on a chunk takes no chunk behind it', () => {
    const sealed = SEALED.get(3 * CHUNK_BYTES) as Buffer;
    const range = { offset: CHUNK_BYTES, length: CHUNK_BYTES };
    assert.equal(chunksOf(sealed, range).length, SEALED_CHUNK_BYTES);
    assert.ok(open(sealed, range).equals(plaintext.subarray(CHUNK_BYTES, 2 * CHUNK_BYTES)));
  });

  test('less than the range, without the chunk that proves the end, is refused', () => {
    const bytes = 5 * CHUNK_BYTES + 77;
    const sealed = SEALED.get(bytes) as Buffer;
    for (const length of [4 * CHUNK_BYTES, bytes, undefined]) {
      const chunks = chunksOf(sealed, { offset: 100, length });
      for (const kept of [0, 1, 2, 3]) {
        const cut = chunks.subarray(0, kept * SEALED_CHUNK_BYTES);
        fails(() => open(sealed, { offset: 100, length }, cut), 'INVALID_CIPHERTEXT');
        fails(() => open(sealed, { offset: 100, length }, chunks.subarray(0, cut.length + 100)), 'INVALID_CIPHERTEXT');
      }
    }
  });

  test('chunks of another place, in another order or touched are refused', () => {
    const sealed = SEALED.get(5 * CHUNK_BYTES + 77) as Buffer;
    const range = { offset: CHUNK_BYTES + 5, length: 2 * CHUNK_BYTES };
    const chunks = chunksOf(sealed, range);
    const chunk = (number: number): Buffer =>
      chunks.subarray(number * SEALED_CHUNK_BYTES, (number + 1) * SEALED_CHUNK_BYTES);
    fails(() => open(sealed, { ...range, offset: 5 }, chunks), 'INVALID_CIPHERTEXT');
    fails(() => open(sealed, range, Buffer.concat([chunk(1), chunk(0), chunk(2)])), 'INVALID_CIPHERTEXT');
    fails(() => open(sealed, range, Buffer.concat([chunk(0), chunk(0), chunk(2)])), 'INVALID_CIPHERTEXT');
    // A bit outside of the range, in a chunk that holds a part of it.
    const touched = Buffer.from(chunks);
    touched[0] = (touched[0] as number) ^ 1;
    fails(() => open(sealed, range, touched), 'INVALID_CIPHERTEXT');
  });

  test('more than the range takes is refused', () => {
    const sealed = SEALED.get(5 * CHUNK_BYTES + 77) as Buffer;
    const chunks = chunksOf(sealed, { offset: 0, length: 2 * CHUNK_BYTES });
    fails(() => open(sealed, { offset: 0, length: CHUNK_BYTES }, chunks), 'INVALID_REQUEST', /more chunks/);
  });

  test('a range behind the end is refused where the last chunk shows it, and one at the end is empty', () => {
    const bytes = 5 * CHUNK_BYTES + 77;
    const sealed = SEALED.get(bytes) as Buffer;
    assert.equal(open(sealed, { offset: bytes, length: 10 }).length, 0);
    fails(() => open(sealed, { offset: bytes + 1, length: 10 }), 'INVALID_REQUEST', new RegExp(`ends at ${bytes}`));
    fails(() => open(sealed, { offset: bytes + CHUNK_BYTES, length: 10 }), 'INVALID_CIPHERTEXT');
  });

  test('ranges that no message has are refused before anything is decrypted', () => {
    const sealed = SEALED.get(1) as Buffer;
    const limit = MAX_CHUNKS * CHUNK_BYTES;
    for (const range of [
      { offset: limit, length: 1 },
      { offset: 2 ** 64, length: undefined },
      { offset: -1, length: 1 },
      { offset: Number.NaN, length: 1 },
      { offset: 0, length: 0 },
    ]) {
      fails(() => open(sealed, range, Buffer.alloc(0)), 'INVALID_REQUEST', /range/);
    }
    fails(() => open(sealed, { offset: limit - 1, length: 2 ** 64 }, Buffer.alloc(0)), 'INVALID_CIPHERTEXT');
  });

  test('what is held is wiped with the rest', () => {
    const sealed = SEALED.get(CHUNK_BYTES + 1) as Buffer;
    const range = { offset: 0, length: undefined };
    const decryptor = new ChunkedRangeDecryptor(range, { inputKey, context, prefix: sealed.subarray(0, PREFIX_BYTES) });
    assert.deepEqual(decryptor.update(chunksOf(sealed, range)), []); // until more comes, or the end
    decryptor.wipe();
    fails(() => decryptor.final(), 'INVALID_CIPHERTEXT');
  });
});
