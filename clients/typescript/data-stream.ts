// The data that comes out of a stream, with what is said of it. Invariant: what iterates to its end is whole.
import type {
  Envelope as EnvelopeMessage,
  KeyVersionRef as KeyVersionMessage,
} from '../../proto/gen/mortise/agent/v1/types.ts';
import { envelopeOf } from './convert.ts';
import { MortiseError } from './errors.ts';
import type { Received } from './stream-call.ts';
import type { Envelope } from './types.ts';

interface StreamKey {
  readonly key: Buffer;
  readonly baseNonce: Buffer;
  /** Of a container that is to be made: everything in front of its chunks. */
  readonly opening: Buffer;
}
interface Begun {
  readonly envelope: EnvelopeMessage | undefined;
  readonly sourceKeyUsed?: KeyVersionMessage | undefined;
  readonly sourceAlgorithmUsed?: string;
  readonly streamKey?: StreamKey | undefined;
}
/** What the agent answers to a stream that data comes out of. */
export interface DataResponse {
  readonly part?:
    | { readonly $case: 'begun'; readonly value: Begun }
    | { readonly $case: 'data'; readonly value: Buffer }
    | { readonly $case: 'done'; readonly value: { readonly bytesReceived: bigint } }
    | undefined;
}

/** A message of the agent, or data that was made or opened here, in pieces. */
export type Outcome = Received<DataResponse> | { readonly pieces: readonly Buffer[] };

/**
 * The bytes that come out, to be iterated once; or as a Readable by `Readable.from(stream)`. Nothing is sent before the
 * iteration starts. Leaving the loop cancels the stream, and what came out by then is only a part.
 */
export class DataStream implements AsyncIterable<Buffer> {
  readonly #messages: () => AsyncGenerator<Outcome, void, undefined>;
  #begun: Begun | undefined;
  #isStarted = false;

  /** Use the methods of the client. */
  constructor(messages: () => AsyncGenerator<Outcome, void, undefined>) {
    this.#messages = messages;
  }

  /** What is being done; known once the first bytes are there. */
  get envelope(): Envelope {
    return envelopeOf(this.#begun?.envelope);
  }

  /** Of reEncryptStream: what it is decrypted with; known once the first bytes are there. */
  get source(): { readonly keyId: string; readonly version: number; readonly algorithm: string } | undefined {
    const used = this.#begun?.sourceKeyUsed;
    return used && { keyId: used.keyId, version: used.version, algorithm: this.#begun?.sourceAlgorithmUsed ?? '' };
  }

  /** Whether the chunks are made or opened in this process, with a key that the agent gave; known like the envelope. */
  get isLocal(): boolean {
    return this.#begun?.streamKey !== undefined;
  }

  /** @throws {MortiseError} also after the first bytes: only a loop that ends by itself has had all of them */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    for await (const pieces of this.batches()) {
      for (const piece of pieces) yield piece;
    }
  }

  /** The same bytes, as many pieces at a time as there are: for `writev`. In place of the iteration. */
  async *batches(): AsyncGenerator<readonly Buffer[], void, undefined> {
    if (this.#isStarted) throw new TypeError('the stream can be read only once');
    this.#isStarted = true;
    let isDone = false;
    for await (const message of this.#messages()) {
      if ('pieces' in message) {
        yield message.pieces;
        continue;
      }
      if ('data' in message) {
        yield [message.data];
        continue;
      }
      const { part } = message.response;
      if (part?.$case === 'begun') this.#begun = part.value;
      else if (part?.$case === 'data') yield [part.value];
      else isDone = part?.$case === 'done';
    }
    if (!isDone) throw endedEarly();
  }
}

export const endedEarly = (): MortiseError =>
  new MortiseError('INTERNAL', { message: 'the agent ended the stream without saying that it is done' });
