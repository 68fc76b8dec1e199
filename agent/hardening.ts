// Keeps the memory of this process out of core dumps and out of reach of other processes of the same user.
import koffi from 'koffi';

const PR_SET_DUMPABLE = 4; // linux/prctl.h
const RLIMIT_CORE = 4; // asm-generic/resource.h: x86-64 and arm64

/**
 * prctl(2): a process that is not dumpable leaves no core and cannot be attached to with ptrace(2), nor its memory read
 * through /proc, by its own user. Returns whether both calls succeeded; a kernel that refuses is no reason to stop.
 */
export const forbidMemoryDumps = (): boolean => {
  const libc = koffi.load('libc.so.6');
  const prctl = libc.func('int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)');
  const setrlimit = libc.func('int setrlimit(int resource, const uint64_t *limit)');
  const none = new BigUint64Array(2); // rlim_cur, rlim_max
  return setrlimit(RLIMIT_CORE, none) === 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) === 0;
};
