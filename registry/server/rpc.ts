// The RPCs of a service as ts-proto defines it, each with its handler and its rule, as grpc-js takes them.
import type { UntypedHandleCall } from '@grpc/grpc-js';
import type { Call } from './caller.ts';
import { Encoded } from './message.ts';
import { RULES, type Rule } from './rules.ts';

interface Method<Request = unknown, Response = unknown> {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  requestDeserialize(bytes: Buffer): Request;
  responseSerialize(response: Response): Buffer;
}

/** The handlers of a service: promises, or asynchronous iterables where requests or responses stream. */
export type Handlers<Service> = {
  readonly [Name in keyof Service]: Service[Name] extends {
    requestStream: infer Requests;
    responseStream: infer Responses;
    requestDeserialize(bytes: Buffer): infer Request;
    responseSerialize(response: infer Response): Buffer;
  }
    ? (
        call: Call,
        request: Requests extends true ? AsyncIterable<Request> : Request,
      ) => Responses extends true ? AsyncIterable<Response | Encoded> : Promise<Response>
    : never;
};

export interface Rpc {
  readonly method: Method;
  readonly rule: Rule;
  readonly handler: (call: Call, request: unknown) => Promise<unknown> | AsyncIterable<unknown>;
}

export interface Service {
  readonly definition: object;
  readonly handlers: object;
}

/** The pair, with the check that the handlers are those of the definition. */
export const service = <Definition extends object>(
  definition: Definition,
  handlers: Handlers<Definition>,
): Service => ({ definition, handlers });

/** Fails where an RPC lacks its handler or its rule. */
const rpcOf = (name: string, method: Method, handlers: object): Rpc => {
  const handler = (handlers as Record<string, Rpc['handler']>)[name];
  const rule = RULES[method.path];
  if (handler === undefined || rule === undefined) throw new Error(`no handler or no rule for ${method.path}`);
  return { method, rule, handler };
};

const raw = (bytes: Buffer): Buffer => bytes;

/** Requests come as bytes, so that a malformed one is a refusal of ours like any other; answers may go as bytes. */
export const bindService = (
  { definition, handlers }: Service,
  handle: (rpc: Rpc) => UntypedHandleCall,
): { readonly definition: object; readonly implementation: Record<string, UntypedHandleCall> } => {
  const rows = Object.entries(definition).map(([name, method]: [string, Method]) => {
    const rpc = rpcOf(name, method, handlers);
    const responseSerialize = (response: unknown): Buffer =>
      response instanceof Encoded ? response.bytes : method.responseSerialize(response);
    return { name, method: { ...method, requestDeserialize: raw, responseSerialize }, handler: handle(rpc) };
  });
  return {
    definition: Object.fromEntries(rows.map(({ name, method }) => [name, method])),
    implementation: Object.fromEntries(rows.map(({ name, handler }) => [name, handler])),
  };
};
