// Spreads work that the main thread does by itself over turns of the event loop, so that calls of others are read and
// answered in between. Invariant: what comes is let through in order, so many a turn, and nothing is held for longer.

export class Turns {
  readonly #perTurn: number;
  #left: number;
  #waiting: (() => void)[] = [];
  #isScheduled = false;

  constructor({ perTurn }: { readonly perTurn: number }) {
    this.#perTurn = perTurn;
    this.#left = perTurn;
  }

  /** Undefined where the work may be done now, else a promise of the turn in which it may. */
  take(): Promise<void> | undefined {
    this.#schedule();
    if (this.#left > 0) {
      this.#left -= 1;
      return undefined;
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      const next = this.#waiting.splice(0, this.#perTurn);
      this.#left = this.#perTurn - next.length;
      for (const go of next) go();
      if (next.length > 0) this.#schedule();
    });
  }
}
