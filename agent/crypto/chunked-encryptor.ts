// Encrypts one message of any length piece by piece, holding less than one chunk. Invariant: every chunk but the last
// is full, and the last is shorter than a chunk, which marks the end (c2sp.org/chunked-encryption, "Message chunking").
import { CHUNK_BYTES, type ChunkedKeys, deriveChunkedKeys, sealChunk } from './chunked-keys.ts';

export interface ChunkedInput {
  readonly inputKey: Buffer;
  readonly salt: Buffer;
  /** Bound into the keys, not carried; may be empty. */
  readonly context: Buffer;
}

export class ChunkedEncryptor {
  /** Salt and commitment: the first bytes of the ciphertext. */
  readonly prefix: Buffer;
  readonly #keys: ChunkedKeys;
  readonly #partial = Buffer.alloc(CHUNK_BYTES);
  #partialBytes = 0;
  #next = 0;
  #ended = false;

  constructor({ inputKey, salt, context }: ChunkedInput) {
    this.#keys = deriveChunkedKeys(inputKey, salt, context);
    this.prefix = Buffer.concat([salt, this.#keys.commitment]);
  }

  /** The chunks that are full now, as pieces in order; none may be left out. */
  update(plaintext: Buffer): Buffer[] {
    this.#requireOpen();
    const pieces: Buffer[] = [];
    let at = 0;
    if (this.#partialBytes > 0) {
      at = plaintext.copy(this.#partial, this.#partialBytes, 0, CHUNK_BYTES - this.#partialBytes);
      this.#partialBytes += at;
      if (this.#partialBytes < CHUNK_BYTES) return pieces;
      this.#seal(this.#partial, pieces);
    }
    for (; plaintext.length - at >= CHUNK_BYTES; at += CHUNK_BYTES) {
      this.#seal(plaintext.subarray(at, at + CHUNK_BYTES), pieces);
    }
    this.#partialBytes = plaintext.copy(this.#partial, 0, at);
    return pieces;
  }

  /** The last chunk, which may be empty; nothing can follow. */
  final(): Buffer[] {
    this.#requireOpen();
    const pieces: Buffer[] = [];
    this.#seal(this.#partial.subarray(0, this.#partialBytes), pieces);
    this.wipe();
    return pieces;
  }

  /** Ends it, finished or not. */
  wipe(): void {
    this.#ended = true;
    this.#partial.fill(0);
  }

  #seal(plaintext: Buffer, pieces: Buffer[]): void {
    pieces.push(...sealChunk(this.#keys, this.#next, plaintext));
    this.#next += 1;
  }

  #requireOpen(): void {
    if (this.#ended) throw new TypeError('the message has ended');
  }
}
