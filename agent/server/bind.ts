// Turns handlers `(call, request) => Promise<response>` into grpc-js handlers. Invariants: no decoder's exception gets
// to grpc-js, an undecodable request is a recorded INVALID_REQUEST; every failure leaves as an AgentError; an answer is
// encoded before it counts as given; a stream shows nothing more once its caller's credentials have ended.
import type {
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  ServerWritableStream,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { OperationName } from '../../proto/documents/operations.ts';
import { AgentError, asAgentError } from '../errors.ts';
import { type Ports, perform } from '../operations/perform.ts';
import type { Call } from '../operations/ports/call.ts';
import type { CallContext } from './call-context.ts';
import { operationOf } from './operation-of.ts';
import { type AnyHandler, type AnyMethod, type Decoded, decode, rpcsOf, type Service } from './rpc.ts';
import { grpcStatusOf } from './status.ts';

interface BindParts {
  readonly ports: Ports;
  readonly take: (metadata: Metadata) => CallContext;
}

/** Refuses what is no operation yet through the chain, for the sake of rate limit and record; always rejects. */
export const refuseRecorded = async (
  ports: Ports,
  call: Call,
  operation: OperationName,
  error: AgentError,
): Promise<never> => {
  await perform(ports, call, operation, () => {
    throw error;
  });
  throw error;
};

export const malformed = (cause: unknown): AgentError =>
  new AgentError('INVALID_REQUEST', { message: 'the request is not a valid protobuf message', cause });

const refuseMalformed = (ports: Ports, context: CallContext, cause: unknown): Promise<never> =>
  refuseRecorded(ports, context.call(), operationOf(context.method) as OperationName, malformed(cause));

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
    context.onDrain((error) => context.abort(error));
    try {
      const decoded = stream.request;
      if ('malformed' in decoded) return await refuseMalformed(parts.ports, context, decoded.malformed);
      for await (const response of handler(context.call(), decoded.request) as AsyncIterable<unknown>) {
        context.caller?.stands?.();
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

export const buffer = (bytes: Buffer): Buffer => bytes;

/** The service as grpc-js takes it: definition and implementation. */
export const bindService = (
  parts: BindParts,
  service: Service,
): { definition: Record<string, object>; implementation: UntypedServiceImplementation } => {
  const definition: Record<string, object> = {};
  const implementation: UntypedServiceImplementation = {};
  for (const { name, method, handler } of rpcsOf(service)) {
    definition[name] = {
      ...method,
      requestDeserialize: (bytes: Buffer) => decode(method, bytes),
      responseSerialize: buffer,
    };
    implementation[name] = (method.responseStream ? bindStream : bindUnary)(parts, method, handler) as never;
  }
  return { definition, implementation };
};
