// How long calls take in the token, learned from its answers: for fairness between tenants and the depth per session.

const WEIGHT = 1 / 16; // of the newest measurement
const UNKNOWN_MICROS = 100;
const MAX_KEYS = 64; // requests × JOSE names that exist; a caller's nonsense name is not remembered beyond

export class Costs {
  readonly #micros = new Map<string, number>();
  #typical = UNKNOWN_MICROS;

  /** Microseconds that a call of this kind takes. */
  of(key: string): number {
    return this.#micros.get(key) ?? UNKNOWN_MICROS;
  }

  /** Over the calls as they come, key generation left out: it says nothing about the others. */
  get typical(): number {
    return this.#typical;
  }

  learn(key: string, micros: number): void {
    const known = this.#micros.get(key);
    if (known === undefined && this.#micros.size >= MAX_KEYS) return;
    this.#micros.set(key, known === undefined ? micros : known + (micros - known) * WEIGHT);
    if (key !== 'generate') this.#typical += (micros - this.#typical) * WEIGHT;
  }
}
