// Times of records: the clock's millisecond, and the microseconds since this millisecond was first seen. Invariant:
// times of one process do not go backwards while its clock does not.
import type { Clock } from '../clock.ts';

export class Timestamps {
  readonly #clock: Clock;
  #millisecond = Number.NaN;
  #seenAt = 0;
  #prefix = '';

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** "2026-11-24T07:26:37.123456Z" */
  next(): string {
    const millisecond = Math.floor(this.#clock.now());
    if (millisecond !== this.#millisecond) {
      this.#millisecond = millisecond;
      this.#seenAt = performance.now();
      this.#prefix = new Date(millisecond).toISOString().slice(0, -1);
      return `${this.#prefix}000Z`;
    }
    const micros = Math.min(999, Math.floor((performance.now() - this.#seenAt) * 1000));
    return `${this.#prefix}${String(micros).padStart(3, '0')}Z`;
  }
}
