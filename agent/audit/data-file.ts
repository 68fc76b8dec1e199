// Claims disk blocks for LMDB's file ahead of its writes. Invariant: LMDB never writes where no block is claimed. A full
// disk is met here and is an error, where lmdb 3.5.6 overruns a heap buffer while it words its own.
import { closeSync, fstatSync, ftruncateSync, openSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Put } from './journal.ts';

const AHEAD_BYTES = 2 ** 20; // some 1500 records, so that the claiming itself does not show
const ZEROS = 64 * 1024;
const FIXED_PAGES = 32; // free-list and root pages of a transaction

export interface PageStats {
  readonly pageSize: number;
  readonly lastPageNumber: number;
  readonly treeDepth: number;
}

/** Pages that a transaction may add at most: half-filled leaves, whole pages for large values, a path for each run of keys. */
const pagesOf = (puts: readonly Put[], { pageSize, treeDepth }: PageStats): number => {
  const runs = new Set<string>();
  let small = 0;
  let pages = 0;
  for (const { key, value } of puts) {
    runs.add(key.toString('latin1', 0, Math.max(1, key.length - 8))); // records and checkpoints end in a position
    const bytes = key.length + value.length + 16;
    if (bytes > pageSize / 4) pages += Math.ceil(bytes / pageSize);
    else small += bytes;
  }
  return pages + Math.ceil((2 * small) / pageSize) + 2 * runs.size * (treeDepth + 2) + FIXED_PAGES;
};

export class DataFile {
  readonly #folder: string;
  readonly #fd: number;
  #claimed: number;

  constructor(folder: string) {
    this.#folder = folder;
    this.#fd = openSync(join(folder, 'data.mdb'), 'r+');
    this.#claimed = fstatSync(this.#fd).size;
  }

  /** Throws, with LMDB's file as it was but for zeros at its end, where the disk has no room for these puts. */
  claim(puts: readonly Put[], stats: PageStats): void {
    const need = (stats.lastPageNumber + 1 + pagesOf(puts, stats)) * stats.pageSize;
    if (need <= this.#claimed) return;
    const { bavail, bsize } = statfsSync(this.#folder);
    this.#extend(need + Math.min(AHEAD_BYTES, Math.floor((bavail * bsize) / 16)));
  }

  close(): void {
    closeSync(this.#fd);
  }

  #extend(to: number): void {
    const zeros = Buffer.alloc(ZEROS);
    try {
      for (let at = this.#claimed; at < to; ) at += writeSync(this.#fd, zeros, 0, Math.min(ZEROS, to - at), at);
      this.#claimed = to;
    } catch (cause) {
      ftruncateSync(this.#fd, this.#claimed); // what was claimed in part is of use to somebody else
      throw cause;
    }
  }
}
