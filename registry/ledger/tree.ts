// The Merkle tree of a stored log: roots of ranges, proofs, and the complete subtrees that make both cheap. Invariant: a
// node is computed from records alone, once, when its last record comes.
import { Frontier, HASH_BYTES, leafHash, nodeHash } from '../../proto/documents/merkle.ts';
import { RegistryError } from '../errors.ts';
import type { LedgerStore, RecordRow, TreeNode } from './store.ts';

/** Leaves of a node of level 1; of level n its n-th power. */
const FAN = 256;

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

/** The largest power of two below n (n > 1). */
const split = (n: number): number => {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
};

const isPower = (n: number): boolean => n === 1 || split(n) * 2 === n;

type TreeStore = Pick<LedgerStore, 'records' | 'nodes'>;

export class StoredTree {
  readonly #store: TreeStore;
  readonly #origin: string;

  constructor(store: TreeStore, origin: string) {
    this.#store = store;
    this.#origin = origin;
  }

  /** Root of the `size` leaves from `start` on, as RFC 6962 splits them. */
  async root(start: number, size: number): Promise<Buffer> {
    if (isPower(size)) return this.#complete(start, size);
    const k = split(size);
    return nodeHash(await this.root(start, k), await this.root(start + k, size - k));
  }

  /** PATH(index, D[size]) of RFC 6962 section 2.1.1. */
  async inclusion(index: number, size: number): Promise<Buffer[]> {
    const path: Buffer[] = [];
    let [start, count] = [0, size];
    while (count > 1) {
      const k = split(count);
      const isLeft = index < start + k;
      path.push(isLeft ? await this.root(start + k, count - k) : await this.root(start, k));
      [start, count] = isLeft ? [start, k] : [start + k, count - k];
    }
    return path.reverse();
  }

  /** A complete subtree: from at most 255 hashes below it. */
  async #complete(start: number, size: number): Promise<Buffer> {
    let level = 0;
    while (FAN ** (level + 1) <= size) level += 1;
    const unit = FAN ** level;
    const origin = this.#origin;
    const query = { origin, from: start / unit, limit: size / unit };
    const hashes =
      level === 0
        ? (await this.#store.records(query)).map(leafOf)
        : (await this.#store.nodes({ ...query, level })).map(({ hash }) => hash);
    if (hashes.length !== size / unit || hashes.some((hash) => hash.length !== HASH_BYTES)) {
      throw new RegistryError('LEDGER_CORRUPT', { metadata: { origin, index: String(start) } });
    }
    const tree = new Frontier();
    for (const hash of hashes) tree.append(hash);
    return tree.root();
  }
}
