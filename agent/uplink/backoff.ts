// How long to wait before the next attempt: longer each time, and never all hosts at once.
import { setTimeout as sleep } from 'node:timers/promises';

const FIRST_MS = 250;
const MOST_MS = 30_000;
const REVOKED_MS = 300_000; // an administrator may take the host in again
const REPLACED_MS = 30_000; // two agents with one identity would push each other out for ever

/** Between half of the step and all of it, so that a thousand agents that lost one registry do not come back together. */
export const waitBefore = (attempt: number, most = MOST_MS): number => {
  const step = Math.min(most, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(step * (0.5 + Math.random() / 2));
};

/** Waits, or until the signal. */
export const pause = async (attempt: number, signal: AbortSignal, waitMs = waitBefore(attempt)): Promise<void> => {
  await sleep(waitMs, undefined, { signal }).catch(() => undefined); // aborted: whoever waits looks at the signal
};

/** How long to wait once a session has ended so. */
export const waitAfter = (code: string, attempt: number): number => {
  if (code === 'HOST_REVOKED') return waitBefore(Number.POSITIVE_INFINITY, REVOKED_MS);
  if (code === 'HEARTBEAT_REPLACED') return waitBefore(Number.POSITIVE_INFINITY, REPLACED_MS);
  return waitBefore(attempt);
};
