// The Merkle tree of a stored log: roots of ranges, proofs, and the complete subtrees that make both cheap. Invariant: a
// node is computed from records alone, once, when its last record comes.
import { Frontier, leafHash, nodeHash } from '../../proto/documents/merkle.ts';
import { FAN, StoredTree } from '../../proto/documents/stored-tree.ts';
import { RegistryError } from '../errors.ts';
import type { LedgerStore, RecordRow, TreeNode } from './store.ts';

export const leafOf = ({ record, mac }: Pick<RecordRow, 'record' | 'mac'>): Buffer =>
  leafHash(Buffer.concat([record, mac]));

/** Doublings from one level to the next. */
const STEP = 8;

/** Grows a frontier and gives out the nodes that become complete. */
export class GrowingTree {
  readonly nodes: TreeNode[] = [];
  readonly #roots: Buffer[];
  #size: number;

  constructor(size: number, roots: readonly Buffer[]) {
    this.#size = size;
    this.#roots = [...new Frontier(size, roots).nodes];
  }

  get size(): number {
    return this.#size;
  }

  get frontier(): Frontier {
    return new Frontier(this.#size, this.#roots);
  }

  append(leaf: Buffer): void {
    let node = leaf;
    let height = 0;
    for (let n = this.#size; n % 2 === 1; n = (n - 1) / 2) {
      node = nodeHash(this.#roots.pop() as Buffer, node);
      height += 1;
      if (height % STEP !== 0) continue;
      const level = height / STEP;
      this.nodes.push({ level, index: Math.floor(this.#size / FAN ** level), hash: node });
    }
    this.#roots.push(node);
    this.#size += 1;
  }
}

/** Of a log in the store. */
export const storedTree = (store: Pick<LedgerStore, 'records' | 'nodes'>, origin: string): StoredTree =>
  new StoredTree({
    hashes: async (level, from, limit) =>
      level === 0
        ? (await store.records({ origin, from, limit })).map(leafOf)
        : (await store.nodes({ origin, level, from, limit })).map(({ hash }) => hash),
    missing: (leaf) => new RegistryError('LEDGER_CORRUPT', { metadata: { origin, index: String(leaf) } }),
  });
