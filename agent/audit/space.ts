// Whether there is room for another commit: the size limit of the store, the free space of its disk, and the reserve
// that only closing and checkpoints may use.
import { statfsSync } from 'node:fs';
import { AgentError } from '../errors.ts';
import type { PageStats } from './data-file.ts';

const CHECK_MS = 100;
const LMDB_FACTOR = 4; // leaves may be half empty, and the data is in the journal too

export const unavailable = (message: string, cause?: unknown): AgentError =>
  new AgentError('AUDIT_UNAVAILABLE', { message: `the operation cannot be recorded: ${message}`, cause });

export class Space {
  readonly #path: string;
  readonly #limits: { readonly mapSize: number; readonly reserveBytes: number };
  readonly #events: { size(event: { usedBytes: number; limitBytes: number }): void };
  #usedBytes = 0;
  #freeBytes = 0;
  #checkedAt = Number.NEGATIVE_INFINITY;

  constructor(
    path: string,
    limits: { readonly mapSize: number; readonly reserveBytes: number },
    events: { size(event: { usedBytes: number; limitBytes: number }): void },
  ) {
    this.#path = path;
    this.#limits = limits;
    this.#events = events;
  }

  /** Throws AUDIT_UNAVAILABLE where `pending` bytes on the way to LMDB have no room. */
  check(pending: number, reserve: boolean): void {
    const { mapSize, reserveBytes } = this.#limits;
    const kept = reserve ? 0 : reserveBytes;
    if (this.#usedBytes + pending + kept > mapSize) {
      throw unavailable(`the audit store has reached its limit of ${mapSize} bytes; raise the limit`);
    }
    if (this.#free() < pending + kept) {
      throw unavailable(`less than ${kept} bytes are free on the disk of ${this.#path}; free space`);
    }
  }

  /** Why the next append would be refused, or undefined. */
  shortage(): string | undefined {
    try {
      this.check(0, false);
      return undefined;
    } catch (error) {
      return (error as AgentError).message;
    }
  }

  /** Counts a commit against the free space until the disk is asked again. */
  take(bytes: number): void {
    this.#freeBytes -= LMDB_FACTOR * bytes;
  }

  measure({ lastPageNumber, pageSize }: PageStats): void {
    this.#usedBytes = (lastPageNumber + 1) * pageSize;
    this.#events.size({ usedBytes: this.#usedBytes, limitBytes: this.#limits.mapSize });
  }

  #free(): number {
    const now = performance.now();
    if (now - this.#checkedAt > CHECK_MS || this.#freeBytes < this.#limits.reserveBytes * 2) {
      try {
        const { bavail, bsize } = statfsSync(this.#path);
        this.#freeBytes = bavail * bsize;
      } catch (cause) {
        throw unavailable(`the disk of ${this.#path} does not answer`, cause);
      }
      this.#checkedAt = now;
    }
    return this.#freeBytes;
  }
}
