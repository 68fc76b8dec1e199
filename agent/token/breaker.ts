// Keeps calls from a token that answers none of them. Closed: calls pass. Open, after many failures in a row: they are
// refused at once, for a time that grows. Then half-open: one call passes, and its outcome decides. Invariant: failures of
// a key or of a caller never open it while other calls succeed.
import { AgentError } from '../errors.ts';
import { jittered } from './backoff.ts';

export type BreakerState = 'closed' | 'open' | 'half-open';

const FAILURES = 20; // in a row; more than are in flight when a process dies
const FIRST_OPEN_MS = 250;
const LONGEST_OPEN_MS = 600; // a token that is well again waits no longer than this for its first call
/** The token was asked, and said that it is not well. */
const FAILED = 'HSM_UNAVAILABLE';
/** Says nothing of the token. */
const SILENT: ReadonlySet<string> = new Set([
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'HSM_BUSY',
  'SHUTTING_DOWN',
  'TOO_LARGE',
]);

export class Breaker {
  readonly #changed: (state: BreakerState) => void;
  #state: BreakerState = 'closed';
  #failures = 0;
  #openMs = FIRST_OPEN_MS;
  #until = 0;
  #isProbing = false;

  constructor({ changed }: { readonly changed: (state: BreakerState) => void }) {
    this.#changed = changed;
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Throws HSM_UNAVAILABLE where the call is not to reach the token. */
  admit(): void {
    if (this.#state === 'closed') return;
    const now = performance.now();
    if (this.#state === 'open' && now >= this.#until) this.#become('half-open');
    if (this.#state === 'half-open' && !this.#isProbing) {
      this.#isProbing = true;
      return;
    }
    const retryAfterMs = Math.max(50, Math.round(this.#until - now));
    const cause = new Error(`the breaker is ${this.#state}: ${this.#failures} calls in a row failed`);
    throw new AgentError('HSM_UNAVAILABLE', { cause, retryAfterMs });
  }

  /** How a call ended that reached the token or waited for it. */
  finished(outcome: string): void {
    if (outcome === FAILED) this.#failed();
    else if (SILENT.has(outcome)) this.#isProbing = false;
    else if (this.#failures > 0 || this.#state !== 'closed') this.#succeeded();
  }

  /** A new process has logged in and tested the token; `doubtful` where those before it died soon. */
  tokenReady({ doubtful }: { readonly doubtful: boolean }): void {
    this.#failures = 0;
    this.#isProbing = false;
    if (this.#state === 'closed' && !doubtful) return;
    this.#become(doubtful ? 'half-open' : 'closed');
  }

  #failed(): void {
    this.#failures += 1;
    if (this.#state === 'open' || (this.#state === 'closed' && this.#failures < FAILURES)) return;
    if (this.#state === 'half-open' && !this.#isProbing) return; // one that was sent before it opened
    this.#isProbing = false;
    this.#until = performance.now() + jittered(this.#openMs);
    this.#openMs = Math.min(LONGEST_OPEN_MS, this.#openMs * 2);
    this.#become('open');
  }

  #succeeded(): void {
    this.#failures = 0;
    this.#isProbing = false;
    this.#openMs = FIRST_OPEN_MS;
    if (this.#state !== 'closed') this.#become('closed');
  }

  #become(state: BreakerState): void {
    this.#state = state;
    this.#changed(state);
  }
}
