// Gives back, once after a start, the memory that only the start needed. Invariant: nothing is lost by it: what is given
// back is free memory of the allocator, and pages that are as they are in the program's file and are read anew on use.
import { readFileSync } from 'node:fs';
import koffi from 'koffi';

const MADV_DONTNEED = 4; // asm-generic/mman-common.h

interface Mapping {
  readonly from: bigint;
  readonly bytes: bigint;
}

/**
 * Parts of /proc/self/smaps that map `file` read-only and have no page of their own: none was written to before it was
 * protected (relocations are), so the file has all that is in them.
 */
export const cleanMappings = (smaps: string, file: string): Mapping[] =>
  smaps
    .split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)
    .map((text) => ({ text, head: /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ \S+ +(.*)/.exec(text) }))
    .filter(({ text, head }) => head?.[3] === file && /^Anonymous: +0 kB$/m.test(text))
    .map(({ head }) => ({
      from: BigInt(`0x${head?.[1]}`),
      bytes: BigInt(`0x${head?.[2]}`) - BigInt(`0x${head?.[1]}`),
    }));

/**
 * 18 MB of heap in the agent, and in each process 30 MB of Node's program that are needed at a start alone. Returns whether
 * it could: a host that does not let a process look at its own mappings is no reason to stop.
 */
export const returnMemory = (): boolean => {
  try {
    const libc = koffi.load('libc.so.6');
    libc.func('int malloc_trim(size_t pad)')(0);
    const madvise = libc.func('int madvise(uintptr_t address, size_t length, int advice)');
    const mappings = cleanMappings(readFileSync('/proc/self/smaps', 'utf8'), process.execPath);
    return mappings.filter(({ from, bytes }) => madvise(from, bytes, MADV_DONTNEED) === 0).length > 0;
  } catch {
    return false; // the memory stays where it is, which costs nothing else
  }
};
