// The Merkle tree of a stored log: roots of ranges, proofs, and the complete subtrees that make both cheap. Invariant: a
// node is computed from records alone, once, when its last record comes.
import { Frontier, HASH_BYTES, leafHash, nodeHash } from '../../proto/documents/merkle.ts';
import { RegistryError } from '../errors.ts';
import type { LedgerStore, RecordRow, TreeNode } from './store.ts';

/** Leaves of a node of level 1; of level n its n-th power. */
const FAN = 256;

export const leafOf = ({ record, mac }: Pick<RecordRow, 'record' | 'mac'>): Buffer =>
  leafHash(Buffer.concat([record, mac]));

/** The roots of subtrees of 256^(level - 1) leaves which wait in a frontier for the next node of the level. */
const waiting = (frontier: Frontier, level: number): Frontier => {
  const unit = FAN ** (level - 1);
  const count = Math.floor(frontier.size / unit) % FAN;
  const above = ones(Math.floor(frontier.size / (unit * FAN)));
  return new Frontier(count, frontier.nodes.slice(above, above + ones(count)));
};

const ones = (size: number): number => {
  let count = 0;
  for (let n = size; n > 0; n = Math.floor(n / 2)) count += n % 2;
  return count;
};

/** Grows a frontier and gives out the nodes that become complete. */
export class GrowingTree {
  readonly frontier: Frontier;
  readonly nodes: TreeNode[] = [];
  readonly #levels: Frontier[] = [];

  constructor(size: number, nodes: readonly Buffer[]) {
    this.frontier = new Frontier(size, nodes);
  }

  append(leaf: Buffer): void {
    this.#climb(leaf, 1);
    this.frontier.append(leaf);
  }

  #climb(hash: Buffer, level: number): void {
    this.#levels[level] ??= waiting(this.frontier, level);
    const row = this.#levels[level] as Frontier;
    row.append(hash);
    if (row.size < FAN) return;
    const node = row.root();
    this.#levels[level] = new Frontier();
    this.nodes.push({ level, index: Math.floor(this.frontier.size / FAN ** level), hash: node });
    this.#climb(node, level + 1);
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
