// The changes of one tenant, read once for all who follow it on this replica. Invariants: what is kept is a gapless run of
// changes up to where the store was last seen, and nothing once it is quiet; a reader is handed nothing that was read before
// he was judged by his own row; a slow one costs no memory, he only falls out of what is kept and reads for himself.
import type { Actor } from '../actor.ts';
import { RegistryError } from '../errors.ts';
import { Wakeup } from '../wakeup.ts';
import type { CatalogStore, EntryRow, Look, Position, RebuildRow } from './store.ts';

export interface Changes {
  readonly kind: 'changes';
  readonly rows: readonly EntryRow[];
  readonly at: Position;
  /** The caller had asked from here or was brought here; the first such step of a follow says so. */
  readonly caughtUp: boolean;
}

/** One run of changes as it was read: the same object for all who stand at its start. */
interface Run {
  readonly from: Position;
  readonly changes: Changes;
  readonly bytes: number;
}

export const PAGE = 64;
const PAGE_BYTES = 3 * 1024 * 1024;
const KEPT_BYTES = 8 * 1024 * 1024;
const KEPT_RUNS = 256;
/** A notice that got lost costs no more than this. */
const RELOOK_MS = 60_000;
const RETRY_MS = { first: 250, longest: 5_000 };

const sizeOf = (rows: readonly EntryRow[]): number => rows.reduce((sum, { entry }) => sum + entry.length, 0);

/** As many rows from the start as fit a message, at least one. */
export const fitting = (rows: readonly EntryRow[]): readonly EntryRow[] => {
  let bytes = 0;
  const end = rows.findIndex((row, at) => {
    bytes += row.entry.length;
    return at > 0 && bytes > PAGE_BYTES;
  });
  return end < 0 ? rows : rows.slice(0, end);
};

export const samePosition = (one: Position, other: Position): boolean =>
  one.position === other.position && one.head.equals(other.head);

/** Somebody who follows. */
export class Seat {
  readonly reader: Actor;
  readonly #wakeup = new Wakeup();
  #judged = false;
  #refused = false;

  constructor(reader: Actor) {
    this.reader = reader;
  }

  get isJudged(): boolean {
    return this.#judged;
  }

  /** False: his row has changed, and he is judged anew. */
  set isJudged(judged: boolean) {
    this.#judged = judged;
  }

  refuse(): void {
    this.#refused = true;
    this.#wakeup.raise();
  }

  raise(): void {
    this.#wakeup.raise();
  }

  /** Throws where the store has said that he may not, or no longer, read the tenant's rows. */
  check(): void {
    if (this.#refused) throw new RegistryError('PERMISSION_DENIED');
  }

  /** Until there may be something new since he last waited. */
  wait(signal: AbortSignal): Promise<void> {
    return this.#wakeup.wait({ signal });
  }
}

export interface FeedOptions {
  /** The tenant's, by the registry itself. */
  readonly store: Pick<CatalogStore, 'look'>;
  watch(listener: () => void): () => void;
  /** Calls back when a rebuild was opened or ended. */
  watchRebuilds(listener: () => void): () => void;
  /** Calls back with every host or administrator whose row was changed. */
  watchReaders(listener: (reader: { readonly kind: 'host' | 'admin'; readonly name: string }) => void): () => void;
  /** Nobody follows any more. */
  emptied(): void;
}

export class Feed {
  readonly #options: FeedOptions;
  readonly #seats = new Set<Seat>();
  readonly #stops: readonly (() => void)[];
  #runs: Run[] = [];
  #bytes = 0;
  #end: Position | undefined;
  #rebuild: RebuildRow | undefined;
  #running: Promise<void> | undefined;
  #following: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #retryMs = RETRY_MS.first;

  constructor(options: FeedOptions) {
    this.#options = options;
    const look = (): void => this.#lookSoon();
    const stopReaders = options.watchReaders((changed) => this.#judgeAgain(changed));
    this.#stops = [options.watch(look), options.watchRebuilds(look), stopReaders];
  }

  /** The last rebuild of the tenant. */
  get rebuild(): RebuildRow | undefined {
    return this.#rebuild;
  }

  /** Resolves once the store was looked at since then, and lets the reader in. */
  async join(reader: Actor): Promise<Seat> {
    const seat = new Seat(reader);
    this.#seats.add(seat);
    try {
      await this.look();
      seat.check();
      return seat;
    } catch (thrown) {
      this.leave(seat);
      throw thrown;
    }
  }

  leave(seat: Seat): void {
    this.#seats.delete(seat);
    if (this.#seats.size > 0) return;
    clearTimeout(this.#timer);
    for (const stop of this.#stops) stop();
    this.#options.emptied();
  }

  /** Resolves after a look that began after this call; many calls share one. */
  look(): Promise<void> {
    if (this.#running === undefined) return this.#begin();
    this.#following ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#following = undefined;
        return this.#running ?? this.#begin();
      });
    return this.#following;
  }

  /**
   * What follows a position: changes, none (the position is where all stand), or undefined where what is kept cannot say:
   * then the store is to be asked.
   */
  behind(at: Position): Changes | 'nothing' | undefined {
    if (this.#end === undefined) return undefined;
    if (at.position === this.#end.position) return samePosition(at, this.#end) ? 'nothing' : undefined;
    const run = this.#runs.findLast(({ from }) => from.position <= at.position);
    if (run === undefined || at.position > run.changes.at.position) return undefined;
    if (samePosition(at, run.from)) return run.changes;
    const { changes } = run;
    const index = changes.rows.findIndex((row) => samePosition(at, row));
    return index < 0 ? undefined : { ...changes, rows: changes.rows.slice(index + 1) };
  }

  #judgeAgain({ kind, name }: { readonly kind: 'host' | 'admin'; readonly name: string }): void {
    const changed = [...this.#seats].filter(({ reader }) => reader.kind === kind && reader.name === name);
    for (const seat of changed) seat.isJudged = false;
    if (changed.length > 0) this.#lookSoon();
  }

  #begin(): Promise<void> {
    this.#running = this.#lookNow().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** For those who are here already: one that fails is tried again, and nobody is told before it has succeeded. */
  #lookSoon(): void {
    this.look().catch(() => {
      this.#later(this.#retryMs, () => this.#lookSoon());
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS.longest);
    });
  }

  #later(ms: number, work: () => void): void {
    clearTimeout(this.#timer);
    if (this.#seats.size > 0) this.#timer = setTimeout(work, ms).unref();
  }

  async #lookNow(): Promise<void> {
    const seats = [...this.#seats];
    const judged = seats.filter(({ isJudged }) => isJudged);
    const joining = seats.filter(({ isJudged }) => !isJudged);
    const look = await this.#lookFor(judged, joining);
    this.#retryMs = RETRY_MS.first;
    const refused = new Set(look.refused);
    for (const seat of seats) if (refused.has(seat.reader)) seat.refuse();
    if (this.#take(look)) for (const seat of seats) seat.raise();
    const isBehind = this.#end !== undefined && this.#end.position < look.position.position;
    if (isBehind) this.#later(0, () => this.#lookSoon());
    else this.#later(RELOOK_MS, () => this.#relook());
  }

  async #lookFor(judged: readonly Seat[], joining: readonly Seat[]): Promise<Look> {
    // Before the store is asked: whose row changes meanwhile is to be judged once more.
    for (const seat of joining) seat.isJudged = true;
    try {
      return await this.#options.store.look({
        after: this.#end,
        limit: PAGE,
        readers: judged.map(({ reader }) => reader),
        joining: joining.map(({ reader }) => reader),
      });
    } catch (thrown) {
      for (const seat of joining) seat.isJudged = false;
      throw thrown;
    }
  }

  /**
   * Also for those who wait for what was lost to be back. Nothing has changed for long: whoever has not been told yet
   * reads for himself, or a thousand quiet tenants would keep what they had last.
   */
  #relook(): void {
    [this.#runs, this.#bytes] = [[], 0];
    this.#lookSoon();
    for (const seat of this.#seats) seat.raise();
  }

  /** True where there is news. */
  #take({ position, known, rows, rebuild }: Look): boolean {
    const isOpen = rebuild !== undefined && rebuild.endedAt === undefined;
    const isOther = rebuild?.id !== this.#rebuild?.id || rebuild?.endedAt !== this.#rebuild?.endedAt;
    this.#rebuild = rebuild;
    if (this.#end === undefined || !known || rows === undefined || isOpen || isOther) {
      [this.#runs, this.#bytes] = [[], 0];
      // What a rebuild changes comes as a snapshot behind it.
      this.#end = isOpen ? undefined : position;
      return true;
    }
    const fits = fitting(rows);
    const last = fits.at(-1);
    if (last === undefined) return false;
    const from = this.#end;
    const at = { position: last.position, head: last.head };
    this.#keep({ from, changes: { kind: 'changes', rows: fits, at, caughtUp: false }, bytes: sizeOf(fits) });
    this.#end = at;
    return true;
  }

  #keep(run: Run): void {
    this.#runs.push(run);
    this.#bytes += run.bytes;
    while (this.#runs.length > 1 && (this.#bytes > KEPT_BYTES || this.#runs.length > KEPT_RUNS)) {
      this.#bytes -= this.#runs.shift()?.bytes ?? 0;
    }
  }
}
