// Decrypts a range of a chunked message from the chunks that hold it and no others. Invariants: as of the whole message,
// nothing of a chunk is given out before it is authenticated; less than the range only where its last chunk proves the end.
import { CHUNK_BYTES, MAX_CHUNKS, SEALED_CHUNK_BYTES } from '../../proto/documents/chunked/chunks.ts';
import { invalid } from '../errors.ts';
import { ChunkedDecryptor } from './chunked-decryptor.ts';

export interface ByteRange {
  /** In the plaintext. */
  readonly offset: number;
  /** Undefined means to the end. */
  readonly length: number | undefined;
}

const MAX_PLAINTEXT_BYTES = MAX_CHUNKS * CHUNK_BYTES;

export class ChunkedRangeDecryptor {
  readonly #decryptor: ChunkedDecryptor;
  readonly #offset: number;
  /** Where the range ends, if nothing ends before. */
  readonly #end: number;
  /** Most bytes of ciphertext that the range takes. */
  readonly #needed: number;
  #received = 0;
  /** Where in the plaintext the next piece begins. */
  #position: number;
  /** Held until more comes, so that the last of it is given out at the end. */
  #held: Buffer[] = [];

  constructor(
    range: ByteRange,
    message: { readonly inputKey: Buffer; readonly prefix: Buffer; readonly context: Buffer },
  ) {
    const { offset, length = MAX_PLAINTEXT_BYTES } = range;
    if (!(offset >= 0 && offset < MAX_PLAINTEXT_BYTES)) throw invalid('range', 'no container reaches so far');
    if (!(length > 0)) throw invalid('range', 'at least 1 byte');
    const first = Math.floor(offset / CHUNK_BYTES);
    this.#offset = offset;
    this.#end = Math.min(offset + length, MAX_PLAINTEXT_BYTES);
    this.#position = first * CHUNK_BYTES;
    this.#needed = Math.ceil((this.#end - this.#position) / CHUNK_BYTES) * SEALED_CHUNK_BYTES;
    this.#decryptor = new ChunkedDecryptor({ ...message, first });
  }

  update(ciphertext: Buffer): Buffer[] {
    this.#received += ciphertext.length;
    if (this.#received > this.#needed) throw invalid('data', 'more chunks than the range takes');
    const opened = this.#decryptor.update(ciphertext);
    if (opened.length === 0) return opened;
    const ready = this.#held;
    this.#held = this.#cut(opened);
    return ready;
  }

  /** The rest. Where not all chunks have come, the last of them must be the last of the message. */
  final(): Buffer[] {
    const last = this.#received < this.#needed ? this.#cut(this.#decryptor.final()) : [];
    if (this.#position < this.#offset) throw invalid('range', `the plaintext ends at ${this.#position}`);
    const pieces = [...this.#held, ...last];
    this.#held = [];
    this.#decryptor.wipe();
    return pieces;
  }

  wipe(): void {
    for (const piece of this.#held) piece.fill(0);
    this.#held = [];
    this.#decryptor.wipe();
  }

  /** What of the pieces is in the range; the rest is wiped. */
  #cut(pieces: readonly Buffer[]): Buffer[] {
    return pieces.map((piece) => {
      const from = Math.min(piece.length, Math.max(0, this.#offset - this.#position));
      const to = Math.max(from, Math.min(piece.length, this.#end - this.#position));
      this.#position += piece.length;
      piece.fill(0, 0, from).fill(0, to);
      return piece.subarray(from, to);
    });
  }
}
