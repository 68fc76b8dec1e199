// The tree of a tenant's log over the records of the store. Roots of complete subtrees of 256^n records are kept as they
// are first needed, so that a proof reads hundreds of records, not all. Invariant: such a root is no authority; whoever
// uses it compares what comes of it with a signed root.
import { setImmediate as breathe } from 'node:timers/promises';
import { Frontier, HASH_BYTES, leafHash } from '../../proto/documents/merkle.ts';
import { FAN, StoredTree } from '../../proto/documents/stored-tree.ts';
import { AgentError } from '../errors.ts';
import type { Put } from './journal.ts';
import { recordKey } from './rows.ts';

export interface TreeStore {
  get(key: Buffer): Buffer | undefined;
  commit(puts: readonly Put[]): void;
}

export const nodeKey = (tenant: string, level: number, index: number): Buffer => {
  const key = Buffer.allocUnsafe(2 + tenant.length + 9);
  key.write(`t${tenant}\0`, 0, 'latin1');
  key.writeUInt8(level, 2 + tenant.length);
  key.writeBigUInt64BE(BigInt(index), 3 + tenant.length);
  return key;
};

class LogHashes {
  readonly #store: TreeStore;
  readonly #tenant: string;
  readonly #signal: AbortSignal | undefined;

  constructor(store: TreeStore, tenant: string, signal?: AbortSignal) {
    this.#store = store;
    this.#tenant = tenant;
    this.#signal = signal;
  }

  async hashes(level: number, from: number, count: number): Promise<readonly Buffer[]> {
    const hashes: Buffer[] = [];
    for (let index = from; index < from + count; index += 1) {
      const hash = level === 0 ? this.#leaf(index) : await this.#node(level, index);
      if (hash === undefined) break;
      hashes.push(hash);
    }
    return hashes;
  }

  missing(leaf: number): AgentError {
    return new AgentError('AUDIT_CORRUPT', {
      message: `the audit log of ${this.#tenant} lacks what stands for position ${leaf}`,
      metadata: { index: String(leaf) },
    });
  }

  #leaf(index: number): Buffer | undefined {
    const bytes = this.#store.get(recordKey(this.#tenant, index));
    return bytes && leafHash(bytes);
  }

  async #node(level: number, index: number): Promise<Buffer | undefined> {
    const key = nodeKey(this.#tenant, level, index);
    const stored = this.#store.get(key);
    if (stored?.length === HASH_BYTES) return Buffer.from(stored);
    this.#signal?.throwIfAborted();
    const below = await this.hashes(level - 1, index * FAN, FAN);
    if (below.length !== FAN) return undefined;
    const tree = new Frontier();
    for (const hash of below) tree.append(hash);
    const root = tree.root();
    try {
      this.#store.commit([{ key, value: root }]);
    } catch (cause) {
      if (!(cause instanceof AgentError)) throw cause; // a full disk: it is made again the next time
    }
    await breathe();
    return root;
  }
}

export const logTree = (store: TreeStore, tenant: string, signal?: AbortSignal): StoredTree =>
  new StoredTree(new LogHashes(store, tenant, signal));
