// One call from its headers to its last byte: deadline, abort signal, caller, and when it is over. Invariants: its end
// is reported once; it counts as under way until its handler has settled and its answer was taken up, so that a drain
// waits for both.
import { AgentError } from '../errors.ts';
import type { Call, Caller } from '../operations/ports/call.ts';
import type { Connection } from './connections.ts';

export interface CallEvents {
  callFinished(event: {
    method: string;
    code: string;
    startedAt: number;
    correlationId: string;
    tenant: string | undefined;
    error?: AgentError;
  }): void;
}

export interface CallOptions {
  readonly method: string;
  /** Health and reflection: their ends are all the same to us. */
  readonly foreign: boolean;
  readonly connection: Connection;
  readonly correlationId: string;
  /** Milliseconds since 1970. */
  readonly deadline: number;
  readonly deadlineInMs: number;
  readonly answerMs: number;
  readonly events: CallEvents;
  /** Sends the error to the client, also where the handler does not react to the signal. */
  readonly answer: (error: AgentError) => void;
  readonly gone: (context: CallContext) => void;
}

export class CallContext {
  readonly method: string;
  readonly connection: Connection;
  readonly correlationId: string;
  readonly deadline: number;
  caller: Caller | undefined;
  /** A handler has it and will settle it. Health and reflection have handlers of their own, which do not. */
  handled = false;
  readonly #options: CallOptions;
  readonly #startedAt = performance.now();
  readonly #abort = new AbortController();
  readonly #expiry: NodeJS.Timeout | undefined;
  #stall: NodeJS.Timeout | undefined;
  #unreadBytes = 0;
  #drain: AgentError | undefined;
  #onDrain: ((error: AgentError) => void) | undefined;
  #settled = false;
  #over = false;

  constructor(options: CallOptions) {
    this.method = options.method;
    this.connection = options.connection;
    this.correlationId = options.correlationId;
    this.deadline = options.deadline;
    this.#options = options;
    if (options.deadlineInMs === Number.POSITIVE_INFINITY) return;
    this.#expiry = setTimeout(() => this.end(new AgentError('DEADLINE_EXCEEDED')), options.deadlineInMs);
    this.#expiry.unref();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The value that goes down into the operations. */
  call(): Call {
    if (this.caller === undefined) throw new AgentError('UNAUTHENTICATED');
    const { correlationId, caller, deadline, signal } = this;
    return { correlationId, caller, peer: this.connection.peer, deadline, signal };
  }

  /** An answer goes out: from now on the client is expected to read. */
  answering(bytes: number): void {
    if (this.#over) return;
    this.#unreadBytes += bytes;
    this.connection.unreadBytes += bytes;
    if (this.#stall === undefined) this.#expectReading();
  }

  /** The client has taken up so much of what was sent, by default all of it. */
  taken(upTo = this.#unreadBytes): void {
    const bytes = Math.min(upTo, this.#unreadBytes);
    this.connection.unreadBytes -= bytes;
    this.#unreadBytes -= bytes;
    clearTimeout(this.#stall);
    this.#stall = undefined;
    if (this.#unreadBytes > 0) this.#expectReading();
  }

  /** What a stream does when the agent is to stop; other calls are left to end by themselves. */
  onDrain(act: (error: AgentError) => void): void {
    this.#onDrain = act;
    if (this.#drain !== undefined) act(this.#drain);
  }

  drain(error: AgentError): void {
    this.#drain = error;
    this.#onDrain?.(error);
  }

  /** The handler has ended, well or not. */
  settled(error?: AgentError): void {
    if (this.#settled) return;
    this.#settled = true;
    clearTimeout(this.#expiry);
    this.#options.events.callFinished({
      method: this.method,
      code: error?.code ?? 'ok',
      startedAt: this.#startedAt,
      correlationId: this.correlationId,
      tenant: this.caller?.tenant,
      ...(error && { error }),
    });
    if (this.#over) this.#options.gone(this);
  }

  /** grpc-js has sent the last byte, or the client has gone away. */
  over(): void {
    if (this.#over) return;
    this.#over = true;
    this.taken();
    this.abort(new AgentError('CANCELLED'));
    if (this.#settled) this.#options.gone(this);
    else if (!this.handled) this.settled(this.#options.foreign ? undefined : (this.signal.reason as AgentError));
  }

  abort(error: AgentError): void {
    if (!this.#settled) this.#abort.abort(error);
  }

  /** Answers for the handler, which may go on but is no longer heard. */
  end(error: AgentError): void {
    this.abort(error);
    if (!this.#over) this.#options.answer(error);
  }

  #expectReading(): void {
    this.#stall = setTimeout(() => this.connection.cut('SLOW_READER'), this.#options.answerMs);
    this.#stall.unref();
  }
}
