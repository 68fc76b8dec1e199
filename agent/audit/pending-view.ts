// Reads the store as it will be: what LMDB has, and over it what only the journal has so far.
import type { Database } from './applied.ts';
import type { Cycle } from './cycle.ts';

const PAGE_KEYS = 256;

/** `pending`: newest first. */
export const newestOf = (db: Database, pending: readonly Cycle[], key: Buffer): Buffer | undefined => {
  const name = key.toString('latin1');
  for (const { puts } of pending) {
    const put = puts.get(name);
    if (put !== undefined) return put.value;
  }
  return db.get(key);
};

/** Adds the pending keys from `start` to `upTo` to a page of LMDB's. */
const withPending = (page: readonly Buffer[], pending: readonly Cycle[], start: Buffer, upTo: Buffer): Buffer[] => {
  const merged = new Map(page.map((key) => [key.toString('latin1'), key]));
  for (const { puts } of pending) {
    for (const [name, { key }] of puts) {
      if (Buffer.compare(key, start) >= 0 && Buffer.compare(key, upTo) <= 0) merged.set(name, key);
    }
  }
  return [...merged.values()].sort(Buffer.compare);
};

/** Keys that begin with `prefix`, in order. Pages through LMDB, so that no reader holds a snapshot for long. */
export function* keysOf(
  db: Database,
  pending: () => readonly Cycle[],
  prefix: Buffer,
  pageSize = PAGE_KEYS,
): Generator<Buffer> {
  const end = Buffer.concat([prefix, Buffer.alloc(9, 0xff)]);
  let start = prefix;
  for (;;) {
    const page = [...db.getKeys({ start, end, limit: pageSize, snapshot: false })].map((key) => Buffer.from(key));
    const full = page.length === pageSize;
    const last = page.at(-1);
    const upTo = full && last !== undefined ? last : end;
    yield* withPending(page, pending(), start, upTo);
    if (!full || last === undefined) return;
    start = Buffer.concat([last, Buffer.alloc(1)]);
  }
}
