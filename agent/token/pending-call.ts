// One call to the token while it waits, is in flight, or is tried again. It is settled exactly once.
import { AgentError } from '../errors.ts';
import { type RequestName, type RequestRow, request } from './requests.ts';

/** How a request to the token is queued and bounded; the same shape as in the operations' ports. */
export interface TokenCall {
  readonly tenant: string;
  readonly deadline: number;
  readonly signal: AbortSignal;
}

interface Asker {
  resolve(fields: Buffer[]): void;
  reject(error: AgentError): void;
  onSettled(call: PendingCall, outcome: string, detail?: string): void;
  readonly signal: AbortSignal;
  cancelled(): void;
}

export class PendingCall {
  readonly name: RequestName;
  readonly row: RequestRow;
  readonly tenant: string;
  readonly deadline: number;
  /** The time at which it stops waiting for a session. */
  readonly waitUntil: number;
  /** Which kind of service time it has: the request, with the JOSE name where there is one. */
  readonly costKey: string;
  readonly queuedAt = performance.now();
  sentAt = 0;
  attempts = 0;
  serviceMs = 0;
  /** Of `serviceMs`, what the thread was on a processor; undefined where the call failed. */
  computingMs: number | undefined;
  /** Of `serviceMs`, what it waited for a processor. */
  starvedMs = 0;
  #fields: readonly Buffer[];
  /** Whom it answers. Let go of when it is settled, because V8 may keep a dead call for long (docs/performance.md). */
  #asker: Asker | undefined;

  constructor(of: {
    readonly name: RequestName;
    readonly fields: readonly Buffer[];
    readonly call: TokenCall;
    readonly waitUntil: number;
    readonly resolve: (fields: Buffer[]) => void;
    readonly reject: (error: AgentError) => void;
    readonly onSettled: (call: PendingCall, outcome: string, detail?: string) => void;
  }) {
    this.name = of.name;
    this.row = request(of.name);
    this.tenant = of.call.tenant;
    this.deadline = of.call.deadline;
    this.waitUntil = of.waitUntil;
    this.#fields = of.fields;
    this.costKey = of.name === 'sign' ? `sign ${of.fields[1]?.toString('latin1') ?? ''}` : of.name;
    const { resolve, reject, onSettled } = of;
    const { signal } = of.call;
    const cancelled = (): void => this.reject(new AgentError('CANCELLED'));
    this.#asker = { resolve, reject, onSettled, signal, cancelled };
    signal.addEventListener('abort', cancelled, { once: true });
  }

  get fields(): readonly Buffer[] {
    return this.#fields;
  }
  get settled(): boolean {
    return this.#asker === undefined;
  }

  resolve(fields: Buffer[]): void {
    const asker = this.#take();
    if (asker === undefined) {
      for (const field of fields) field.fill(0); // nobody waits for it any more
      return;
    }
    asker.resolve(fields);
    asker.onSettled(this, 'ok');
  }

  reject(error: AgentError): void {
    const asker = this.#take();
    if (asker === undefined) return;
    asker.reject(error);
    asker.onSettled(this, error.code, error.cause instanceof Error ? error.cause.message : undefined);
  }

  #take(): Asker | undefined {
    const asker = this.#asker;
    this.#asker = undefined;
    this.#fields = [];
    asker?.signal.removeEventListener('abort', asker.cancelled);
    return asker;
  }
}
