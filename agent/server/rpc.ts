// The RPCs of the services as values: definition, handler and operation, whatever door a call comes through. Invariant:
// a message is read whole and strictly, or it is malformed.
import { BinaryReader } from '@bufbuild/protobuf/wire';
import type { OperationName } from '../../proto/documents/operations.ts';
import type { Call } from '../operations/ports/call.ts';
import { operationOf } from './operation-of.ts';

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

/** A service with its handlers. */
export interface Service {
  readonly definition: object;
  readonly handlers: object;
}

/** The pair, with the check that the handlers are those of the definition. */
export const service = <Definition extends object>(
  definition: Definition,
  handlers: Handlers<Definition>,
): Service => ({
  definition,
  handlers,
});

export type AnyMethod = Method<unknown, unknown>;
export type AnyHandler = (call: Call, request: unknown) => Promise<unknown> | AsyncIterable<unknown>;
/** A message, with the length that it had, or why it is none. */
export type Decoded<Request = unknown> =
  | { readonly request: Request; readonly bytes: number }
  | { readonly malformed: unknown };

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** proto3 strings are UTF-8; generated code would read anything else as U+FFFD and so make two names one. */
export const decode = <Request>(
  method: { requestDeserialize(bytes: Buffer): Request },
  bytes: Buffer,
): Decoded<Request> => {
  try {
    const reader = new BinaryReader(bytes, (text) => strictUtf8.decode(text));
    // ts-proto's decoders take a reader as well; the type of a service definition only names the bytes.
    const request = method.requestDeserialize(reader as unknown as Buffer);
    // They stop at a tag of zero or an end-group tag as if the message ended there.
    if (reader.pos !== reader.len) return { malformed: new Error(`ends at byte ${reader.pos}`) };
    return { request, bytes: bytes.length };
  } catch (malformed) {
    return { malformed };
  }
};

/** One RPC of a service, with its handler. */
export interface Rpc {
  readonly name: string;
  readonly method: AnyMethod;
  readonly operation: OperationName;
  readonly handler: AnyHandler;
}

export interface UnaryRpc extends Rpc {
  readonly handler: (call: Call, request: unknown) => Promise<unknown>;
}

/** Fails where an RPC lacks its handler or its row in the table of operations. */
export const rpcsOf = ({ definition, handlers }: Service): Rpc[] =>
  Object.entries(definition).map(([name, method]: [string, AnyMethod]) => {
    const handler = (handlers as Record<string, AnyHandler>)[name];
    if (handler === undefined) throw new Error(`no handler for ${method.path}`);
    const operation = operationOf(method.path);
    if (operation === undefined) throw new Error(`no operation for ${method.path}`);
    return { name, method, operation, handler };
  });

/** The unary RPCs of some services, by name: what a pipeline or a batch can carry. */
export const unaryRpcs = (services: readonly Service[]): ReadonlyMap<string, UnaryRpc> =>
  new Map(
    services
      .flatMap(rpcsOf)
      .filter(({ method }) => !method.responseStream)
      .map((rpc) => [rpc.name, rpc as UnaryRpc]),
  );
