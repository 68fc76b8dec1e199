// Turns handlers `(call, request) => Promise<response>` into grpc-js handlers. Invariants: no decoder's exception gets
// to grpc-js, an undecodable request is a recorded INVALID_REQUEST; every failure leaves as an AgentError; an answer is
// encoded before it counts as given.
import { BinaryReader } from '@bufbuild/protobuf/wire';
import type {
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  ServerWritableStream,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { AgentError, asAgentError } from '../errors.ts';
import { type Ports, perform } from '../operations/perform.ts';
import type { Call } from '../operations/ports.ts';
import type { CallContext } from './call-context.ts';
import { operationOf } from './operation-of.ts';
import { grpcStatusOf } from './status.ts';

interface Method<Request, Response> {
  readonly path: string;
  readonly requestStream: false;
  readonly responseStream: boolean;
  requestDeserialize(bytes: Buffer): Request;
  responseSerialize(response: Response): Buffer;
}

/** The handlers of a service as ts-proto defines it: promises, or asynchronous iterables where the response streams. */
export type Handlers<Service> = {
  readonly [Name in keyof Service]: Service[Name] extends {
    responseStream: infer Stream;
    requestDeserialize(bytes: Buffer): infer Request;
    responseSerialize(response: infer Response): Buffer;
  }
    ? (call: Call, request: Request) => Stream extends true ? AsyncIterable<Response> : Promise<Response>
    : never;
};

type AnyMethod = Method<unknown, unknown>;
type AnyHandler = (call: Call, request: unknown) => Promise<unknown> | AsyncIterable<unknown>;
type Decoded = { readonly request: unknown } | { readonly malformed: unknown };

interface BindParts {
  readonly ports: Ports;
  readonly take: (metadata: Metadata) => CallContext;
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** proto3 strings are UTF-8; generated code would read anything else as U+FFFD and so make two names one. */
const decode = (method: AnyMethod, bytes: Buffer): Decoded => {
  try {
    const reader = new BinaryReader(bytes, (text) => strictUtf8.decode(text));
    // ts-proto's decoders take a reader as well; the type of a service definition only names the bytes.
    const request = method.requestDeserialize(reader as unknown as Buffer);
    // They stop at a tag of zero or an end-group tag as if the message ended there.
    return reader.pos === reader.len ? { request } : { malformed: new Error(`ends at byte ${reader.pos}`) };
  } catch (malformed) {
    return { malformed };
  }
};

/** Goes through the chain for the sake of rate limit and record; always rejects. */
const refuseMalformed = async (ports: Ports, context: CallContext, cause: unknown): Promise<never> => {
  const operation = operationOf(context.method);
  const error = new AgentError('INVALID_REQUEST', { message: 'the request is not a valid protobuf message', cause });
  if (operation === undefined) throw error;
  await perform(ports, context.call(), operation, () => {
    throw error;
  });
  throw error;
};

const bindUnary =
  (parts: BindParts, method: AnyMethod, handler: AnyHandler): handleUnaryCall<Decoded, Buffer> =>
  async (grpcCall, callback) => {
    const context = parts.take(grpcCall.metadata);
    try {
      const decoded = grpcCall.request;
      if ('malformed' in decoded) return await refuseMalformed(parts.ports, context, decoded.malformed);
      const response = await (handler(context.call(), decoded.request) as Promise<unknown>);
      const bytes = method.responseSerialize(response);
      context.answering(bytes.length);
      callback(null, bytes);
      context.settled();
    } catch (thrown) {
      const error = asAgentError(thrown);
      context.answering(0);
      callback(grpcStatusOf(error, context.correlationId));
      context.settled(error);
    }
  };

/** Resolves when the client has taken it up, so that one message at most is held; rejects when the call ends first. */
const send = (stream: ServerWritableStream<Decoded, Buffer>, bytes: Buffer, context: CallContext): Promise<void> =>
  new Promise((resolve, reject) => {
    const aborted = (): void => reject(context.signal.reason);
    context.signal.throwIfAborted();
    context.signal.addEventListener('abort', aborted, { once: true });
    context.answering(bytes.length);
    stream.write(bytes, () => {
      context.signal.removeEventListener('abort', aborted);
      context.taken();
      resolve();
    });
  });

const bindStream =
  (parts: BindParts, method: AnyMethod, handler: AnyHandler): handleServerStreamingCall<Decoded, Buffer> =>
  async (stream) => {
    const context = parts.take(stream.metadata);
    try {
      const decoded = stream.request;
      if ('malformed' in decoded) return await refuseMalformed(parts.ports, context, decoded.malformed);
      for await (const response of handler(context.call(), decoded.request) as AsyncIterable<unknown>) {
        await send(stream, method.responseSerialize(response), context);
      }
      context.signal.throwIfAborted();
      stream.end();
      context.settled();
    } catch (thrown) {
      // An iterator that was aborted may reject with whatever its own parts made of the signal.
      const error = asAgentError(context.signal.aborted ? context.signal.reason : thrown);
      stream.emit('error', grpcStatusOf(error, context.correlationId));
      context.settled(error);
    }
  };

const buffer = (bytes: Buffer): Buffer => bytes;

/** The service as grpc-js takes it: definition and implementation. */
export const bindService = <Service extends object>(
  parts: BindParts,
  service: Service,
  handlers: Handlers<Service>,
): { definition: Record<string, object>; implementation: UntypedServiceImplementation } => {
  const definition: Record<string, object> = {};
  const implementation: UntypedServiceImplementation = {};
  for (const [name, row] of Object.entries(service)) {
    const method = row as AnyMethod;
    const handler = (handlers as Record<string, AnyHandler>)[name];
    if (handler === undefined) throw new Error(`no handler for ${method.path}`);
    if (operationOf(method.path) === undefined) throw new Error(`no operation for ${method.path}`);
    definition[name] = {
      ...method,
      requestDeserialize: (bytes: Buffer) => decode(method, bytes),
      responseSerialize: buffer,
    };
    implementation[name] = (method.responseStream ? bindStream : bindUnary)(parts, method, handler) as never;
  }
  return { definition, implementation };
};
