// The first steps of every call, in one interceptor: connection and peer → limits → deadline → authenticate. Invariant:
// they are done when the headers are there and before the body is read, so a stranger cannot make the agent hold data.
import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  type ServerMethodDefinition,
} from '@grpc/grpc-js';
import type { Clock } from '../clock.ts';
import { AgentError, asAgentError } from '../errors.ts';
import type { Authentication } from './authentication.ts';
import { CallContext, type CallEvents } from './call-context.ts';
import { authorizationOf, correlationIdOf, metadataBytes } from './call-metadata.ts';
import type { Connection, Connections } from './connections.ts';
import type { ServerLimits } from './limits.ts';
import { operationOf } from './operation-of.ts';
import { grpcStatusOf } from './status.ts';

type Definition = ServerMethodDefinition<unknown, unknown>;

export interface AdmissionParts {
  readonly connections: Connections;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  readonly events: CallEvents;
  readonly authentication: Authentication;
}

export class Admission {
  readonly #parts: AdmissionParts;
  /** grpc-js hands the metadata object of an admitted call on to its handler, and nothing else of ours. */
  readonly #contexts = new WeakMap<Metadata, CallContext>();
  readonly #underWay = new Set<CallContext>();
  #idle: (() => void) | undefined;
  #draining = false;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  readonly interceptor: ServerInterceptor = (method, call) => {
    let context: CallContext | undefined;
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, admitted) => {
            context = this.#begin(method, call, metadata);
            if (context === undefined) return;
            if (operationOf(method.path) !== undefined) void this.#authenticate(context, call, metadata, admitted);
            else admitted(metadata);
          },
          onCancel: () => context?.over(),
        }),
    });
  };

  /** The context of an admitted call, for the handler that now takes it over and will settle it. */
  take(metadata: Metadata): CallContext {
    const context = this.#contexts.get(metadata);
    if (context === undefined) throw new Error('the call was not admitted');
    context.handled = true;
    return context;
  }

  /** New calls are refused; streams are told to end. Resolves when no call of a caller is under way. */
  async drain(): Promise<void> {
    this.#draining = true;
    for (const context of this.#underWay) {
      context.drain(new AgentError('SHUTTING_DOWN'));
    }
    if (this.#isIdle()) return;
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
  }

  /** What is still under way is told that nobody waits for it any longer. */
  abortAll(): void {
    for (const context of this.#underWay) context.abort(new AgentError('SHUTTING_DOWN'));
  }

  /** Answers what is left: calls of handlers that did not react, and the open streams of health and reflection. */
  endAll(): void {
    for (const context of this.#underWay) context.end(new AgentError('SHUTTING_DOWN'));
  }

  #begin(method: Definition, call: ServerInterceptingCallInterface, metadata: Metadata): CallContext | undefined {
    const connection = this.#parts.connections.of(call.getPeer());
    const correlationId = correlationIdOf(metadata);
    const refusal = this.#refusal(connection, metadata);
    if (connection === undefined || refusal !== undefined) {
      connection?.heard();
      call.sendStatus(grpcStatusOf(refusal ?? new AgentError('UNAUTHENTICATED'), correlationId));
      return undefined;
    }
    connection.heard();
    const now = this.#parts.clock.now();
    const deadlineInMs = this.#deadlineInMs(method, call, now);
    const context = new CallContext({
      method: method.path,
      foreign: operationOf(method.path) === undefined,
      connection,
      correlationId,
      deadline: now + deadlineInMs,
      deadlineInMs,
      answerMs: this.#parts.limits.answerMs,
      events: this.#parts.events,
      answer: (error) => call.sendStatus(grpcStatusOf(error, correlationId)),
      gone: (gone) => this.#gone(gone),
    });
    this.#contexts.set(metadata, context);
    this.#underWay.add(context);
    return context;
  }

  #refusal(connection: Connection | undefined, metadata: Metadata): AgentError | undefined {
    const { limits } = this.#parts;
    if (this.#draining) return new AgentError('SHUTTING_DOWN');
    if (metadataBytes(metadata) > limits.maxMetadataBytes) {
      return new AgentError('TOO_LARGE', { message: `the metadata is larger than ${limits.maxMetadataBytes} bytes` });
    }
    if (connection !== undefined && connection.unreadBytes > limits.maxUnreadBytes) return new AgentError('OVERLOADED');
    return undefined;
  }

  #deadlineInMs(method: Definition, call: ServerInterceptingCallInterface, now: number): number {
    const { defaultDeadlineMs, maxDeadlineMs, maxStreamDeadlineMs } = this.#parts.limits;
    const asked = Number(call.getDeadline()) - now; // the client's is a duration on the wire: no clock to compare
    // A pipeline has a deadline for each operation, and ends by itself where it carries none for long.
    if (operationOf(method.path) === 'pipeline') return Math.max(0, asked);
    const longest = method.responseStream ? maxStreamDeadlineMs : maxDeadlineMs;
    if (!Number.isFinite(asked)) return method.responseStream ? longest : Math.min(defaultDeadlineMs, longest);
    return Math.max(0, Math.min(asked, longest));
  }

  async #authenticate(
    context: CallContext,
    call: ServerInterceptingCallInterface,
    metadata: Metadata,
    admitted: (metadata: Metadata) => void,
  ): Promise<void> {
    const { correlationId, connection, method } = context;
    try {
      context.caller = await this.#parts.authentication.callerOf({
        peer: connection.peer,
        authorization: authorizationOf(metadata),
        operation: operationOf(method) ?? method,
        correlationId,
      });
    } catch (thrown) {
      const error = asAgentError(thrown);
      call.sendStatus(grpcStatusOf(error, correlationId));
      context.settled(error);
      return;
    }
    admitted(metadata);
  }

  #gone(context: CallContext): void {
    this.#underWay.delete(context);
    if (this.#idle !== undefined && this.#isIdle()) this.#idle();
  }

  /** Health and reflection hold nothing that a shutdown would have to wait for. */
  #isIdle(): boolean {
    return [...this.#underWay].every((context) => operationOf(context.method) === undefined);
  }
}
