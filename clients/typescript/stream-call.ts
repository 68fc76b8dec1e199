// One streaming call on a connection of its own: data up from a source, messages down, both at the pace of the slower
// side. Invariant: whatever ends it, the call, the connection and the source are let go of, and no error is lost.
import { Client, type ClientDuplexStream, credentials, type Metadata } from '@grpc/grpc-js';
import { asMortiseError, MortiseError } from './errors.ts';
import type { ByteSource } from './source-reader.ts';

/** A message of the agent: data, which stands in field 2 of all of them, or the whole. */
export type Received<Response> = { readonly data: Buffer } | { readonly response: Response };

export interface StreamMethod<Response> {
  readonly path: string;
  responseDeserialize(bytes: Buffer): Response;
}

export interface StreamCallOptions<Response> {
  readonly socketPath: string;
  readonly method: StreamMethod<Response>;
  readonly metadata: Metadata;
  readonly correlationId: string;
  /** Milliseconds since 1970; infinite where the agent's own limit has to do. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  /** The first message. */
  readonly opening: Uint8Array;
  /** Data that goes up at once, in a message of its own. */
  readonly beginning?: Buffer;
  /** The last message, for a number of bytes sent. */
  readonly end: (bytes: number) => Uint8Array;
  readonly source: ByteSource;
}

const DATA_TAG = 0x12; // field 2, length-delimited
/** 15 chunks of 16 KiB: whole ones cost the agent no copy, and with their tags they stay below 256 KiB. */
const MESSAGE_BYTES = 15 * 16 * 1024;
/** Messages that have not left yet: one on its way and one ready. */
const MAX_UNSENT_MESSAGES = 2;
// The windows of HTTP/2 stay at their 64 KiB: Node does not read a connection while a write on it is pending
// (Http2Session::MaybeStopReading), so two ends that may each have more under way than the socket holds (about 200 KiB)
// can wait for each other for ever. Larger ones would save nothing: the processor is the limit (docs/performance.md).
const CHANNEL_OPTIONS = {
  'grpc.max_receive_message_length': 1024 * 1024,
  'grpc.enable_retries': 0, // what was read from a source cannot be read again
  'grpc.use_local_subchannel_pool': 1,
} as const;

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];

const encodeData = (pieces: readonly Uint8Array[], bytes: number): Buffer =>
  Buffer.concat([Buffer.of(DATA_TAG, ...varint(bytes)), ...pieces]);

/** The data of a message that holds nothing else, as a view; undefined for any other message. */
const dataOf = (bytes: Buffer): Buffer | undefined => {
  if (bytes[0] !== DATA_TAG) return undefined;
  let length = 0;
  let at = 1;
  for (let scale = 1; at <= 5; scale *= 128) {
    const byte = bytes[at] ?? 0x80;
    at += 1;
    length += (byte & 0x7f) * scale;
    if (byte < 0x80) return at + length === bytes.length ? bytes.subarray(at) : undefined;
  }
  return undefined;
};

/** The source in messages of one size, the last one shorter. */
async function* messagesOf(source: ByteSource): AsyncGenerator<{ message: Buffer; bytes: number }> {
  let pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of source) {
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + MESSAGE_BYTES - bytes);
      pieces.push(part);
      bytes += part.length;
      at += part.length;
      if (bytes < MESSAGE_BYTES) continue;
      yield { message: encodeData(pieces, bytes), bytes };
      pieces = [];
      bytes = 0;
    }
  }
  if (bytes > 0) yield { message: encodeData(pieces, bytes), bytes };
}

/** What a stream ends in whose source cannot be read to its end. */
export const sourceFailure = (cause: unknown, correlationId: string): MortiseError => {
  const message = `the source of the data failed: ${cause instanceof Error ? cause.message : String(cause)}`;
  return new MortiseError('CANCELLED', { message, cause, correlationId });
};

const MAX_TIMER_MS = 2 ** 31 - 1;

/** What a source gives before there is a call, as long as the call would wait: a source may stand still for ever. */
export const fromSource = <T>(
  given: Promise<T>,
  by: Pick<StreamCallOptions<unknown>, 'signal' | 'deadline' | 'correlationId'>,
): Promise<T> =>
  new Promise((resolve, reject) => {
    const { signal, deadline, correlationId } = by;
    const settle = (how: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', aborted);
      how();
    };
    const end = (code: 'CANCELLED' | 'DEADLINE_EXCEEDED', message: string): void =>
      settle(() => reject(new MortiseError(code, { message, correlationId })));
    const aborted = (): void => end('CANCELLED', 'the call was aborted');
    const late = (): void => end('DEADLINE_EXCEEDED', 'the source gave too little before the deadline');
    const leftMs = deadline - Date.now();
    const timer = leftMs <= MAX_TIMER_MS ? setTimeout(late, leftMs) : undefined;
    signal?.addEventListener('abort', aborted, { once: true });
    if (signal?.aborted) aborted();
    given.then(
      (value) => settle(() => resolve(value)),
      (cause: unknown) => settle(() => reject(sourceFailure(cause, correlationId))),
    );
  });

const asItIs = (bytes: Buffer): Buffer => bytes;

class Upload {
  readonly #call: ClientDuplexStream<Buffer, Buffer>;
  #unsent = 0;
  #wake: (() => void) | undefined;
  #stopped = false;
  /** Why the source could not be read to its end. */
  failure: MortiseError | undefined;

  constructor(call: ClientDuplexStream<Buffer, Buffer>) {
    this.#call = call;
  }

  async run({ opening, beginning, source, end, correlationId }: StreamCallOptions<unknown>): Promise<void> {
    let sent = 0;
    try {
      await this.#send(Buffer.from(opening));
      if (beginning !== undefined && beginning.length > 0) {
        sent += beginning.length;
        await this.#send(encodeData([beginning], beginning.length));
      }
      for await (const { message, bytes } of messagesOf(source)) {
        if (this.#stopped) return;
        sent += bytes;
        await this.#send(message);
      }
    } catch (cause) {
      this.failure = sourceFailure(cause, correlationId);
      this.#call.cancel();
      return;
    }
    if (this.#stopped) return;
    this.#call.write(Buffer.from(end(sent)));
    this.#call.end();
  }

  /** Lets go of the source, now or with the next message. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  async #send(message: Buffer): Promise<void> {
    this.#unsent += 1;
    this.#call.write(message, () => {
      this.#unsent -= 1;
      this.#wake?.();
    });
    while (this.#unsent >= MAX_UNSENT_MESSAGES && !this.#stopped) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** The messages of the agent. Leaving the loop cancels the call. */
export async function* exchange<Response>(
  options: StreamCallOptions<Response>,
): AsyncGenerator<Received<Response>, void, undefined> {
  const { socketPath, method, metadata, deadline, signal, correlationId } = options;
  const client = new Client(`unix:${socketPath}`, credentials.createInsecure(), CHANNEL_OPTIONS);
  const call = client.makeBidiStreamRequest(method.path, asItIs, asItIs, metadata, { deadline });
  const abort = (): void => call.cancel();
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  const upload = new Upload(call);
  const uploaded = upload.run(options);
  try {
    for await (const bytes of call as AsyncIterable<Buffer>) {
      const data = dataOf(bytes);
      if (data !== undefined) {
        yield { data };
        continue;
      }
      const response = method.responseDeserialize(bytes);
      bytes.fill(0); // it may hold a key, of which the response has a copy
      yield { response };
    }
    await uploaded;
  } catch (thrown) {
    if (upload.failure !== undefined) throw upload.failure;
    if (signal?.aborted) throw new MortiseError('CANCELLED', { message: 'the call was aborted', correlationId });
    throw asMortiseError(thrown, correlationId);
  } finally {
    signal?.removeEventListener('abort', abort);
    upload.stop();
    call.on('error', () => undefined).cancel(); // a cancelled call emits one last error that nobody waits for
    client.close();
  }
}
