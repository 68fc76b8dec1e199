// Waits between attempts at a token. Invariant: no two hosts that lost the same HSM at the same moment knock in step.

/** Of the time in which service is to be back, the longest wait: the rest is for login, self-test and the first session. */
export const RECOVERY_SHARE = 0.3;

/** Half of the wait is left to chance. */
export const jittered = (fullMs: number, random: () => number = Math.random): number =>
  Math.round(fullMs / 2 + random() * (fullMs / 2));
