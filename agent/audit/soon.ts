// Checkpoints that somebody waits for. Invariant: however many ask, the token signs for one tenant at a time, and for
// the same tenant at most once in the interval.
import type { AgentError } from '../errors.ts';

interface Due {
  readonly promise: Promise<void>;
}

export class SoonCheckpoints {
  readonly #sign: (tenant: string) => Promise<unknown>;
  readonly #intervalMs: number;
  readonly #closed: () => AgentError;
  /** Not begun yet, so what is committed by now will be covered. */
  readonly #due = new Map<string, Due>();
  readonly #lastAt = new Map<string, number>();
  readonly #timers = new Map<NodeJS.Timeout, () => void>();
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(options: {
    readonly intervalMs: number;
    sign(tenant: string): Promise<unknown>;
    /** What those are told who wait when it closes. */
    closed(): AgentError;
  }) {
    this.#intervalMs = options.intervalMs;
    this.#sign = (tenant) => options.sign(tenant);
    this.#closed = () => options.closed();
  }

  /** Resolves when a checkpoint covers what is committed now; rejects where it could not be signed. */
  after(tenant: string): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.#closed());
    const known = this.#due.get(tenant);
    if (known !== undefined) return known.promise;
    const promise = this.#make(tenant);
    promise.catch(() => undefined); // who asked may have gone
    this.#due.set(tenant, { promise });
    return promise;
  }

  close(): void {
    this.#isClosed = true;
    for (const [timer, wake] of this.#timers) {
      clearTimeout(timer);
      wake();
    }
    this.#timers.clear();
  }

  async #make(tenant: string): Promise<void> {
    const last = this.#lastAt.get(tenant);
    const waitMs = last === undefined ? 0 : last + this.#intervalMs - performance.now();
    if (waitMs > 0) await this.#pause(waitMs);
    const turn = this.#turn.then(async () => {
      this.#due.delete(tenant);
      if (this.#isClosed) throw this.#closed();
      this.#remember(tenant);
      await this.#sign(tenant);
    });
    this.#turn = turn.catch(() => undefined);
    await turn;
  }

  /** Tenants whose interval is over need no entry. */
  #remember(tenant: string): void {
    const now = performance.now();
    for (const [name, at] of this.#lastAt) {
      if (now - at < this.#intervalMs) break;
      this.#lastAt.delete(name);
    }
    this.#lastAt.delete(tenant);
    this.#lastAt.set(tenant, now);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        resolve();
      }, ms);
      timer.unref();
      this.#timers.set(timer, resolve);
    });
  }
}
