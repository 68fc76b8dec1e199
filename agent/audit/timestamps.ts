// Times of records, in microseconds of the host's clock. The clock tells whole milliseconds; the rest comes from the
// monotonic clock, whose distance to it is known from the start of the process and corrected by every millisecond seen.
// Invariant: the times of a log do not go backwards unless the clock was set back by more than a second, and but for
// waiting for that each is within the millisecond that the clock tells.
import type { Clock } from '../clock.ts';

/** Milliseconds with fractions, as `performance`. */
export interface MonotonicClock {
  readonly timeOrigin: number;
  now(): number;
}

const MILLISECOND = 1000; // everything here is in microseconds
const HELD = 1_000_000; // the clock may be behind by so much without being followed: a correction, not a setting

export class Timestamps {
  readonly #clock: Clock;
  readonly #monotonic: MonotonicClock;
  /** What the monotonic clock lacks to the host's. */
  #distance: number;
  #last = 0;
  #millisecond = Number.NaN;
  #prefix = '';

  constructor({ clock, monotonic = performance }: { readonly clock: Clock; readonly monotonic?: MonotonicClock }) {
    this.#clock = clock;
    this.#monotonic = monotonic;
    this.#distance = monotonic.timeOrigin * 1000;
  }

  /** "2026-11-24T07:26:37.123456Z" */
  next(): string {
    const time = this.#micros();
    const millisecond = Math.floor(time / MILLISECOND);
    if (millisecond !== this.#millisecond) {
      this.#millisecond = millisecond;
      this.#prefix = new Date(millisecond).toISOString().slice(0, -1);
    }
    return `${this.#prefix}${String(time % MILLISECOND).padStart(3, '0')}Z`;
  }

  #micros(): number {
    const first = Math.floor(this.#clock.now()) * MILLISECOND;
    const elapsed = this.#monotonic.now() * 1000;
    let time = Math.floor(elapsed + this.#distance);
    if (time < first || time >= first + MILLISECOND) {
      // Off by less than a millisecond, or the clock was set: the nearest time that agrees with the clock.
      time = time < first ? first : first + MILLISECOND - 1;
      this.#distance = time - elapsed;
    }
    if (time < this.#last && this.#last - time < HELD) return this.#last;
    this.#last = time;
    return time;
  }
}
