// StreamService on grpc-js: messages in one at a time, pieces of data out, each call from its handler to its status.
// Invariants: data is copied once on its way out and not on its way in; who does not read is not read from.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Metadata, Server, ServerDuplexStream } from '@grpc/grpc-js';
import { asAgentError } from '../errors.ts';
import type { Call } from '../operations/ports/call.ts';
import { malformed } from './bind.ts';
import type { CallContext } from './call-context.ts';
import { decode } from './rpc.ts';
import { grpcStatusOf } from './status.ts';

/** A message of the client: data, which stands in field 2 of all of them, or the whole. */
export type Incoming<Request> = { readonly data: Buffer } | { readonly request: Request };
/** Data in pieces, which go out as one message, or a whole message, which is wiped once it has gone where it is secret. */
export type Outgoing<Response> =
  | { readonly data: readonly Buffer[] }
  | { readonly response: Response; readonly isSecret?: boolean };

export interface DataStreamMethod<Request, Response> {
  readonly path: string;
  requestDeserialize(bytes: Buffer): Request;
  responseSerialize(response: Response): Buffer;
}

export type DataStreamHandler<Request, Response> = (
  call: Call,
  messages: AsyncIterator<Incoming<Request>>,
) => AsyncGenerator<Outgoing<Response>, void, undefined>;

export type GrpcDataStream = ServerDuplexStream<Buffer, Buffer>;

const DATA_TAG = 0x12; // field 2, length-delimited
/** Messages handed to grpc-js that the client has not taken up: one on its way and one ready. */
const MAX_UNREAD_MESSAGES = 2;
/** How long after the end of a call it may still turn out to be cancelled. */
const CANCEL_MS = 100;

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

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];

const encodeData = (pieces: readonly Buffer[]): Buffer => {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return Buffer.concat([Buffer.of(DATA_TAG, ...varint(length)), ...pieces]);
};

async function* messagesOf<Request, Response>(
  stream: GrpcDataStream,
  method: DataStreamMethod<Request, Response>,
  signal: AbortSignal,
): AsyncGenerator<Incoming<Request>, void, undefined> {
  for await (const bytes of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    const data = dataOf(bytes);
    if (data !== undefined) {
      yield { data };
      continue;
    }
    const decoded = decode(method, bytes);
    if ('malformed' in decoded) throw malformed(decoded.malformed);
    yield { request: decoded.request };
  }
  // To grpc-js a call that its client resets has ended first and is cancelled a moment later. A call that ends well is
  // not read from again after its `end`, so nobody else waits here.
  await sleep(CANCEL_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
}

/** What goes out, at the pace of the client. */
class Output {
  readonly #stream: GrpcDataStream;
  readonly #context: CallContext;
  #unread = 0;
  #wake: (() => void) | undefined;

  constructor(stream: GrpcDataStream, context: CallContext) {
    this.#stream = stream;
    this.#context = context;
    context.signal.addEventListener('abort', () => this.#wake?.(), { once: true });
  }

  /** Resolves when the next message may be made. */
  async send(bytes: Buffer): Promise<void> {
    this.#context.answering(bytes.length);
    this.#unread += 1;
    this.#stream.write(bytes, () => {
      this.#unread -= 1;
      this.#context.taken(bytes.length);
      this.#wake?.();
    });
    await this.#until(MAX_UNREAD_MESSAGES - 1);
  }

  /** Resolves when it has been taken up and wiped. The copies that protobuf and gRPC make are not in our hands. */
  async sendSecret(bytes: Buffer): Promise<void> {
    try {
      await this.send(bytes);
      await this.flushed();
    } finally {
      bytes.fill(0);
    }
  }

  /** Resolves when the client has taken up everything. */
  flushed(): Promise<void> {
    return this.#until(0);
  }

  async #until(count: number): Promise<void> {
    while (this.#unread > count) {
      this.#context.signal.throwIfAborted();
      const woken = Promise.withResolvers<void>();
      this.#wake = woken.resolve;
      await woken.promise;
    }
    this.#context.signal.throwIfAborted();
  }
}

/** Runs the handler of one call to its end. */
const serve = async <Request, Response>(
  stream: GrpcDataStream,
  context: CallContext,
  method: DataStreamMethod<Request, Response>,
  handler: DataStreamHandler<Request, Response>,
): Promise<void> => {
  const output = new Output(stream, context);
  try {
    for await (const message of handler(context.call(), messagesOf(stream, method, context.signal))) {
      const bytes = 'data' in message ? encodeData(message.data) : method.responseSerialize(message.response);
      if ('response' in message && message.isSecret) await output.sendSecret(bytes);
      else await output.send(bytes);
    }
    await output.flushed();
    stream.end();
    context.settled();
  } catch (thrown) {
    const error = asAgentError(context.signal.aborted ? context.signal.reason : thrown);
    stream.emit('error', grpcStatusOf(error, context.correlationId));
    context.settled(error);
  }
};

/** One method of StreamService with its handler, ready to be served. */
export interface DataStreamRpc {
  readonly name: string;
  readonly method: { readonly path: string };
  serve(stream: GrpcDataStream, context: CallContext): Promise<void>;
}

export const dataStreamRpc = <Request, Response>(
  name: string,
  method: DataStreamMethod<Request, Response>,
  handler: DataStreamHandler<Request, Response>,
): DataStreamRpc => ({
  name,
  method,
  serve: (stream, context) => serve(stream, context, method, handler),
});

const asItIs = (bytes: Buffer): Buffer => bytes;

export const addDataStreams = (
  server: Server,
  rpcs: readonly DataStreamRpc[],
  take: (metadata: Metadata) => CallContext,
): void => {
  for (const { name, method, serve: run } of rpcs) {
    const definition = { ...method, requestDeserialize: asItIs, responseSerialize: asItIs };
    server.addService({ [name]: definition } as never, {
      [name]: ((stream: GrpcDataStream) => void run(stream, take(stream.metadata))) as never,
    });
  }
};
