// How long calls take in the token, and how much of it this host computes, learned from its answers: for fairness between
// tenants, the number of sessions that serve and the pace of each.

const WEIGHT = 1 / 16; // of the newest measurement
const UNKNOWN_MICROS = 100;
const MAX_KEYS = 64; // requests × JOSE names that exist; a caller's nonsense name is not remembered beyond
/** Shorter calls that this host computes go through one session: a second one only contends for the library's locks. */
const SHORT_MICROS = 150;
const SLOW_MICROS = 500;
const FAST_SESSIONS = 2; // more only contend while calls are short (docs/decisions/0001-token-process.md)

export class Costs {
  readonly #micros = new Map<string, number>();
  readonly #processors: number;
  #typical = UNKNOWN_MICROS;
  #computing = 0;

  constructor({ processors }: { readonly processors: number }) {
    this.#processors = processors;
  }

  /** Microseconds that a call of this kind takes. */
  of(key: string): number {
    return this.#micros.get(key) ?? UNKNOWN_MICROS;
  }

  /** Over the calls as they come, key generation left out: it says nothing about the others. */
  get typical(): number {
    return this.#typical;
  }

  /** How many sessions should serve, of `most`: while the library computes on this host, no more than it has processors. */
  sessions(most: number): number {
    if (!this.isComputed) return this.isSlow ? most : Math.min(most, FAST_SESSIONS);
    return this.#computing < SHORT_MICROS ? 1 : Math.min(most, this.#processors);
  }

  /** Microseconds of a typical call that this host computes. */
  get computing(): number {
    return this.#computing;
  }

  /** Half of the time is enough: the kernel's counts are coarse, and not all of them may be had. */
  get isComputed(): boolean {
    return this.#computing > this.#typical / 2;
  }

  get isSlow(): boolean {
    return this.#typical > SLOW_MICROS;
  }

  /**
   * `micros` without what the thread waited for a processor: threads that take it from each other would look like a slow
   * device, and be answered by more threads. `computing`: of them those on a processor; undefined where it is not known.
   */
  learn(key: string, micros: number, computing?: number): void {
    const known = this.#micros.get(key);
    if (known === undefined && this.#micros.size >= MAX_KEYS) return;
    this.#micros.set(key, known === undefined ? micros : known + (micros - known) * WEIGHT);
    if (key === 'generate') return;
    this.#typical += (micros - this.#typical) * WEIGHT;
    if (computing !== undefined) this.#computing += (computing - this.#computing) * WEIGHT;
  }
}
