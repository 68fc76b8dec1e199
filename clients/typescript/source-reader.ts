// The bytes that a caller brings, one piece at a time, so that a beginning can be read before it is known who takes the
// rest. Invariant: it is read once, in order, and let go of once, however it ends.
import { bytesOf } from './convert.ts';

/** Bytes to send: a Readable, an asynchronous generator, a list of buffers. */
export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export class SourceReader implements AsyncIterable<Buffer> {
  readonly #iterator: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #putBack: Buffer | undefined;
  #isStarted = false;
  #isOver = false;

  constructor(source: ByteSource) {
    this.#iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  /** The next piece; undefined at the end. */
  async next(): Promise<Buffer | undefined> {
    const first = this.#putBack;
    this.#putBack = undefined;
    if (first !== undefined) return first;
    if (this.#isOver) return undefined;
    this.#isStarted = true;
    try {
      const { done, value } = await this.#iterator.next();
      if (!done) return bytesOf(value);
    } catch (thrown) {
      this.#isOver = true; // what has thrown is not asked again
      throw thrown;
    }
    this.#isOver = true;
    return undefined;
  }

  /** What comes first when it is read from again. */
  putBack(piece: Buffer): void {
    if (piece.length > 0) this.#putBack = piece;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    for (let piece = await this.next(); piece !== undefined; piece = await this.next()) yield piece;
  }

  /** Lets go of a source that was not read to its end, now or once it has given the piece that is waited for. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#putBack = undefined;
    const letGo = async (): Promise<unknown> => {
      if (!this.#isStarted) await this.#iterator.next(); // a generator that has not begun has no end to run
      return this.#iterator.return?.();
    };
    letGo().catch(() => undefined); // the stream has its outcome, which is not this
  }
}
