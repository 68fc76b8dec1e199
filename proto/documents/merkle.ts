// Merkle tree of RFC 6962 section 2.1 (SHA-256): leaf and node hashes, an appendable frontier, roots, and inclusion and
// consistency proofs with their verification (algorithms of RFC 9162 sections 2.1.3.2 and 2.1.4.2).
import { hash } from 'node:crypto';
import { DocumentError } from './canonical.ts';

export const HASH_BYTES = 32;
export const MAX_FRONTIER = 53; // one hash for each bit of a size that a double holds exactly
const FRONTIER_ROOM = MAX_FRONTIER + 1; // and the leaf that is being taken in

const sha256 = (data: Uint8Array): Buffer => hash('sha256', data, 'buffer');
export const EMPTY_ROOT: Buffer = sha256(Buffer.alloc(0));

export const leafHash = (data: Uint8Array): Buffer => sha256(Buffer.concat([Uint8Array.of(0), data]));

export const nodeHash = (left: Uint8Array, right: Uint8Array): Buffer => {
  const node = Buffer.allocUnsafe(1 + 2 * HASH_BYTES);
  node[0] = 1;
  node.set(left, 1);
  node.set(right, 1 + HASH_BYTES);
  return sha256(node);
};

/**
 * The roots of the complete subtrees, largest first: all that an append or the root needs. They lie one behind the other
 * and hashes come as binary strings, because a buffer for each hash costs more than the hash (0.84 against 0.42 µs).
 */
export class Frontier {
  #size: number;
  #count: number;
  readonly #nodes = Buffer.allocUnsafeSlow(FRONTIER_ROOM * HASH_BYTES);
  /** Input of a node hash: 0x01, left, right. */
  readonly #pair = Buffer.alloc(1 + 2 * HASH_BYTES, 1);

  constructor(size = 0, nodes: readonly Uint8Array[] = []) {
    if (!Number.isSafeInteger(size) || size < 0 || nodes.length !== onesOf(size)) {
      throw new DocumentError('the frontier does not fit its size');
    }
    if (nodes.some(({ length }) => length !== HASH_BYTES)) throw new DocumentError('a node is not a hash');
    this.#size = size;
    this.#count = nodes.length;
    for (const [at, node] of nodes.entries()) this.#nodes.set(node, at * HASH_BYTES);
  }

  /** From the nodes one behind the other, as `bytes` gives them. */
  static of(size: number, bytes: Uint8Array): Frontier {
    if (bytes.length % HASH_BYTES !== 0) throw new DocumentError('hashes are cut off');
    const node = (_: unknown, at: number): Uint8Array => bytes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES);
    return new Frontier(size, Array.from({ length: bytes.length / HASH_BYTES }, node));
  }

  get size(): number {
    return this.#size;
  }

  get nodes(): readonly Buffer[] {
    const bytes = Buffer.from(this.bytes);
    return Array.from({ length: this.#count }, (_, at) => bytes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES));
  }

  /** The nodes, one behind the other; a view that the next append changes. */
  get bytes(): Buffer {
    return this.#nodes.subarray(0, this.#count * HASH_BYTES);
  }

  append(leaf: Uint8Array): void {
    this.#nodes.set(leaf, this.#count * HASH_BYTES);
    this.#grow();
  }

  /** Appends the leaf that is the hash of `input`: 0x00, then the data. */
  appendHashOf(input: Uint8Array): void {
    this.#nodes.write(hash('sha256', input, 'binary'), this.#count * HASH_BYTES, 'binary');
    this.#grow();
  }

  root(): Buffer {
    if (this.#count === 0) return EMPTY_ROOT;
    const at = (node: number): Buffer => this.#nodes.subarray(node * HASH_BYTES, (node + 1) * HASH_BYTES);
    let root: Buffer = Buffer.from(at(this.#count - 1));
    for (let node = this.#count - 2; node >= 0; node -= 1) root = nodeHash(at(node), root);
    return root;
  }

  /** Takes in the leaf that was put behind the last node: neighbours of one height become one. */
  #grow(): void {
    this.#count += 1;
    for (let n = this.#size; n % 2 === 1; n = (n - 1) / 2) {
      this.#count -= 1;
      const left = (this.#count - 1) * HASH_BYTES;
      this.#nodes.copy(this.#pair, 1, left, left + 2 * HASH_BYTES);
      this.#nodes.write(hash('sha256', this.#pair, 'binary'), left, 'binary');
    }
    this.#size += 1;
  }
}

const onesOf = (size: number): number => {
  let ones = 0;
  for (let n = size; n > 0; n = Math.floor(n / 2)) ones += n % 2;
  return ones;
};

/** The largest power of two below n (n > 1). */
const split = (n: number): number => {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
};

export const rootOf = (leaves: readonly Buffer[]): Buffer => {
  const frontier = new Frontier();
  for (const leaf of leaves) frontier.append(leaf);
  return frontier.root();
};

/** PATH(m, D[n]) of RFC 6962 section 2.1.1. */
export const inclusionProof = (leaves: readonly Buffer[], index: number): Buffer[] => {
  if (!Number.isInteger(index) || index < 0 || index >= leaves.length) throw new DocumentError('no such leaf');
  if (leaves.length === 1) return [];
  const k = split(leaves.length);
  return index < k
    ? [...inclusionProof(leaves.slice(0, k), index), rootOf(leaves.slice(k))]
    : [...inclusionProof(leaves.slice(k), index - k), rootOf(leaves.slice(0, k))];
};

/** PROOF(m, D[n]) of RFC 6962 section 2.1.2, 0 < m <= n. */
export const consistencyProof = (leaves: readonly Buffer[], oldSize: number): Buffer[] => {
  if (!Number.isInteger(oldSize) || oldSize < 1 || oldSize > leaves.length) throw new DocumentError('no such old size');
  return subproof(leaves, oldSize, true);
};

const subproof = (leaves: readonly Buffer[], m: number, whole: boolean): Buffer[] => {
  if (m === leaves.length) return whole ? [] : [rootOf(leaves)];
  const k = split(leaves.length);
  return m <= k
    ? [...subproof(leaves.slice(0, k), m, whole), rootOf(leaves.slice(k))]
    : [...subproof(leaves.slice(k), m - k, false), rootOf(leaves.slice(0, k))];
};

export interface InclusionClaim {
  readonly index: number;
  readonly size: number;
  readonly leaf: Buffer;
  readonly proof: readonly Buffer[];
  readonly root: Buffer;
}

export const verifyInclusion = ({ index, size, leaf, proof, root }: InclusionClaim): boolean => {
  if (!Number.isSafeInteger(size) || !Number.isSafeInteger(index) || index < 0 || index >= size) return false;
  if (proof.length > MAX_FRONTIER) return false;
  let fn = index;
  let sn = size - 1;
  let node = leaf;
  for (const sibling of proof) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      node = nodeHash(sibling, node);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [fn / 2, Math.floor(sn / 2)];
    } else node = nodeHash(node, sibling);
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && node.equals(root);
};

export interface ConsistencyClaim {
  readonly oldSize: number;
  readonly oldRoot: Buffer;
  readonly newSize: number;
  readonly newRoot: Buffer;
  readonly proof: readonly Buffer[];
}

export const verifyConsistency = ({ oldSize, oldRoot, newSize, newRoot, proof }: ConsistencyClaim): boolean => {
  if (!Number.isSafeInteger(oldSize) || !Number.isSafeInteger(newSize) || oldSize < 0 || oldSize > newSize)
    return false;
  if (oldSize === newSize) return proof.length === 0 && oldRoot.equals(newRoot);
  if (oldSize === 0) return proof.length === 0 && oldRoot.equals(EMPTY_ROOT);
  if (proof.length > MAX_FRONTIER + 1) return false;
  let fn = oldSize - 1;
  let sn = newSize - 1;
  while (fn % 2 === 1) [fn, sn] = [(fn - 1) / 2, Math.floor(sn / 2)];
  // Where the old tree is one complete subtree, the proof leaves its root out (RFC 9162 section 2.1.4.2, step 2).
  const path = fn === 0 ? [oldRoot, ...proof] : [...proof];
  const first = path.shift();
  if (first === undefined) return false;
  let [fr, sr] = [first, first];
  for (const node of path) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      [fr, sr] = [nodeHash(node, fr), nodeHash(node, sr)];
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [fn / 2, Math.floor(sn / 2)];
    } else sr = nodeHash(sr, node);
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && fr.equals(oldRoot) && sr.equals(newRoot);
};
