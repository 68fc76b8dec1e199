// The store under the audit log: LMDB behind the write-ahead journal. Invariant: what `commit` has taken survives a
// killed process, what `flushed` has waited for survives power loss, and neither event leaves LMDB corrupt
// (docs/decisions/0002-audit-durability.md).
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../errors.ts';
import { applyPuts, type Database, JOURNALS, openLmdb, readApplied, unapplied } from './applied.ts';
import { Cycle } from './cycle.ts';
import { DataFile, type PageStats } from './data-file.ts';
import { claimFolder, type FolderClaim } from './folder-claim.ts';
import { type Frame, frameBytes, Journal, NONCE_BYTES, type Put } from './journal.ts';
import { keysOf, newestOf } from './pending-view.ts';
import { Space, unavailable } from './space.ts';

export interface StoreLimits {
  readonly mapSize: number;
  readonly reserveBytes: number;
  readonly journalBytes: number;
}

export interface StoreEvents {
  failed(event: { records: number; cause: unknown }): void;
  size(event: { usedBytes: number; limitBytes: number }): void;
}

const LEAST_BYTES = 256 * 1024; // what LMDB writes for itself when it opens a folder
const APPLY_DELAY_MS = 250; // where nobody waits for the disk: a transaction and its sync cost as much as some ten records
const RETRY_MS = 1000;
const STALL_MS = 30_000; // past this the disk counts as away

export class AuditStore {
  readonly #path: string;
  readonly #space: Space;
  readonly #events: StoreEvents;
  readonly #db: Database;
  readonly #claim: FolderClaim | undefined;
  #journals: [Journal, Journal] | undefined;
  #dataFile: DataFile | undefined;
  #scratch = Buffer.alloc(0);
  #nonce: Buffer;
  #sequence: number;
  #active = new Cycle();
  #applying: Cycle | undefined;
  #pump: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #hurry = false;
  #fault: unknown;

  private constructor(
    path: string,
    db: Database,
    claim: FolderClaim | undefined,
    limits: StoreLimits,
    events: StoreEvents,
  ) {
    this.#path = path;
    this.#db = db;
    this.#claim = claim;
    this.#space = new Space(path, limits, events);
    this.#events = events;
    const { nonce, sequence } = readApplied(db);
    this.#nonce = nonce;
    this.#sequence = sequence;
    for (const frame of unapplied(path, nonce, sequence)) this.#take(frame);
    this.#space.measure(this.#db.getStats() as PageStats);
  }

  /** Opens for writing: claims the folder, brings LMDB up to the journal, starts the journal anew. */
  static async open(options: { path: string; limits: StoreLimits; events: StoreEvents }): Promise<AuditStore> {
    const { path, limits, events } = options;
    let claim: FolderClaim | undefined;
    let store: AuditStore | undefined;
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      claim = claimFolder(path);
      // LMDB maps its lock file: on a full disk the first touch would be a SIGBUS, so the journal claims space before it.
      const journals = JOURNALS.map((name) => new Journal(join(path, name), limits.journalBytes));
      const { bavail, bsize } = statfsSync(path);
      if (bavail * bsize < LEAST_BYTES) throw unavailable(`the disk of ${path} is full; free space`);
      store = new AuditStore(path, openLmdb(path, false), claim, limits, events);
      store.#journals = journals as [Journal, Journal];
      store.#dataFile = new DataFile(path);
      store.#scratch = Buffer.alloc(limits.journalBytes);
      await store.#restartJournal();
      return store;
    } catch (cause) {
      if (store === undefined) claim?.release();
      else await store.close();
      throw cause instanceof AgentError
        ? cause
        : unavailable(`the store in ${path} cannot be opened for writing`, cause);
    }
  }

  /** Opens to read, a live store or a copy of one; sees what the journal holds. */
  static openToRead(path: string): AuditStore {
    if (!existsSync(join(path, 'data.mdb'))) throw unavailable(`there is no audit store in ${path}`);
    const limits = { mapSize: 0, reserveBytes: 0, journalBytes: 0 };
    return new AuditStore(path, openLmdb(path, true), undefined, limits, { failed() {}, size() {} });
  }

  /** Takes all of `puts` or, by throwing AUDIT_UNAVAILABLE, none. `reserve`: may use the space kept for closing. */
  commit(puts: readonly Put[], { reserve = false } = {}): void {
    const bytes = frameBytes(puts);
    this.#refuseWithoutSpace(bytes, reserve);
    const journal = (this.#journals as [Journal, Journal])[0];
    if (bytes > journal.room) throw unavailable('the journal is full; the disk does not keep up');
    const frame = { sequence: this.#sequence + 1, puts };
    try {
      journal.append(this.#scratch, this.#nonce, frame);
    } catch (cause) {
      throw unavailable(`the journal in ${this.#path} cannot be written (${(cause as Error).message})`, cause);
    }
    this.#take(frame);
    this.#space.take(bytes);
    if (this.#pump === undefined) this.#later(APPLY_DELAY_MS);
  }

  /** Whether a frame of this many bytes fits before the disk has caught up. */
  hasRoom(bytes: number): boolean {
    return (this.#journals as [Journal, Journal])[0].room >= bytes;
  }

  /** Resolves when all that is committed by now is on the disk. */
  flushed(): Promise<void> {
    const cycle = this.#active.sequence > 0 ? this.#active : this.#applying;
    if (cycle === undefined) return Promise.resolve();
    const { promise } = cycle.done;
    this.#hurry = true;
    this.#start();
    return promise;
  }

  get(key: Buffer): Buffer | undefined {
    return newestOf(this.#db, this.#pending, key);
  }

  /** Keys that begin with `prefix`, in order. */
  keys(prefix: Buffer, pageSize?: number): Generator<Buffer> {
    return keysOf(this.#db, () => this.#pending, prefix, pageSize);
  }

  /** Why appends are refused, or undefined. */
  fault(): string | undefined {
    if (this.#fault === undefined) return this.#space.shortage();
    return `the audit store in ${this.#path} cannot be written (${(this.#fault as Error).message})`;
  }

  async close(): Promise<void> {
    try {
      if (this.#journals !== undefined) await this.flushed();
    } catch (cause) {
      // The journal has it; the next start brings it into LMDB.
      this.#events.failed({ records: this.#active.puts.size, cause });
    } finally {
      clearTimeout(this.#timer);
      await this.#pump;
      clearTimeout(this.#timer);
      await this.#db.close();
      this.#dataFile?.close();
      for (const journal of this.#journals ?? []) journal.close();
      this.#claim?.release();
    }
  }

  /** What LMDB does not have yet, newest first. */
  get #pending(): readonly Cycle[] {
    return this.#applying === undefined ? [this.#active] : [this.#active, this.#applying];
  }

  #take(frame: Frame): void {
    this.#sequence = frame.sequence;
    this.#active.sequence = frame.sequence;
    this.#active.bytes += frameBytes(frame.puts);
    for (const put of frame.puts) this.#active.puts.set(put.key.toString('latin1'), put);
  }

  /** A fresh nonce voids every frame on the files, so that no stale one can join the new sequence. */
  async #restartJournal(): Promise<void> {
    const nonce = randomBytes(NONCE_BYTES);
    const puts = [...this.#active.puts.values()];
    await this.#apply(puts, nonce, this.#sequence);
    this.#nonce = nonce;
    this.#active = new Cycle();
    this.#space.measure(this.#db.getStats() as PageStats);
  }

  #refuseWithoutSpace(bytes: number, reserve: boolean): void {
    if (this.#fault !== undefined) {
      this.#start(); // perhaps there is space again; the next append will know
      throw unavailable(`${this.fault()}; free space or repair the disk, service returns by itself`, this.#fault);
    }
    this.#space.check(this.#active.bytes + (this.#applying?.bytes ?? 0) + bytes, reserve);
  }

  #later(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#start();
    }, ms).unref();
  }

  #start(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#pump ??= this.#run().finally(() => {
      this.#pump = undefined;
      if (this.#fault !== undefined) this.#later(RETRY_MS);
      else if (this.#active.sequence > 0) this.#later(APPLY_DELAY_MS);
    });
  }

  /** Brings cycle after cycle into LMDB while somebody waits; a failed cycle is kept and tried again. */
  async #run(): Promise<void> {
    do {
      if (this.#applying === undefined) {
        if (this.#active.sequence === 0) return;
        this.#applying = this.#active;
        this.#active = new Cycle();
        this.#hurry = false;
        const [full, empty] = this.#journals as [Journal, Journal];
        empty.rewind();
        this.#journals = [empty, full];
      }
      const cycle = this.#applying;
      const stall = setTimeout(() => {
        this.#fault = new Error(`no answer from the disk for ${STALL_MS} ms`);
        cycle.fail(unavailable(this.fault() as string, this.#fault));
      }, STALL_MS).unref();
      try {
        await this.#apply([...cycle.puts.values()], this.#nonce, cycle.sequence);
        this.#fault = undefined;
        this.#applying = undefined;
        cycle.done.resolve();
        this.#space.measure(this.#db.getStats() as PageStats);
      } catch (cause) {
        this.#fault = cause;
        this.#events.failed({ records: cycle.puts.size, cause });
        cycle.fail(unavailable(`${this.fault()}; free space or repair the disk, service returns by itself`, cause));
        return;
      } finally {
        clearTimeout(stall);
      }
    } while (this.#hurry);
  }

  async #apply(puts: readonly Put[], nonce: Buffer, sequence: number): Promise<void> {
    this.#dataFile?.claim(puts, this.#db.getStats() as PageStats);
    await applyPuts(this.#db, puts, nonce, sequence);
  }
}
