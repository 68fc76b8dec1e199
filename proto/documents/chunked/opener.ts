// Opens one message of any length piece by piece, holding at most one sealed chunk. Invariants: a chunk is given out only
// once it is authenticated; after one failure everything fails. That key and message belong together was proved before,
// by the commitment (docs/spec/chunked.md, "Rules").
import { type ChunkKeys, openChunk, SEALED_CHUNK_BYTES, TAG_BYTES } from './chunks.ts';

export interface ChunkOpenerOptions {
  readonly keys: ChunkKeys;
  /** The error of every failure: agent and client each have their own. */
  readonly refusal: () => Error;
  /** Number of the first chunk that comes. */
  readonly first?: number;
}

export class ChunkOpener {
  readonly #refusal: () => Error;
  readonly #partial = Buffer.alloc(SEALED_CHUNK_BYTES);
  #partialBytes = 0;
  #next: number;
  /** Undefined once it has ended. */
  #keys: ChunkKeys | undefined;

  constructor({ keys, refusal, first = 0 }: ChunkOpenerOptions) {
    this.#keys = keys;
    this.#refusal = refusal;
    this.#next = first;
  }

  /** The plaintext of the chunks that are complete now. A full chunk is never the last, so none waits for the next. */
  update(ciphertext: Buffer): Buffer[] {
    const keys = this.#requireOpen();
    const pieces: Buffer[] = [];
    let at = 0;
    if (this.#partialBytes > 0) {
      at = ciphertext.copy(this.#partial, this.#partialBytes, 0, SEALED_CHUNK_BYTES - this.#partialBytes);
      this.#partialBytes += at;
      if (this.#partialBytes < SEALED_CHUNK_BYTES) return pieces;
      this.#open(keys, this.#partial, pieces);
    }
    for (; ciphertext.length - at >= SEALED_CHUNK_BYTES; at += SEALED_CHUNK_BYTES) {
      this.#open(keys, ciphertext.subarray(at, at + SEALED_CHUNK_BYTES), pieces);
    }
    this.#partialBytes = ciphertext.copy(this.#partial, 0, at);
    return pieces;
  }

  /** The plaintext of the last chunk: what is left must be one, shorter than the others, or the message was cut. */
  final(): Buffer[] {
    const keys = this.#requireOpen();
    const pieces: Buffer[] = [];
    if (this.#partialBytes < TAG_BYTES) this.#fail([]);
    this.#open(keys, this.#partial.subarray(0, this.#partialBytes), pieces);
    this.wipe();
    return pieces;
  }

  wipe(): void {
    this.#keys = undefined;
    this.#partial.fill(0);
  }

  #open(keys: ChunkKeys, sealed: Buffer, pieces: Buffer[]): void {
    const plaintext = openChunk(keys, this.#next, sealed);
    if (plaintext === undefined) this.#fail(pieces);
    else pieces.push(plaintext);
    this.#next += 1;
  }

  /** What was opened in the same turn is authentic, but a failed message gives out nothing further. */
  #fail(pieces: readonly Buffer[]): never {
    for (const piece of pieces) piece.fill(0);
    this.wipe();
    throw this.#refusal();
  }

  #requireOpen(): ChunkKeys {
    if (this.#keys === undefined) throw this.#refusal();
    return this.#keys;
  }
}
