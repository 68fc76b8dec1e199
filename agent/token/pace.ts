// How far ahead calls are handed to a session, and how long its worker may hold finished answers for company: each message
// takes a processor that a library on this host could have. Invariant: both grow beyond what calls take only while one
// tenant has the token to itself, so that nobody waits for another's company.
import type { Costs } from './costs.ts';

const AHEAD_FAST = 32;
const AHEAD_SLOW = 2;
const AHEAD_MICROS = 4000; // of computing, that a quiet tenant may stand behind
const HOLD_MICROS = 1000;
const HOLD_COMPUTED_MICROS = 2500;
const HOLD_ALONE_MICROS = 5000; // some eight RSA-2048 signatures
const HOLD_PART = 1 / 4; // of what a session has to do
const HOLD_STEP_MICROS = 500; // a worker is not told of less
const COMPANY_MS = 1000; // so long after another tenant's call the token is shared
/** The agent itself, which nobody waits for: checkpoints, random bytes. */
const OWN_TENANT = '_platform';

export interface PaceOf {
  /** Calls at once. */
  readonly depth: number;
  readonly holdMicros: number;
}

export class Pace {
  readonly #costs: Costs;
  readonly #now: () => number;
  #tenant: string | undefined;
  #sharedAt = Number.NEGATIVE_INFINITY;

  /** `now`: monotonic milliseconds; tests replace it. */
  constructor({ costs, now = () => performance.now() }: { readonly costs: Costs; readonly now?: () => number }) {
    this.#costs = costs;
    this.#now = now;
  }

  /** A call of the tenant came. */
  came(tenant: string): void {
    if (tenant === this.#tenant || tenant === OWN_TENANT) return;
    if (this.#tenant !== undefined) this.#sharedAt = this.#now();
    this.#tenant = tenant;
  }

  /** Of a session that has so many calls to do, in flight and as its part of those that wait. */
  of(calls: number): PaceOf {
    const { computing, isComputed, isSlow } = this.#costs;
    if (!isComputed) return { depth: isSlow ? AHEAD_SLOW : AHEAD_FAST, holdMicros: HOLD_MICROS };
    const holdMicros = this.#isShared() ? HOLD_COMPUTED_MICROS : heldAlone(calls * computing);
    const ahead = AHEAD_MICROS + 2 * (holdMicros - HOLD_COMPUTED_MICROS); // what is held, and as much to go on with
    return { depth: Math.max(AHEAD_SLOW, Math.min(AHEAD_FAST, Math.round(ahead / computing))), holdMicros };
  }

  #isShared(): boolean {
    return this.#now() - this.#sharedAt < COMPANY_MS;
  }
}

const heldAlone = (micros: number): number => {
  const part = Math.floor((micros * HOLD_PART) / HOLD_STEP_MICROS) * HOLD_STEP_MICROS;
  return Math.min(HOLD_ALONE_MICROS, Math.max(HOLD_COMPUTED_MICROS, part));
};
