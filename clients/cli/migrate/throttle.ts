// Keeps a campaign out of the way of live traffic. It watches its own latencies: while they are near the best it has seen
// it takes more calls at a time, when they grow it takes fewer and rests between them; a busy agent halves it at once.
// Invariant: never more at a time than the maximum, never faster than the rate, and never none at all.

export interface Clock {
  /** Milliseconds that never go back. */
  now(): number;
  /** Rejects when the signal is aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export interface ThrottleLimits {
  /** Calls at a time, at most. */
  readonly concurrency: number;
  /** Files a second, at most; undefined: as fast as the agent lets it be. */
  readonly rate: number | undefined;
}

/** Latencies above this multiple of the best mean that somebody else waits too. */
const TOLERANCE = 2;
/** What scheduling and a disk add without anybody being busy. */
const SLACK_MS = 2;
const SMOOTHING = 0.2;
/** The best ages, so that a lucky one does not count for ever. */
const AGEING = 1.002;
const MAX_REST = 20; // times the latency: a campaign alone takes at most a twentieth of one caller's share
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5000;

interface Pace {
  best: number;
  mean: number;
}

export class Throttle {
  readonly #clock: Clock;
  readonly #limits: ThrottleLimits;
  /** By kind of call: they have latencies of their own. */
  readonly #paces = new Map<string, Pace>();
  #allowed = 1;
  #inFlight = 0;
  /** Rest after a call, in multiples of its latency. */
  #rest = 0;
  #notBefore = 0;
  #nextAt = 0;
  #backoffMs = 0;
  #waiting: (() => void)[] = [];

  constructor({ clock, limits }: { readonly clock: Clock; readonly limits: ThrottleLimits }) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Calls at a time now. */
  get allowed(): number {
    return Math.max(1, Math.min(this.#limits.concurrency, Math.floor(this.#allowed)));
  }

  /** Resolves when the next file may be taken. Each is given back by `release`. */
  async take(signal: AbortSignal): Promise<void> {
    while (this.#inFlight >= this.allowed) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#inFlight += 1;
    try {
      await this.pace(signal);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** The waits of `take`, for the next call of what is taken already. */
  async pace(signal: AbortSignal): Promise<void> {
    const { rate } = this.#limits;
    const at = Math.max(this.#clock.now(), this.#notBefore, this.#nextAt);
    if (rate !== undefined) this.#nextAt = at + 1000 / rate;
    await this.#clock.sleep(at - this.#clock.now(), signal);
  }

  release(): void {
    this.#inFlight -= 1;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** A call of this kind took so long. */
  done(kind: string, latencyMs: number): void {
    const pace = this.#paces.get(kind) ?? { best: latencyMs, mean: latencyMs };
    this.#paces.set(kind, pace);
    pace.best = Math.min(pace.best * AGEING, latencyMs);
    pace.mean += (latencyMs - pace.mean) * SMOOTHING;
    this.#backoffMs = 0;
    if (pace.mean > pace.best * TOLERANCE + SLACK_MS) {
      if (this.#allowed > 1) this.#allowed = Math.max(1, this.#allowed * 0.7);
      else this.#rest = Math.min(MAX_REST, Math.max(0.5, this.#rest * 1.5));
    } else if (this.#rest > 0.25) this.#rest /= 2;
    else {
      this.#rest = 0;
      this.#allowed = Math.min(this.#limits.concurrency, this.#allowed + 1 / this.#allowed);
    }
    if (this.#rest > 0) this.#notBefore = Math.max(this.#notBefore, this.#clock.now() + this.#rest * latencyMs);
  }

  /** The agent is busy, or asks to wait; everything waits. Answers how long, in milliseconds. */
  busy(retryAfterMs: number | undefined): number {
    this.#allowed = Math.max(1, this.#allowed / 2);
    this.#backoffMs = Math.min(MAX_BACKOFF_MS, Math.max(FIRST_BACKOFF_MS, this.#backoffMs * 2));
    const wait = Math.max(this.#backoffMs, retryAfterMs ?? 0);
    this.#notBefore = Math.max(this.#notBefore, this.#clock.now() + wait);
    return wait;
  }
}
