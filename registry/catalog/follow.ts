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
  | { readonly kind: 'rewound'; readonly at: Position };

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

export async function* follow(options: {
  readonly store: CatalogStore;
  readonly from: Position;
  readonly signal: AbortSignal;
  watch(listener: () => void): () => void;
}): AsyncGenerator<FollowStep, void, undefined> {
  const { store, from, signal, watch } = options;
  let at = from;
  let wake = Promise.withResolvers<void>();
  const stop = watch(() => wake.resolve());
  const abort = (): void => wake.resolve();
  signal.addEventListener('abort', abort, { once: true });
  try {
    if (!(await isKnown(store, from))) return yield { kind: 'rewound', at: await store.position() };
    let mustTell = from.position > 0;
    if (from.position === 0) at = yield* snapshot(store);
    while (!signal.aborted) {
      const woken = wake.promise;
      const page = await store.changes({ after: at.position, limit: PAGE });
      if (page === undefined) {
        at = yield* snapshot(store);
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
      if (!(await isKnown(store, at))) return yield { kind: 'rewound', at: await store.position() };
      const timer = setTimeout(wake.resolve, RELOOK_MS);
      await woken;
      clearTimeout(timer);
      wake = Promise.withResolvers();
    }
  } finally {
    signal.removeEventListener('abort', abort);
    stop();
  }
}
