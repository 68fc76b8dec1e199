// The LMDB environment of the keys room: records, use counters, KEK rows and notes of token objects under way, and the
// index that authenticates them. Invariant: nothing is read or written before `unlock`; a change is one transaction with
// its part of the index, on the disk when `write` returns, and not made at all when it throws.
// Writes are synchronous on purpose (docs/decisions/0005-key-store.md): memory changes in the same turn as the disk.
// Reads are served from memory, never from here.
import { mkdirSync } from 'node:fs';
import { type Database, open, type RootDatabase } from 'lmdb';
import { AgentError } from '../errors.ts';
import type { SealingKey } from './sealing-key.ts';
import { ROOT, type RowFault, Seals, SealsError } from './seals.ts';

export interface StoreEvents {
  /** The disk is full or failing; `cause` is LMDB's error. */
  storeFailed(event: { cause: unknown }): void;
}

export type TableName = 'records' | 'uses' | 'keks' | 'notes' | 'positions';
const TABLES: readonly TableName[] = ['records', 'uses', 'keks', 'notes', 'positions'];
const WRAPPED_KEY = 'sealing-key';

/** The tables inside a transaction. */
export interface Writer {
  put(table: TableName, key: string, value: Buffer): void;
  remove(table: TableName, key: string): void;
}

/** A row that is authentic and the newest of its key, or what is wrong with it. */
export type StoredRow =
  | { readonly key: string; readonly value: Buffer; readonly fault?: undefined }
  | { readonly key: string; readonly value?: undefined; readonly fault: RowFault };

type Table = Database<Buffer, string>;
type Change = { readonly table: TableName; readonly key: string; readonly sealed: Buffer | undefined };

/** What a fault is called in logs. */
export const faultText: Readonly<Record<RowFault, string>> = {
  altered: 'it was altered, or copied from another row',
  older: 'an older one was put back',
  missing: 'it was removed',
  added: 'it was not written by this agent',
};

export class KeyStore {
  readonly #root: RootDatabase<Buffer, string>;
  readonly #tables: Readonly<Record<TableName, Table>>;
  readonly #index: Table;
  readonly #events: StoreEvents;
  #seals: Seals | undefined;
  #closed = false;

  constructor({ path, events }: { readonly path: string; readonly events: StoreEvents }) {
    this.#events = events;
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      // overlappingSync would resolve commits before they are on the disk.
      const maxDbs = TABLES.length + 1;
      this.#root = open({ path, noSubdir: false, maxDbs, encoding: 'binary', overlappingSync: false });
      const table = (name: string): Table => this.#root.openDB(name, { encoding: 'binary' });
      this.#tables = {
        records: table('records'),
        uses: table('uses'),
        keks: table('keks'),
        notes: table('notes'),
        positions: table('positions'),
      };
      this.#index = table('seals');
    } catch (cause) {
      throw new AgentError('STORE_UNAVAILABLE', { message: 'the key store cannot be opened', cause });
    }
  }

  /** The wrapped key that authenticates the rows; undefined in a store that was never used, or whose key is gone. */
  get wrappedKey(): Buffer | undefined {
    return this.#indexRow(WRAPPED_KEY);
  }

  get isEmpty(): boolean {
    return [...Object.values(this.#tables), this.#index].every((table) => table.getKeysCount({ limit: 1 }) === 0);
  }

  get isUnlocked(): boolean {
    return this.#seals !== undefined;
  }

  /** Verifies the index by its key, and begins it in an empty store. Throws STORE_UNAVAILABLE. */
  unlock({ key, wrapped }: SealingKey): void {
    if (this.isEmpty) {
      const { seals, root } = Seals.begin(key);
      this.#transaction(() => {
        this.#index.putSync(WRAPPED_KEY, wrapped);
        this.#index.putSync(ROOT, root);
      });
      this.#seals = seals;
      return;
    }
    try {
      this.#seals = Seals.open(key, (name) => this.#indexRow(name));
    } catch (cause) {
      if (!(cause instanceof SealsError)) throw cause;
      const message = `the key store was altered: ${cause.message}; restore the data folder from a backup`;
      throw new AgentError('STORE_UNAVAILABLE', { message, cause });
    }
  }

  /** All rows of a table, those that are gone too; for loading at start. */
  *rows(table: TableName): Generator<StoredRow> {
    const seals = this.#need();
    const gone = new Set(seals.keys(table));
    for (const { key, value: stored } of this.#tables[table].getRange()) {
      gone.delete(key);
      const value = seals.unseal(table, key, stored);
      yield typeof value === 'string' ? { key, fault: value } : { key, value };
    }
    for (const key of gone) yield { key, fault: 'missing' };
  }

  /** Runs `change` as one transaction. Throws STORE_UNAVAILABLE; then nothing was changed. */
  write(change: (writer: Writer) => void): void {
    if (this.#closed) throw new AgentError('SHUTTING_DOWN');
    const seals = this.#need();
    const changes: Change[] = [];
    const writer: Writer = {
      put: (table, key, value) => void changes.push({ table, key, sealed: seals.seal(table, key, value) }),
      remove: (table, key) => void changes.push({ table, key, sealed: undefined }),
    };
    change(writer);
    const staged = seals.stage(changes);
    this.#transaction(() => {
      for (const { table, key, sealed } of changes) this.#store(this.#tables[table], key, sealed);
      for (const { key, value } of staged.rows) this.#store(this.#index, key, value);
    });
    staged.commit();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#root.close();
  }

  #indexRow(name: string): Buffer | undefined {
    const value = this.#index.get(name);
    return value === undefined ? undefined : Buffer.from(value); // LMDB's own memory is valid for one turn only
  }

  #need(): Seals {
    if (this.#seals !== undefined) return this.#seals;
    throw new AgentError('STORE_UNAVAILABLE', { message: 'the key store waits for the token to authenticate it' });
  }

  #store(table: Table, key: string, value: Buffer | undefined): void {
    if (value === undefined) table.removeSync(key);
    else table.putSync(key, value);
  }

  #transaction(change: () => void): void {
    try {
      this.#root.transactionSync(change);
    } catch (cause) {
      this.#events.storeFailed({ cause });
      throw new AgentError('STORE_UNAVAILABLE', { message: 'the key store cannot be written', cause });
    }
  }
}
