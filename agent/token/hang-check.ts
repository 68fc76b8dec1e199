// Watches for calls that outlive their budget in the library. It counts its own ticks, not the clock, so an agent that
// was itself stopped or starved does not take a sound process for a hung one: between two ticks its answers are read.
import type { Channel } from './channel.ts';

const TICKS = 20; // per budget of an ordinary operation

/** Milliseconds in the library, or from asking for a session to its first word. */
export interface Budgets {
  readonly operation: number;
  readonly generate: number;
  readonly open: number;
}

export class HangCheck {
  readonly #budgets: Budgets;
  readonly #hung: (channel: Channel, budgetMs: number) => void;
  readonly #tickMs: number;
  #channels: readonly Channel[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(of: {
    readonly budgets: Budgets;
    readonly hung: (channel: Channel, budgetMs: number) => void;
  }) {
    this.#budgets = of.budgets;
    this.#hung = of.hung;
    this.#tickMs = Math.max(5, Math.floor(of.budgets.operation / TICKS));
  }

  watch(channels: readonly Channel[]): void {
    this.#channels = channels;
    this.start();
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#tick(), this.#tickMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#channels = [];
  }

  #tick(): void {
    const busy = this.#channels.filter((channel) => !channel.isReady || channel.depth > 0);
    if (busy.length === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    // Some modules do one thing at a time: while a key is generated everything else may have to wait for it.
    const generating = busy.some((channel) => channel.head?.row.budget === 'generate');
    for (const channel of busy) {
      const budget = channel.isReady ? (channel.head?.row.budget ?? 'operation') : 'open';
      if (generating && budget !== 'generate') continue;
      channel.ticks += 1;
      const budgetMs = this.#budgets[budget];
      if (channel.ticks * this.#tickMs < budgetMs) continue;
      this.#hung(channel, budgetMs);
      return;
    }
  }
}
