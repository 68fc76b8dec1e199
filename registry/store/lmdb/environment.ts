// The LMDB environment: one ordered table, keys of parts, values as MessagePack. Invariant: a change is one transaction,
// on the disk when its promise resolves, and not made at all when it throws.
import { mkdirSync, statfsSync } from 'node:fs';
import { type Database, type Key, open, type RootDatabase } from 'lmdb';
import { RegistryError } from '../../errors.ts';
import { asStoreError } from '../rules.ts';
import type { StoreEvents } from '../store.ts';

/** Begins every key: what kind of row. */
export type Table =
  | 'tenant'
  | 'host'
  | 'admin'
  | 'token'
  | 'presence'
  | 'policy'
  | 'policy-head'
  | 'mac-key'
  | 'entry'
  | 'change'
  | 'position'
  | 'lease'
  | 'lease-tenant'
  | 'lease-order'
  | 'rebuild'
  | 'rebuild-offer'
  | 'uses'
  | 'log'
  | 'record'
  | 'node'
  | 'checkpoint'
  | 'found'
  | 'span'
  | 'session-budget'
  | 'probe';
export type Parts = readonly [Table, ...(string | number)[]];

/** Kept free for what must go on when the ledger has filled the store: to revoke a host, to suspend a key. */
const RESERVE_BYTES = 16 * 2 ** 20;
const RESERVE_SHARE = 8; // of a small store
/** LMDB touches pages of its own with every commit; on a full disk that would be a SIGBUS. */
const LEAST_FREE_BYTES = 2 ** 20;

interface Stats {
  readonly pageSize: number;
  readonly lastPageNumber: number;
}

const AFTER_STRINGS = '\uffff';

export interface RowRange {
  /** Parts that all keys begin with; the next part is a string or a number. */
  readonly prefix: Parts;
  /** From the first key whose next parts are above (or, with `from`, at least) these. */
  readonly after?: readonly (string | number)[];
  readonly from?: readonly (string | number)[];
  readonly numbers?: boolean;
  readonly reverse?: boolean;
  readonly limit?: number;
}

export class Environment {
  readonly #db: RootDatabase<unknown, Key> | Database<unknown, Key>;
  readonly #events: StoreEvents;
  readonly #path: string;
  readonly #limitBytes: number;
  #closed = false;

  constructor(options: { readonly path: string; readonly mapSizeBytes?: number; readonly events: StoreEvents }) {
    const { path, mapSizeBytes, events } = options;
    this.#events = events;
    this.#path = path;
    this.#limitBytes = mapSizeBytes ?? Number.POSITIVE_INFINITY;
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      // overlappingSync would resolve commits before they are on the disk.
      // The map grows by itself; how far is this file's to say.
      this.#db = open({ path, noSubdir: false, encoding: 'msgpack', overlappingSync: false, cache: false });
    } catch (cause) {
      throw new RegistryError('STORE_UNAVAILABLE', { message: 'the store cannot be opened', cause });
    }
  }

  get<T>(...key: Parts): T | undefined {
    this.#reach();
    return this.#db.get([...key]) as T | undefined;
  }

  /** Inside of `write` only. */
  put(key: Parts, value: unknown): void {
    this.#db.putSync([...key], value);
  }

  /** Inside of `write` only. */
  remove(key: Parts): void {
    this.#db.removeSync([...key]);
  }

  *rows<T>({ prefix, after, from, numbers = false, reverse = false, limit }: RowRange): Generator<{
    readonly key: readonly (string | number)[];
    readonly value: T;
  }> {
    this.#reach();
    const low = [...prefix, ...(after ?? from ?? [])];
    const high = [...prefix, numbers ? Number.POSITIVE_INFINITY : AFTER_STRINGS];
    const first = (after ?? from) === undefined ? [...prefix] : low;
    const bounds = reverse ? { start: high, end: first, reverse } : { start: first, end: high };
    const more = { exclusiveStart: after !== undefined && !reverse, ...(limit !== undefined && { limit }) };
    for (const { key, value } of this.#db.getRange({ ...bounds, ...more })) {
      yield { key: (key as (string | number)[]).slice(prefix.length), value: value as T };
    }
  }

  /**
   * Runs `change` as one transaction: reads in it see what is stored, and nobody writes meanwhile. `bulk`: what fills the
   * store, and stops before it is full.
   */
  async write<T>(change: () => T, { bulk = false } = {}): Promise<T> {
    this.#reach();
    this.#refuseWithoutSpace(bulk);
    let answer: { readonly value: T } | undefined;
    let thrown: unknown;
    try {
      await this.#db.childTransaction(() => {
        try {
          answer = { value: change() };
        } catch (error) {
          thrown = error;
          throw error;
        }
      });
    } catch (cause) {
      if (thrown instanceof RegistryError) throw thrown;
      this.#events.failed({ cause });
      throw asStoreError(cause);
    }
    if (thrown !== undefined) throw thrown;
    return (answer as { readonly value: T }).value;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#db.close();
  }

  #refuseWithoutSpace(bulk: boolean): void {
    const { pageSize, lastPageNumber } = this.#db.getStats() as Stats;
    const reserve = bulk ? Math.min(RESERVE_BYTES, this.#limitBytes / RESERVE_SHARE) : 0;
    const { bavail, bsize } = statfsSync(this.#path);
    const isFull = (lastPageNumber + 1) * pageSize + reserve > this.#limitBytes;
    if (!isFull && bavail * bsize >= LEAST_FREE_BYTES + (bulk ? RESERVE_BYTES : 0)) return;
    const what = isFull ? 'the store has reached its limit' : 'the disk of the store is full';
    const cause = new Error(`${what}: ${this.#path}`);
    this.#events.failed({ cause });
    throw new RegistryError('STORE_UNAVAILABLE', { cause });
  }

  #reach(): void {
    if (this.#closed) throw new RegistryError('STORE_UNAVAILABLE', { message: 'the store is closed' });
  }
}
