// One call from its headers to its status. Invariants: it has one end and one report of it; whatever ends it (client,
// revocation, drain) reaches its handler by one signal.
import { RegistryError } from '../errors.ts';
import type { Call, Caller } from './caller.ts';
import type { Connection, Cuttable } from './connections.ts';

export interface CallEvents {
  callFinished(event: {
    method: string;
    code: string;
    streams: boolean;
    durationMs: number;
    correlationId: string;
    client: string;
    error?: RegistryError;
  }): void;
}

export class CallContext implements Call, Cuttable {
  readonly method: string;
  readonly streams: boolean;
  readonly connection: Connection;
  readonly correlationId: string;
  readonly ended: Promise<void>;
  caller: Caller | undefined;
  readonly #startedAt = performance.now();
  readonly #abort = new AbortController();
  readonly #settle: () => void;
  #code: string | undefined;

  constructor(options: { method: string; streams: boolean; connection: Connection; correlationId: string }) {
    this.method = options.method;
    this.streams = options.streams;
    this.connection = options.connection;
    this.correlationId = options.correlationId;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#settle = resolve;
    this.connection.calls.add(this);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get isOver(): boolean {
    return this.#code !== undefined;
  }

  get durationMs(): number {
    return performance.now() - this.#startedAt;
  }

  abort(error: RegistryError): void {
    this.#abort.abort(error);
  }

  /** The error that the signal brought, if any. */
  get reason(): RegistryError | undefined {
    if (!this.signal.aborted) return undefined;
    const { reason } = this.signal;
    return reason instanceof RegistryError ? reason : new RegistryError('CANCELLED');
  }

  /** True the first time. */
  finish(code: string): boolean {
    if (this.#code !== undefined) return false;
    this.#code = code;
    this.connection.calls.delete(this);
    this.#settle();
    return true;
  }
}
