// The LMDB environment of the keys room: records, use counters, KEK rows and notes of token objects under way.
// Invariant: a change is one transaction, on the disk when `write` returns, and not made at all when it throws.
// Writes are synchronous on purpose (docs/decisions/0005-key-store.md): memory changes in the same turn as the disk.
// Reads are served from memory, never from here.
import { createHash, timingSafeEqual } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { type Database, open, type RootDatabase } from 'lmdb';
import { AgentError } from '../errors.ts';

export interface StoreEvents {
  /** The disk is full or failing; `cause` is LMDB's error. */
  storeFailed(event: { cause: unknown }): void;
}

export type TableName = 'records' | 'uses' | 'keks' | 'notes';
const TABLES: readonly TableName[] = ['records', 'uses', 'keks', 'notes'];

/** The tables inside a transaction. */
export interface Writer {
  put(table: TableName, key: string, value: Buffer): void;
  remove(table: TableName, key: string): void;
}

export interface StoredRow {
  readonly key: string;
  /** Undefined where the checksum does not fit. */
  readonly value: Buffer | undefined;
}

// LMDB has no checksums of its own; a flipped bit must not become a different, valid record.
const checksum = (value: Buffer): Buffer => createHash('sha256').update(value).digest();
const CHECKSUM_BYTES = 32;

const unseal = (bytes: Buffer): Buffer | undefined => {
  if (bytes.length < CHECKSUM_BYTES) return undefined;
  const value = Buffer.from(bytes.subarray(CHECKSUM_BYTES));
  return timingSafeEqual(checksum(value), bytes.subarray(0, CHECKSUM_BYTES)) ? value : undefined;
};

export class KeyStore {
  readonly #root: RootDatabase<Buffer, string>;
  readonly #tables: Readonly<Record<TableName, Database<Buffer, string>>>;
  readonly #events: StoreEvents;
  #closed = false;

  constructor({ path, events }: { readonly path: string; readonly events: StoreEvents }) {
    this.#events = events;
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      // overlappingSync would resolve commits before they are on the disk.
      this.#root = open({ path, noSubdir: false, maxDbs: TABLES.length, encoding: 'binary', overlappingSync: false });
      const table = (name: TableName): Database<Buffer, string> => this.#root.openDB(name, { encoding: 'binary' });
      this.#tables = { records: table('records'), uses: table('uses'), keks: table('keks'), notes: table('notes') };
    } catch (cause) {
      throw new AgentError('STORE_UNAVAILABLE', { message: 'the key store cannot be opened', cause });
    }
  }

  /** All rows of a table, in order of key; for loading at start. */
  *rows(table: TableName): Generator<StoredRow> {
    for (const { key, value } of this.#tables[table].getRange()) yield { key, value: unseal(value) };
  }

  /** Runs `change` as one transaction. Throws STORE_UNAVAILABLE; then nothing was changed. */
  write(change: (writer: Writer) => void): void {
    if (this.#closed) throw new AgentError('SHUTTING_DOWN');
    const writer: Writer = {
      put: (table, key, value) => this.#tables[table].putSync(key, Buffer.concat([checksum(value), value])),
      remove: (table, key) => this.#tables[table].removeSync(key),
    };
    try {
      this.#root.transactionSync(() => change(writer));
    } catch (cause) {
      this.#events.storeFailed({ cause });
      throw new AgentError('STORE_UNAVAILABLE', { message: 'the key store cannot be written', cause });
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#root.close();
  }
}
