// One timer for the deadlines of all calls of an owner, set to the earliest. Most calls end long before theirs, so the
// timer fires rarely and a call costs no timer of its own.
import type { Clock } from './clock.ts';

const MAX_TIMER_MS = 2 ** 31 - 1;

export class Deadlines<T> {
  readonly #clock: Clock;
  readonly #calls: ReadonlySet<T>;
  readonly #expire: (call: T) => number;
  #timer: NodeJS.Timeout | undefined;
  #at = Number.POSITIVE_INFINITY;

  /** `expire` ends a call whose time has passed, or answers with the time at which it has to be looked at again. */
  constructor(of: { readonly clock: Clock; readonly calls: ReadonlySet<T>; readonly expire: (call: T) => number }) {
    this.#clock = of.clock;
    this.#calls = of.calls;
    this.#expire = of.expire;
  }

  /** Some call has to be looked at by this time. */
  watch(at: number): void {
    if (at >= this.#at) return;
    this.#at = at;
    clearTimeout(this.#timer);
    const waitMs = Math.min(MAX_TIMER_MS, Math.max(1, at - this.#clock.now()));
    this.#timer = setTimeout(() => this.#look(), waitMs);
    this.#timer.unref();
  }

  #look(): void {
    this.#at = Number.POSITIVE_INFINITY;
    let next = Number.POSITIVE_INFINITY;
    for (const call of [...this.#calls]) next = Math.min(next, this.#expire(call));
    if (next !== Number.POSITIVE_INFINITY) this.watch(next);
  }
}
