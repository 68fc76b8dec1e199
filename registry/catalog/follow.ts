// Follows the changes of one tenant. Invariant: every change comes once and in order, behind a snapshot where the caller
// begins anew; a caller whose position is not one of this catalogue is told so, and nothing else.
import { type Changes, type Feed, fitting, PAGE, type Seat } from './feed.ts';
import type { CatalogStore, EntryName, EntryRow, Position } from './store.ts';

export type FollowStep =
  | {
      readonly kind: 'snapshot';
      readonly rows: readonly EntryRow[];
      readonly begins: boolean;
      readonly ends?: Position;
    }
  | Changes
  | { readonly kind: 'rewound'; readonly at: Position }
  /** `open`: the catalogue is being rebuilt, and nothing else follows; not open: it was, and a snapshot follows. */
  | { readonly kind: 'rebuilt'; readonly id: string; readonly open: boolean };

const isKnown = async (store: CatalogStore, from: Position): Promise<boolean> =>
  (await store.positionAt(from.position))?.head.equals(from.head) === true;

async function* snapshot(store: CatalogStore): AsyncGenerator<FollowStep, Position> {
  // What changes while the snapshot is read comes once more behind it: its position was read first.
  const ends = await store.position();
  let after: EntryName | undefined;
  for (let begins = true; ; begins = false) {
    const page = await store.entries({ limit: PAGE, ...(after && { after }) });
    const rows = fitting(page);
    after = rows.at(-1);
    const isLast = rows.length === page.length && page.length < PAGE;
    yield { kind: 'snapshot', rows, begins, ...(isLast && { ends }) };
    if (isLast) return ends;
  }
}

export interface FollowOptions {
  /** By the reader himself: for what the feed does not keep. */
  readonly store: CatalogStore;
  readonly feed: Feed;
  readonly seat: Seat;
  readonly from: Position;
  /** The last rebuild that the caller has applied. */
  readonly rebuild: string | undefined;
  readonly signal: AbortSignal;
}

/** Tells of a rebuild that the caller has not applied, and waits for its end. Answers the one applied then. */
async function* rebuilds(
  { feed, seat, signal }: FollowOptions,
  applied: string | undefined,
): AsyncGenerator<FollowStep, string | undefined> {
  for (let told = false; !signal.aborted; told = true) {
    const row = feed.rebuild;
    if (row === undefined || (row.id === applied && row.endedAt !== undefined)) return applied;
    if (row.endedAt !== undefined) {
      yield { kind: 'rebuilt', id: row.id, open: false };
      return row.id;
    }
    if (!told) yield { kind: 'rebuilt', id: row.id, open: true };
    await seat.wait(signal);
    seat.check();
  }
  return applied;
}

/** Where the feed cannot say: what the store has behind a position that is known to be of this catalogue, or is not. */
const ask = async (store: CatalogStore, at: Position): Promise<Changes | 'nothing' | 'forgotten' | 'unknown'> => {
  if (!(await isKnown(store, at))) return 'unknown';
  const page = await store.changes({ after: at.position, limit: PAGE });
  if (page === undefined) return 'forgotten';
  const rows = fitting(page);
  const last = rows.at(-1);
  if (last === undefined) return 'nothing';
  return { kind: 'changes', rows, at: { position: last.position, head: last.head }, caughtUp: false };
};

export async function* follow(options: FollowOptions): AsyncGenerator<FollowStep, void, undefined> {
  const { store, feed, seat, from, signal } = options;
  let at = from;
  let applied = options.rebuild;
  let mustTell = from.position > 0;
  let needsSnapshot = from.position === 0;
  let isLost = false;
  while (!signal.aborted) {
    seat.check();
    const before = applied;
    applied = yield* rebuilds(options, applied);
    if (signal.aborted) return;
    if (applied !== before) {
      needsSnapshot = true;
      isLost = false;
    }
    if (needsSnapshot) {
      at = yield* snapshot(store);
      [needsSnapshot, mustTell] = [false, false];
    }
    const found = feed.behind(at) ?? (await ask(store, at));
    if (found === 'unknown') {
      // A store that was taken back has lost what the caller has, also under a running follow.
      if (!isLost) yield { kind: 'rewound', at: await store.position() };
      isLost = true;
      await seat.wait(signal); // for a rebuild, or for what was lost to be back
      continue;
    }
    if (isLost) return;
    if (found === 'forgotten') {
      needsSnapshot = true;
      continue;
    }
    if (found === 'nothing') {
      if (mustTell) yield { kind: 'changes', rows: [], at, caughtUp: true };
      mustTell = false;
      await seat.wait(signal);
      continue;
    }
    at = found.at;
    const caughtUp = mustTell && feed.behind(at) === 'nothing';
    mustTell &&= !caughtUp;
    yield caughtUp ? { ...found, caughtUp } : found;
  }
}
