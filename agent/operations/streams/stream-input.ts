// What a client sends: an opening, data, an end. Invariants: one message is asked for at a time, so what is not worked
// on is not read; the order is kept, the bytes are counted and bounded, and a stream without its end is no stream.
import { AgentError, invalid } from '../../errors.ts';
import { requireSize } from '../jose/checks.ts';

export const MAX_MESSAGE_BYTES = 256 * 1024; // the stream below holds up to 16 messages that were not asked for yet

export type StreamMessage<Opening> =
  | { readonly opening: Opening }
  | { readonly data: Buffer }
  /** Bytes of data that were sent, and those that the client says it worked on by itself. */
  | { readonly end: number; readonly localBytes?: number };

export interface StreamInputOptions<Opening> {
  readonly messages: AsyncIterator<StreamMessage<Opening> | undefined>;
  readonly signal: AbortSignal;
  readonly idleMs: number;
  readonly maxBytes: number;
}

export class StreamInput<Opening> {
  readonly #options: StreamInputOptions<Opening>;
  readonly #idle: NodeJS.Timeout;
  readonly #aborted = (): void => this.#reject?.(this.#options.signal.reason);
  #reject: ((reason: unknown) => void) | undefined;
  #bytes = 0;
  #localBytes = 0;
  #isTimed = true;

  constructor(options: StreamInputOptions<Opening>) {
    this.#options = options;
    options.signal.addEventListener('abort', this.#aborted);
    this.#idle = setTimeout(() => this.#reject?.(this.#tooSlow()), options.idleMs);
    this.#idle.unref();
  }

  /** Bytes of data so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes of plaintext that the client says it worked on by itself; known at the end. */
  get localBytes(): number {
    return this.#localBytes;
  }

  /** Waits from now on as long as the call may live: the client works on the data itself. */
  waitForEnd(): void {
    this.#isTimed = false;
    clearTimeout(this.#idle);
  }

  async opening(): Promise<Opening> {
    const message = await this.#receive();
    if (message === undefined || !('opening' in message)) throw invalid('opening', 'the first message must have it');
    return message.opening;
  }

  /** The next data, or undefined at the end. */
  async next(): Promise<Buffer | undefined> {
    const message = await this.#receive();
    if (message === undefined) throw invalid('end', 'the stream ended without it');
    if ('opening' in message) throw invalid('opening', 'only the first message may have it');
    if ('end' in message) {
      if (message.end !== this.#bytes) throw invalid('end', `${this.#bytes} bytes have come, not ${message.end}`);
      this.#localBytes = message.localBytes ?? 0;
      return undefined;
    }
    const { data } = message;
    if (data.length === 0) throw invalid('data', 'at least 1 byte');
    requireSize('data', data.length, MAX_MESSAGE_BYTES);
    this.#bytes += data.length;
    requireSize('data', this.#bytes, this.#options.maxBytes);
    return data;
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#options.signal.removeEventListener('abort', this.#aborted);
    this.#reject = undefined;
  }

  async #receive(): Promise<StreamMessage<Opening> | undefined> {
    this.#options.signal.throwIfAborted();
    if (this.#isTimed) this.#idle.refresh();
    const received = await new Promise<IteratorResult<StreamMessage<Opening> | undefined>>((resolve, reject) => {
      this.#reject = reject;
      this.#options.messages.next().then(resolve, reject);
    });
    this.#reject = undefined; // the timer may fire while the message is worked on
    if (received.done) return undefined;
    if (received.value === undefined) throw invalid('part', 'required');
    return received.value;
  }

  #tooSlow(): AgentError {
    const seconds = Math.ceil(this.#options.idleMs / 1000);
    return new AgentError('DEADLINE_EXCEEDED', { message: `nothing has come on the stream for ${seconds} s` });
  }
}
