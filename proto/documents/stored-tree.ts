// A Merkle tree of which leaves and the roots of complete subtrees of 256^n leaves are stored: roots of ranges and
// inclusion proofs by few reads (RFC 6962 section 2.1). Invariant: what is missing is never guessed.
import { Frontier, HASH_BYTES, nodeHash } from './merkle.ts';

/** Hashes of level n that one of level n + 1 stands for. */
export const FAN = 256;

export interface TreeSource {
  /** Leaf hashes (level 0), or roots of complete subtrees of 256^level leaves: from an index on, fewer where some are missing. */
  hashes(level: number, from: number, count: number): Promise<readonly Buffer[]>;
  /** What is thrown where hashes are missing. */
  missing(leaf: number): Error;
}

/** The largest power of two below n (n > 1). */
const split = (n: number): number => {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
};

const isPower = (n: number): boolean => n === 1 || split(n) * 2 === n;

export class StoredTree {
  readonly #source: TreeSource;

  constructor(source: TreeSource) {
    this.#source = source;
  }

  /** Root of the `size` leaves from `start` on, as RFC 6962 splits them. */
  async root(start: number, size: number): Promise<Buffer> {
    if (isPower(size)) return this.#complete(start, size);
    const k = split(size);
    return nodeHash(await this.root(start, k), await this.root(start + k, size - k));
  }

  /** The roots of the complete subtrees of the first `size` leaves. */
  async frontier(size: number): Promise<Frontier> {
    const nodes: Buffer[] = [];
    for (let start = 0; start < size; ) {
      const rest = size - start;
      const part = isPower(rest) ? rest : split(rest);
      nodes.push(await this.#complete(start, part));
      start += part;
    }
    return new Frontier(size, nodes);
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
    const hashes = await this.#source.hashes(level, start / unit, size / unit);
    if (hashes.length !== size / unit || hashes.some((hash) => hash.length !== HASH_BYTES)) {
      throw this.#source.missing(start);
    }
    const tree = new Frontier();
    for (const hash of hashes) tree.append(hash);
    return tree.root();
  }
}
