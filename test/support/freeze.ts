// Stopping a process so that it does nothing more. SIGSTOP alone is a request: until the thread that it was given to has
// run, the others go on, and on a busy machine they may answer a question that is asked after it.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const PATIENCE_MS = 30_000;

/** T: stopped by a signal. */
const isStopped = (pid: number, thread: string): boolean =>
  /\) T /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8'));

/** Resolves once every thread has stopped. */
export const freeze = async (pid: number): Promise<void> => {
  process.kill(pid, 'SIGSTOP');
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await sleep(1)) {
    if (readdirSync(`/proc/${pid}/task`).every((thread) => isStopped(pid, thread))) return;
  }
  throw new Error(`process ${pid} did not stop within ${PATIENCE_MS} ms`);
};
