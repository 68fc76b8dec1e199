// A bounded number of worker threads, and a queue of calls that wait for one. Invariant: tenants take turns, so that one
// tenant's slow signatures delay another's by one task and not by all of them.
import { availableParallelism } from 'node:os';
import type { Clock } from '../../clock.ts';
import { AgentError } from '../../errors.ts';
import { type SlowCall, SlowWorker, watchCall } from './slow-worker.ts';
import type { SlowTask } from './tasks.ts';

const MAX_WORKERS = 4;
const MAX_WAITING_PER_TENANT = 64; // minutes of the slowest signature

/** One core stays free for the event loop. */
const defaultSize = (): number => Math.max(1, Math.min(MAX_WORKERS, availableParallelism() - 1));

interface Waiter {
  readonly take: (worker: SlowWorker) => void;
  readonly fail: (error: AgentError) => void;
}

export type Ask = (task: SlowTask) => Promise<Uint8Array<ArrayBuffer>>;

export class WorkerPool {
  readonly #clock: Clock;
  readonly #free: SlowWorker[];
  readonly #all: readonly SlowWorker[];
  readonly #maxWaiting: number;
  /** By tenant, the one whose turn is next first. */
  readonly #waiting = new Map<string, Waiter[]>();
  #closed = false;

  constructor(options: { readonly clock: Clock; readonly size?: number; readonly maxWaitingPerTenant?: number }) {
    const { clock, size = defaultSize(), maxWaitingPerTenant = MAX_WAITING_PER_TENANT } = options;
    this.#clock = clock;
    this.#maxWaiting = maxWaitingPerTenant;
    this.#all = Array.from({ length: size }, () => new SlowWorker({ clock }));
    this.#free = [...this.#all];
  }

  /**
   * Waits for a thread, then runs `use` with it; so what `use` brings into memory is there no longer than the work takes.
   * OVERLOADED where too many calls of the tenant wait, DEADLINE_EXCEEDED and CANCELLED as the call ends.
   */
  async run<T>(call: SlowCall, use: (ask: Ask) => Promise<T>): Promise<T> {
    const worker = await this.#acquire(call);
    try {
      return await use((task) => worker.ask(task, call));
    } finally {
      this.#release(worker);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const waiters = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    for (const { fail } of waiters) fail(new AgentError('SHUTTING_DOWN'));
    await Promise.all(this.#all.map((worker) => worker.close()));
  }

  async #acquire(call: SlowCall): Promise<SlowWorker> {
    if (this.#closed) throw new AgentError('SHUTTING_DOWN');
    if (call.signal.aborted) throw new AgentError('CANCELLED');
    if (this.#clock.now() >= call.deadline) throw new AgentError('DEADLINE_EXCEEDED');
    return this.#free.pop() ?? (await this.#wait(call));
  }

  #wait(call: SlowCall): Promise<SlowWorker> {
    const queue = this.#waiting.get(call.tenant) ?? [];
    if (queue.length >= this.#maxWaiting) {
      throw new AgentError('OVERLOADED', { message: 'too many slow signatures of this tenant wait' });
    }
    return new Promise((resolve, reject) => {
      const end = (act: () => void): void => {
        unwatch();
        act();
      };
      const waiter: Waiter = {
        take: (worker) => end(() => resolve(worker)),
        fail: (error) => end(() => reject(error)),
      };
      const unwatch = watchCall(call, this.#clock, (code) => {
        this.#leave(call.tenant, waiter);
        waiter.fail(new AgentError(code));
      });
      queue.push(waiter);
      this.#waiting.set(call.tenant, queue);
    });
  }

  #leave(tenant: string, waiter: Waiter): void {
    const left = (this.#waiting.get(tenant) ?? []).filter((row) => row !== waiter);
    if (left.length === 0) this.#waiting.delete(tenant);
    else this.#waiting.set(tenant, left);
  }

  #release(worker: SlowWorker): void {
    const next = this.#waiting.entries().next().value;
    if (next === undefined) {
      this.#free.push(worker);
      return;
    }
    const [tenant, [first, ...others]] = next;
    this.#waiting.delete(tenant);
    if (others.length > 0) this.#waiting.set(tenant, others); // to the end: the others' turn comes first
    (first as Waiter).take(worker);
  }
}
