// Makes the process hard to look into and sure to die with its agent. Fails open where prctl is missing, because the
// agent's own measures (a user of its own, no core dumps by unit file) still hold; main.ts logs it.
import koffi from 'koffi';

const PR_SET_PDEATHSIG = 1;
const PR_SET_DUMPABLE = 4;
const SIGKILL = 9;

/**
 * PR_SET_DUMPABLE 0: no core dump, no ptrace or /proc/pid/mem by the same user. PR_SET_PDEATHSIG: a process that hangs
 * in the library is not left behind by an agent that was killed.
 */
export const harden = (): void => {
  const prctl = koffi.load('libc.so.6').func('int prctl(int option, ulong a, ulong b, ulong c, ulong d)');
  for (const [option, value] of [
    [PR_SET_DUMPABLE, 0],
    [PR_SET_PDEATHSIG, SIGKILL],
  ] as const) {
    if (prctl(option, value, 0, 0, 0) !== 0) throw new Error(`prctl ${option} failed`);
  }
};
