// Whether the token answers, found out beside the calls, so that Status can say it without waiting. Invariant: at most one
// question is under way, and one that is late counts as unanswered from then on, also where it never comes back.

export interface PulseParts {
  /** A small piece of work for the token; rejects with why it was not done. Gets its own deadline. */
  readonly ask: (call: { readonly deadlineInMs: number; readonly signal: AbortSignal }) => Promise<unknown>;
  readonly everyMs?: number;
  readonly lateMs?: number;
}

const EVERY_MS = 10_000; // as often as the API server asks while the plugin is not well
const LATE_MS = 2_000; // below the 3 s after which it gives up a call

export class Pulse implements AsyncDisposable {
  readonly #parts: PulseParts;
  readonly #timer: NodeJS.Timeout;
  readonly #ending = new AbortController();
  #asking: Promise<void> | undefined;
  #late: NodeJS.Timeout | undefined;
  #problem: string | undefined;

  constructor(parts: PulseParts) {
    this.#parts = parts;
    this.#timer = setInterval(() => void this.beat(), parts.everyMs ?? EVERY_MS);
    this.#timer.unref();
  }

  /** What is wrong with the token, as far as is known. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Asks now, unless an answer is still awaited; resolves with the answer. */
  beat(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    clearTimeout(this.#late);
    this.#ending.abort();
  }

  async #ask(): Promise<void> {
    const { ask, lateMs = LATE_MS } = this.#parts;
    this.#late = setTimeout(() => {
      this.#problem = `the token has not answered for ${lateMs} ms`;
    }, lateMs);
    this.#late.unref();
    try {
      await ask({ deadlineInMs: lateMs, signal: this.#ending.signal });
      this.#problem = undefined;
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error);
    } finally {
      clearTimeout(this.#late);
    }
  }
}
