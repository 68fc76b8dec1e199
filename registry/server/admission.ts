// What every call passes: a connection, a caller, a right, and at its end one status and one report. Invariants: a handler
// runs only for a caller that its rule admits; a refusal of somebody who is known is told to the audit trail.
import { randomUUID } from 'node:crypto';
import type {
  ServerDuplexStream,
  ServerUnaryCall,
  ServerWritableStream,
  sendUnaryData,
  UntypedHandleCall,
} from '@grpc/grpc-js';
import { grpcStatusOf } from '../../agent/server/status.ts';
import { asRegistryError, RegistryError } from '../errors.ts';
import { CallContext, type CallEvents } from './call-context.ts';
import type { Caller } from './caller.ts';
import { type Connection, type Connections, clientOf } from './connections.ts';
import type { ServerLimits } from './limits.ts';
import { decodeMessage } from './message.ts';
import type { Claims } from './peer.ts';
import type { Rpc } from './rpc.ts';
import type { Rule } from './rules.ts';
import { requestsOf, writeMessage } from './streams.ts';

export interface AdmissionEvents extends CallEvents {
  refused(event: { method: string; code: string; client: string; correlationId: string; reason: string }): void;
}

/** A caller that is known was refused; goes to the audit trail. Never rejects. */
export type RecordRefusal = (refusal: {
  readonly method: string;
  readonly caller: Caller;
  readonly code: string;
  readonly correlationId: string;
}) => Promise<void>;

export interface AdmissionParts {
  readonly connections: Connections;
  readonly limits: ServerLimits;
  readonly events: AdmissionEvents;
  /** UNAUTHENTICATED or HOST_REVOKED where they are nobody's, or nobody's any more. */
  readonly callerOf: (claims: Claims) => Promise<Caller>;
  readonly recordRefusal: RecordRefusal;
}

type AnyCall =
  | ServerUnaryCall<Buffer, unknown>
  | ServerWritableStream<Buffer, unknown>
  | ServerDuplexStream<Buffer, unknown>;

const CORRELATION_ID = /^[\x21-\x7e]{1,128}$/;
const REFUSALS = ['UNAUTHENTICATED', 'ENROLMENT_REFUSED', 'HOST_REVOKED', 'PERMISSION_DENIED'];

const permits = (rule: Rule, caller: Caller): boolean => {
  if (rule.who === 'anyone' || rule.who === 'known') return true;
  if (caller.kind === 'host') return rule.who !== 'admin';
  return rule.who !== 'host' && rule.scopes.some((scope) => caller.scopes.includes(scope));
};

export class Admission {
  readonly #parts: AdmissionParts;
  readonly #open = new Set<CallContext>();
  #draining = false;
  #emptied: (() => void) | undefined;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  /** A handler of grpc-js for the RPC. */
  handle(rpc: Rpc): UntypedHandleCall {
    const { requestStream, responseStream } = rpc.method;
    if (responseStream || requestStream) {
      return ((call: AnyCall) => void this.#stream(rpc, call)) as UntypedHandleCall;
    }
    return ((call: ServerUnaryCall<Buffer, unknown>, callback: sendUnaryData<unknown>) =>
      void this.#unary(rpc, call, callback)) as UntypedHandleCall;
  }

  /** New calls are refused, streams end; resolves when no call is under way. */
  async drain(): Promise<void> {
    this.#draining = true;
    for (const context of this.#open) if (context.streams) context.abort(new RegistryError('SHUTTING_DOWN'));
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#emptied = resolve;
    });
  }

  abortAll(): void {
    for (const context of this.#open) context.abort(new RegistryError('SHUTTING_DOWN'));
  }

  async #unary(rpc: Rpc, call: ServerUnaryCall<Buffer, unknown>, callback: sendUnaryData<unknown>): Promise<void> {
    const context = this.#begin(rpc, call);
    if (context === undefined) return callback(grpcStatusOf(new RegistryError('UNAUTHENTICATED'), '-'));
    const late = setTimeout(
      () => context.abort(new RegistryError('DEADLINE_EXCEEDED')),
      this.#parts.limits.defaultDeadlineMs,
    );
    try {
      await this.#admit(rpc, context);
      const answer = await rpc.handler(context, decodeMessage(rpc.method, call.request));
      if (this.#finish(context)) callback(null, answer);
    } catch (thrown) {
      const error = this.#errorOf(context, thrown);
      if (await this.#refuse(context, error)) callback(grpcStatusOf(error, context.correlationId));
    } finally {
      clearTimeout(late);
    }
  }

  async #stream(rpc: Rpc, call: AnyCall): Promise<void> {
    const writable = call as ServerDuplexStream<Buffer, unknown>;
    const context = this.#begin(rpc, call);
    if (context === undefined) {
      writable.emit('error', grpcStatusOf(new RegistryError('UNAUTHENTICATED'), '-'));
      return;
    }
    const { maxUnhandled, answerMs } = this.#parts.limits;
    try {
      await this.#admit(rpc, context);
      const request = rpc.method.requestStream
        ? requestsOf(writable, rpc.method, { context, maxUnhandled })
        : decodeMessage(rpc.method, (call as ServerWritableStream<Buffer, unknown>).request);
      for await (const message of rpc.handler(context, request) as AsyncIterable<unknown>) {
        await writeMessage(writable, message, context, answerMs);
      }
      if (context.reason !== undefined) throw context.reason;
      if (this.#finish(context)) writable.end();
    } catch (thrown) {
      const error = this.#errorOf(context, thrown);
      if (await this.#refuse(context, error)) writable.emit('error', grpcStatusOf(error, context.correlationId));
    }
  }

  /** Undefined where the connection is gone already. */
  #begin({ method }: Rpc, call: AnyCall): CallContext | undefined {
    const connection = this.#parts.connections.of(call.getPeer());
    if (connection === undefined) return undefined;
    connection.heard();
    const given = String(call.metadata.get('x-correlation-id')[0] ?? '');
    const correlationId = CORRELATION_ID.test(given) ? given : randomUUID();
    const streams = method.requestStream || method.responseStream;
    const context = new CallContext({ method: method.path, streams, connection, correlationId });
    this.#open.add(context);
    (call as ServerUnaryCall<Buffer, unknown>).on('cancelled', () => context.abort(new RegistryError('CANCELLED')));
    return context;
  }

  async #admit({ rule }: Rpc, context: CallContext): Promise<void> {
    if (this.#draining) throw new RegistryError('SHUTTING_DOWN');
    if (rule.who === 'anyone') return;
    context.caller = await this.#callerOf(context.connection);
    if (context.reason !== undefined) throw context.reason;
    if (!permits(rule, context.caller)) throw new RegistryError('PERMISSION_DENIED');
  }

  async #callerOf({ peer }: Connection): Promise<Caller> {
    if (peer.claims !== undefined) return this.#parts.callerOf(peer.claims);
    const cause = peer.problem === undefined ? undefined : new Error(peer.problem);
    throw new RegistryError('UNAUTHENTICATED', { cause });
  }

  /** What ended the call counts more than what its handler made of it. */
  #errorOf(context: CallContext, thrown: unknown): RegistryError {
    const error = asRegistryError(thrown);
    return error.code === 'INTERNAL' || error.code === 'CANCELLED' ? (context.reason ?? error) : error;
  }

  async #refuse(context: CallContext, error: RegistryError): Promise<boolean> {
    const { method, caller, correlationId, connection } = context;
    if (REFUSALS.includes(error.code)) {
      const reason = error.cause instanceof Error ? error.cause.message : error.message;
      this.#parts.events.refused({
        method,
        code: error.code,
        client: clientOf(connection.peer),
        correlationId,
        reason,
      });
      if (caller !== undefined) await this.#parts.recordRefusal({ method, caller, code: error.code, correlationId });
    }
    return this.#finish(context, error);
  }

  #finish(context: CallContext, error?: RegistryError): boolean {
    const code = error?.code ?? 'ok';
    if (!context.finish(code)) return false;
    const { method, streams, durationMs, correlationId, connection } = context;
    const client = clientOf(connection.peer);
    this.#parts.events.callFinished({
      method,
      code,
      streams,
      durationMs,
      correlationId,
      client,
      ...(error && { error }),
    });
    this.#open.delete(context);
    if (this.#draining && this.#open.size === 0) this.#emptied?.();
    return true;
  }
}
