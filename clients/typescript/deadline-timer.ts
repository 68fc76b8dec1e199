// One timer for the deadlines of all calls, set to the earliest: most calls end long before theirs. It keeps no process
// alive.
const MAX_TIMER_MS = 2 ** 31 - 1;

export class DeadlineTimer {
  readonly #look: (now: number) => number;
  #timer: NodeJS.Timeout | undefined;
  #at = Number.POSITIVE_INFINITY;

  /** `look` ends the calls whose time has passed, and answers with the earliest deadline of those that are left. */
  constructor(look: (now: number) => number) {
    this.#look = look;
  }

  /** Some call has to be looked at by this time. */
  watch(at: number): void {
    if (at >= this.#at) return;
    this.#at = at;
    clearTimeout(this.#timer);
    const waitMs = Math.min(MAX_TIMER_MS, Math.max(1, at - Date.now()));
    this.#timer = setTimeout(() => {
      this.#at = Number.POSITIVE_INFINITY;
      const next = this.#look(Date.now());
      if (next !== Number.POSITIVE_INFINITY) this.watch(next);
    }, waitMs);
    this.#timer.unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}
