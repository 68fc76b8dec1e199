// Calls to an agent that may be busy or away: waits as long as it asks, tries again, and tells the throttle what it saw.
import { isMortiseError } from './stays.ts';
import type { Clock, Throttle } from './throttle.ts';

/** Attempts at one call, half a minute in all, before the run ends, to be taken up later. */
const MAX_ATTEMPTS = 12;

export class Patience {
  readonly signal: AbortSignal;
  readonly #throttle: Throttle;
  readonly #clock: Clock;

  constructor(input: { readonly throttle: Throttle; readonly clock: Clock; readonly signal: AbortSignal }) {
    this.#throttle = input.throttle;
    this.#clock = input.clock;
    this.signal = input.signal;
  }

  /** `kind`: calls whose latencies can be compared; undefined: not to be measured. */
  async call<T>(kind: string | undefined, act: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      const startedAt = this.#clock.now();
      try {
        const result = await act();
        if (kind !== undefined) this.#throttle.done(kind, this.#clock.now() - startedAt);
        return result;
      } catch (error) {
        if (!isMortiseError(error) || !error.retryable || attempt >= MAX_ATTEMPTS) throw error;
        await this.#clock.sleep(this.#throttle.busy(error.retryAfterMs), this.signal);
      }
    }
  }

  /** Waits as the throttle wants it, for what holds its place already. */
  pace(): Promise<void> {
    return this.#throttle.pace(this.signal);
  }
}
