// Waits of the laboratory. Invariant: each has a bound, and says in words what it waited for when that is over.
import { setTimeout as sleep } from 'node:timers/promises';

export const PATIENCE_MS = 30_000;

/** Looks until there is something to see. */
export const until = async <T>(
  what: string,
  look: () => Promise<T | undefined>,
  { patienceMs = PATIENCE_MS, everyMs = 10 } = {},
): Promise<T> => {
  const end = Date.now() + patienceMs;
  for (;;) {
    const seen = await look();
    if (seen !== undefined) return seen;
    if (Date.now() > end) throw new Error(`waited ${patienceMs / 1000} s in vain: ${what}`);
    await sleep(everyMs);
  }
};

/** What the promise comes to. */
export const within = async <T>(what: string, promise: Promise<T>, patienceMs = PATIENCE_MS): Promise<T> => {
  const over = new AbortController();
  const late = async (): Promise<never> => {
    await sleep(patienceMs, undefined, { signal: over.signal });
    throw new Error(`waited ${patienceMs / 1000} s in vain: ${what}`);
  };
  try {
    return await Promise.race([promise, late()]);
  } finally {
    over.abort();
  }
};
