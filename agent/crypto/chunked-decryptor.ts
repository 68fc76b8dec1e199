// Decrypts one message of any length piece by piece, holding at most one sealed chunk. Invariants: the commitment is
// checked before any chunk; a chunk is given out only once it is authenticated; after one failure everything fails.
import { timingSafeEqual } from 'node:crypto';
import { AgentError } from '../errors.ts';
import {
  type ChunkedKeys,
  deriveChunkedKeys,
  INPUT_KEY_BYTES,
  openChunk,
  PREFIX_BYTES,
  SALT_BYTES,
  SEALED_CHUNK_BYTES,
  TAG_BYTES,
} from './chunked-keys.ts';

export class ChunkedDecryptor {
  readonly #keys: ChunkedKeys;
  readonly #partial = Buffer.alloc(SEALED_CHUNK_BYTES);
  #partialBytes = 0;
  #next: number;
  #ended = false;

  /** `prefix` is salt and commitment. INVALID_CIPHERTEXT where key or context is not the one it was made with. */
  constructor(input: {
    readonly inputKey: Buffer;
    readonly prefix: Buffer;
    readonly context: Buffer;
    /** Number of the first chunk that comes. */
    readonly first?: number;
  }) {
    const { inputKey, prefix, context, first = 0 } = input;
    this.#next = first;
    if (inputKey.length !== INPUT_KEY_BYTES || prefix.length !== PREFIX_BYTES) {
      throw new AgentError('INVALID_CIPHERTEXT');
    }
    this.#keys = deriveChunkedKeys(inputKey, prefix.subarray(0, SALT_BYTES), context);
    if (!timingSafeEqual(this.#keys.commitment, prefix.subarray(SALT_BYTES))) {
      throw new AgentError('INVALID_CIPHERTEXT');
    }
  }

  /** The plaintext of the chunks that are complete now. A full chunk is never the last, so none waits for the next. */
  update(ciphertext: Buffer): Buffer[] {
    this.#requireOpen();
    const pieces: Buffer[] = [];
    let at = 0;
    if (this.#partialBytes > 0) {
      at = ciphertext.copy(this.#partial, this.#partialBytes, 0, SEALED_CHUNK_BYTES - this.#partialBytes);
      this.#partialBytes += at;
      if (this.#partialBytes < SEALED_CHUNK_BYTES) return pieces;
      this.#open(this.#partial, pieces);
    }
    for (; ciphertext.length - at >= SEALED_CHUNK_BYTES; at += SEALED_CHUNK_BYTES) {
      this.#open(ciphertext.subarray(at, at + SEALED_CHUNK_BYTES), pieces);
    }
    this.#partialBytes = ciphertext.copy(this.#partial, 0, at);
    return pieces;
  }

  /** The plaintext of the last chunk: what is left must be one, shorter than the others, or the message was cut. */
  final(): Buffer[] {
    this.#requireOpen();
    const pieces: Buffer[] = [];
    if (this.#partialBytes < TAG_BYTES) this.#fail([]);
    this.#open(this.#partial.subarray(0, this.#partialBytes), pieces);
    this.wipe();
    return pieces;
  }

  wipe(): void {
    this.#ended = true;
    this.#partial.fill(0);
  }

  #open(sealed: Buffer, pieces: Buffer[]): void {
    const plaintext = openChunk(this.#keys, this.#next, sealed);
    if (plaintext === undefined) this.#fail(pieces);
    else pieces.push(plaintext);
    this.#next += 1;
  }

  /** What was opened in the same turn is authentic, but a failed message gives out nothing further. */
  #fail(pieces: readonly Buffer[]): never {
    for (const piece of pieces) piece.fill(0);
    this.wipe();
    throw new AgentError('INVALID_CIPHERTEXT');
  }

  #requireOpen(): void {
    if (this.#ended) throw new AgentError('INVALID_CIPHERTEXT');
  }
}
