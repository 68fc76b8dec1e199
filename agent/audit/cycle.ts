// What is committed to one journal file and not yet in LMDB.
import type { Put } from './journal.ts';

/** Everything since the journals last changed places; of several puts to one key, the last. */
export class Cycle {
  readonly puts = new Map<string, Put>();
  sequence = 0;
  bytes = 0;
  done = Promise.withResolvers<void>();

  constructor() {
    this.done.promise.catch(() => undefined); // waiters see it; without one it is not unhandled
  }

  fail(cause: unknown): void {
    this.done.reject(cause);
    this.done = Promise.withResolvers();
    this.done.promise.catch(() => undefined);
  }
}
