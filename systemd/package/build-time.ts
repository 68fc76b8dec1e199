// The one time that is in what is built: that of the last commit, or SOURCE_DATE_EPOCH, so that a build can be repeated.
import { execFileSync } from 'node:child_process';

const REPOSITORY = new URL('../..', import.meta.url);

/** Seconds since 1970. */
export const buildSeconds = (given: string | undefined): number => {
  const text = given ?? String(execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: REPOSITORY }));
  const seconds = Number(text);
  if (!Number.isSafeInteger(seconds) || seconds <= 0) throw new Error('SOURCE_DATE_EPOCH has to be whole seconds');
  return seconds;
};
