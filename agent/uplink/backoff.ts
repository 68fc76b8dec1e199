// How long to wait before the next attempt: longer each time, and never all hosts at once.
import { setTimeout as sleep } from 'node:timers/promises';

const FIRST_MS = 250;
const MOST_MS = 30_000;

/** Between half of the step and all of it, so that a thousand agents that lost one registry do not come back together. */
export const waitBefore = (attempt: number, most = MOST_MS): number => {
  const step = Math.min(most, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(step * (0.5 + Math.random() / 2));
};

/** Waits, or until the signal. */
export const pause = async (attempt: number, signal: AbortSignal, waitMs = waitBefore(attempt)): Promise<void> => {
  await sleep(waitMs, undefined, { signal }).catch(() => undefined); // aborted: whoever waits looks at the signal
};
