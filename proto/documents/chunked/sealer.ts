// Seals one message of any length piece by piece, holding less than one chunk. Invariant: every chunk but the last is
// full, and the last is shorter than a chunk, which marks the end (c2sp.org/chunked-encryption, "Message chunking").
import { CHUNK_BYTES, type ChunkKeys, sealChunk } from './chunks.ts';

export class ChunkSealer {
  readonly #partial = Buffer.alloc(CHUNK_BYTES);
  #partialBytes = 0;
  #next = 0;
  /** Undefined once it has ended. */
  #keys: ChunkKeys | undefined;

  constructor(keys: ChunkKeys) {
    this.#keys = keys;
  }

  /** The chunks that are full now, as pieces in order; none may be left out. */
  update(plaintext: Buffer): Buffer[] {
    const keys = this.#open();
    const pieces: Buffer[] = [];
    let at = 0;
    if (this.#partialBytes > 0) {
      at = plaintext.copy(this.#partial, this.#partialBytes, 0, CHUNK_BYTES - this.#partialBytes);
      this.#partialBytes += at;
      if (this.#partialBytes < CHUNK_BYTES) return pieces;
      this.#seal(keys, this.#partial, pieces);
    }
    for (; plaintext.length - at >= CHUNK_BYTES; at += CHUNK_BYTES) {
      this.#seal(keys, plaintext.subarray(at, at + CHUNK_BYTES), pieces);
    }
    this.#partialBytes = plaintext.copy(this.#partial, 0, at);
    return pieces;
  }

  /** The last chunk, which may be empty; nothing can follow. */
  final(): Buffer[] {
    const keys = this.#open();
    const pieces: Buffer[] = [];
    this.#seal(keys, this.#partial.subarray(0, this.#partialBytes), pieces);
    this.wipe();
    return pieces;
  }

  /** Ends it, finished or not. */
  wipe(): void {
    this.#keys = undefined;
    this.#partial.fill(0);
  }

  #seal(keys: ChunkKeys, plaintext: Buffer, pieces: Buffer[]): void {
    const [ciphertext, tag] = sealChunk(keys, this.#next, plaintext);
    pieces.push(ciphertext, tag);
    this.#next += 1;
  }

  #open(): ChunkKeys {
    if (this.#keys === undefined) throw new TypeError('the message has ended');
    return this.#keys;
  }
}
