// A token bucket: `burst` at once, then `perSecond`. Holds two numbers; time is given, not read.

const MAX_WAIT_MS = 60_000; // what a caller is told, also for a rate of nearly nothing
const ROUNDING = 1e-6; // of a token: sums of small refills do not add up exactly

export interface BucketRate {
  readonly perSecond: number;
  readonly burst: number;
}

export class TokenBucket {
  #tokens: number;
  #at: number;

  constructor(rate: BucketRate, now: number) {
    this.#tokens = rate.burst;
    this.#at = now;
  }

  /** Takes one; answers 0, or the milliseconds until one will be there. The rate may change between calls. */
  take(rate: BucketRate, now: number): number {
    // A clock that was set back must not stop the refill for ever.
    const elapsedMs = Math.max(0, now - this.#at);
    this.#tokens = Math.min(rate.burst, this.#tokens + (elapsedMs * rate.perSecond) / 1000);
    this.#at = now;
    if (this.#tokens >= 1 - ROUNDING) {
      this.#tokens = Math.max(0, this.#tokens - 1);
      return 0;
    }
    return Math.min(MAX_WAIT_MS, Math.ceil(((1 - this.#tokens - ROUNDING) * 1000) / rate.perSecond));
  }

  /** Gives one back. */
  give(rate: BucketRate): void {
    this.#tokens = Math.min(rate.burst, this.#tokens + 1);
  }
}
