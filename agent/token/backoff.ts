// Waits between attempts at a token. Invariant: no two hosts that lost the same HSM at the same moment knock in step.

/** Of the time in which a token that is back is to be noticed: the rest is for the start of its process. */
export const RECOVERY_SHARE = 0.6;

/** Half of the wait is left to chance. */
export const jittered = (fullMs: number, random: () => number = Math.random): number =>
  Math.round(fullMs / 2 + random() * (fullMs / 2));
