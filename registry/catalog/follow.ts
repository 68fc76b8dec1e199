// Follows the changes of one tenant. Invariant: every change comes once and in order, behind a snapshot where the caller
// begins anew; a caller whose position is not one of this catalogue is told so, and nothing else.
import type { CatalogStore, EntryName, EntryRow, Position } from './store.ts';

export type FollowStep =
  | {
      readonly kind: 'snapshot';
      readonly rows: readonly EntryRow[];
      readonly begins: boolean;
      readonly ends?: Position;
    }
  /** `caughtUp`: the caller had asked from here or was brought here; the first such step of a follow says so. */
  | { readonly kind: 'changes'; readonly rows: readonly EntryRow[]; readonly at: Position; readonly caughtUp: boolean }
  | { readonly kind: 'rewound'; readonly at: Position }
  /** `open`: the catalogue is being rebuilt, and nothing else follows; not open: it was, and a snapshot follows. */
  | { readonly kind: 'rebuilt'; readonly id: string; readonly open: boolean };

const PAGE = 64;
const PAGE_BYTES = 3 * 1024 * 1024;
/** A notice that got lost costs no more than this; a thousand hosts that look each second would cost more. */
const RELOOK_MS = 60_000;

/** As many rows from the start as fit a message, at least one. */
const fitting = (rows: readonly EntryRow[]): readonly EntryRow[] => {
  let bytes = 0;
  const end = rows.findIndex((row, at) => {
    bytes += row.entry.length;
    return at > 0 && bytes > PAGE_BYTES;
  });
  return end < 0 ? rows : rows.slice(0, end);
};

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
  readonly store: CatalogStore;
  readonly from: Position;
  /** The last rebuild that the caller has applied. */
  readonly rebuild: string | undefined;
  readonly signal: AbortSignal;
  watch(listener: () => void): () => void;
  /** Calls back when a rebuild was opened or ended. */
  watchRebuilds(listener: () => void): () => void;
}

/** What wakes a follow: a change, a rebuild, or the end of the call. */
class Alarm {
  /** A rebuild may have been opened or ended; true at the start. */
  rebuild = true;
  #wake = Promise.withResolvers<void>();
  readonly #stops: readonly (() => void)[];

  constructor({ signal, watch, watchRebuilds }: FollowOptions) {
    const ring = (): void => this.#wake.resolve();
    signal.addEventListener('abort', ring, { once: true });
    const ringRebuild = (): void => {
      this.rebuild = true;
      ring();
    };
    this.#stops = [watch(ring), watchRebuilds(ringRebuild), () => signal.removeEventListener('abort', ring)];
  }

  /** Everything from here on is heard. */
  listen(): Promise<void> {
    return this.#wake.promise;
  }

  async wait(woken: Promise<void>): Promise<void> {
    const timer = setTimeout(() => {
      this.rebuild = true;
      this.#wake.resolve();
    }, RELOOK_MS);
    await woken;
    clearTimeout(timer);
    this.#wake = Promise.withResolvers();
  }

  stop(): void {
    for (const stop of this.#stops) stop();
  }
}

/** Tells of a rebuild that the caller has not applied, and waits for its end. Answers the one applied then. */
async function* rebuilds(
  { store, signal }: FollowOptions,
  alarm: Alarm,
  applied: string | undefined,
): AsyncGenerator<FollowStep, string | undefined> {
  let told = false;
  while (!signal.aborted) {
    const woken = alarm.listen();
    alarm.rebuild = false;
    const row = await store.rebuild();
    if (row === undefined || (row.id === applied && row.endedAt !== undefined)) return applied;
    if (row.endedAt !== undefined) {
      yield { kind: 'rebuilt', id: row.id, open: false };
      return row.id;
    }
    if (!told) yield { kind: 'rebuilt', id: row.id, open: true };
    told = true;
    await alarm.wait(woken);
  }
  return applied;
}

export async function* follow(options: FollowOptions): AsyncGenerator<FollowStep, void, undefined> {
  const { store, from, signal } = options;
  const alarm = new Alarm(options);
  let at = from;
  let applied = options.rebuild;
  let mustTell = from.position > 0;
  let needsSnapshot = from.position === 0;
  let mustCheck = from.position > 0;
  let isLost = false;
  try {
    while (!signal.aborted) {
      const woken = alarm.listen();
      if (alarm.rebuild) {
        const before = applied;
        applied = yield* rebuilds(options, alarm, applied);
        if (signal.aborted) return;
        if (applied !== before) {
          needsSnapshot = true;
          mustTell = false;
          isLost = false;
        }
      }
      if (!needsSnapshot && mustCheck && !(await isKnown(store, at))) {
        if (!isLost) yield { kind: 'rewound', at: await store.position() };
        isLost = true;
        await alarm.wait(woken); // for a rebuild, or for what was lost to be back
        continue;
      }
      if (isLost) return;
      mustCheck = false;
      if (needsSnapshot) at = yield* snapshot(store);
      needsSnapshot = false;
      const page = await store.changes({ after: at.position, limit: PAGE });
      if (page === undefined) {
        needsSnapshot = true;
        mustTell = false;
        continue;
      }
      const rows = fitting(page);
      const last = rows.at(-1);
      if (last !== undefined) at = { position: last.position, head: last.head };
      if (last !== undefined || mustTell) {
        const caughtUp = mustTell && rows.length === page.length && page.length < PAGE;
        yield { kind: 'changes', rows, at, caughtUp };
        mustTell &&= !caughtUp;
      }
      if (last !== undefined) continue;
      // A store that was taken back under a running follow has lost what the caller has.
      if (await isKnown(store, at)) await alarm.wait(woken);
      else mustCheck = true;
    }
  } finally {
    alarm.stop();
  }
}
