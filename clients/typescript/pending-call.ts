// One attempt of an operation on its way through a pipeline. Invariant: it settles exactly once; whether it was handed
// to the agent is known at any time.
import { MortiseError } from './errors.ts';
import type { RequestOf, UnaryName } from './methods.ts';

/** What an attempt needs besides its name and request. */
export interface Attempt {
  readonly correlationId: string;
  /** Milliseconds since 1970. */
  readonly deadline: number;
  readonly token: string | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Why an attempt failed that the agent has never seen, so that it may be made again whatever the operation.
 * `refused`: the agent takes no pipeline at present, a call of its own may fare better.
 */
export class Unsent extends Error {
  readonly error: MortiseError;
  readonly refused: boolean;

  constructor(error: MortiseError, refused = false) {
    super(error.message, { cause: error });
    this.error = error;
    this.refused = refused;
  }
}

export const cancelled = (correlationId?: string): MortiseError =>
  new MortiseError('CANCELLED', { message: 'the call was aborted', ...(correlationId && { correlationId }) });

const tooLate = (correlationId: string): MortiseError =>
  new MortiseError('DEADLINE_EXCEEDED', { message: 'the agent did not answer before the deadline', correlationId });

interface Outcome {
  resolve(response: unknown): void;
  reject(error: unknown): void;
}

export class PendingCall {
  readonly name: UnaryName;
  readonly request: RequestOf<UnaryName>;
  readonly attempt: Attempt;
  /** 0 until it is sent. */
  sequence = 0;
  /** Let go of when it is settled: V8 may keep a dead call for long, and all that waited for it. */
  #outcome: Outcome | undefined;
  #abort: (() => void) | undefined;

  constructor(of: {
    readonly name: UnaryName;
    readonly request: RequestOf<UnaryName>;
    readonly attempt: Attempt;
    readonly outcome: Outcome;
    readonly aborted: (call: PendingCall) => void;
  }) {
    this.name = of.name;
    this.request = of.request;
    this.attempt = of.attempt;
    this.#outcome = of.outcome;
    if (of.attempt.signal === undefined) return;
    this.#abort = () => {
      this.reject(cancelled(this.attempt.correlationId));
      of.aborted(this);
    };
    of.attempt.signal.addEventListener('abort', this.#abort, { once: true });
  }

  get isSettled(): boolean {
    return this.#outcome === undefined;
  }

  resolve(response: unknown): void {
    this.#settle()?.resolve(response);
  }

  reject(error: unknown): void {
    this.#settle()?.reject(error);
  }

  /** Fails where its time has passed; answers with the time at which it has to be looked at again. */
  expire(now: number): number {
    if (this.isSettled) return Number.POSITIVE_INFINITY;
    if (now < this.attempt.deadline) return this.attempt.deadline;
    this.reject(tooLate(this.attempt.correlationId));
    return Number.POSITIVE_INFINITY;
  }

  #settle(): Outcome | undefined {
    const outcome = this.#outcome;
    if (this.#abort !== undefined) this.attempt.signal?.removeEventListener('abort', this.#abort);
    this.#outcome = undefined;
    this.#abort = undefined;
    return outcome;
  }
}
