// What the key store should hold, by MAC: each row's own, and an index of the MACs of all rows, so that an older row,
// a copied one and one that is gone are found too. Invariant: nothing counts as a row of ours unless the index names its
// MAC, and the index is whole or refused as a whole. A complete older store, index included, still fits.
import { createHmac, hash, type KeyObject, timingSafeEqual } from 'node:crypto';

/** `altered`: its MAC is wrong; `older`: once ours; `missing`: the index names it; `added`: the index does not. */
export type RowFault = 'altered' | 'older' | 'missing' | 'added';

export interface Staged {
  /** Rows of the index to write with the change; a bucket that is empty now has none. */
  readonly rows: readonly { readonly key: string; readonly value: Buffer | undefined }[];
  /** To be called once they are on the disk. */
  commit(): void;
}

/** Why an index is refused. */
export class SealsError extends Error {
  override readonly name = 'SealsError';
}

const MAC_BYTES = 32;
const BUCKETS = 128; // a change rewrites one bucket and the root: some KiB with thousands of keys
const GENERATION_BYTES = 8;
const ROOT_BYTES = MAC_BYTES + GENERATION_BYTES + BUCKETS * MAC_BYTES;
const NO_ROWS = Buffer.alloc(MAC_BYTES);

/** Names in the table of the index. */
export const ROOT = 'root';
const bucketName = (at: number): string => `bucket/${at}`;

const field = (text: string): Buffer => {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
};

type Bucket = ReadonlyMap<string, Buffer>;

const encodeBucket = (bucket: Bucket): Buffer => {
  const parts: Buffer[] = [];
  for (const name of [...bucket.keys()].sort()) parts.push(field(name), bucket.get(name) as Buffer);
  return Buffer.concat(parts);
};

/** Our own bytes: their MAC has been verified. */
const decodeBucket = (bytes: Buffer): Map<string, Buffer> => {
  const bucket = new Map<string, Buffer>();
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32BE(at);
    bucket.set(bytes.toString('utf8', at + 4, end), Buffer.from(bytes.subarray(end, end + MAC_BYTES)));
    at = end + MAC_BYTES;
  }
  return bucket;
};

const bucketOf = (name: string): number => (hash('sha256', name, 'buffer')[0] as number) % BUCKETS;
const nameOf = (table: string, key: string): string => `${table}/${key}`;

export class Seals {
  readonly #key: KeyObject;
  readonly #buckets: Bucket[];
  readonly #tags: Buffer;
  #generation: bigint;

  private constructor(key: KeyObject, buckets: Bucket[], tags: Buffer, generation: bigint) {
    this.#key = key;
    this.#buckets = buckets;
    this.#tags = tags;
    this.#generation = generation;
  }

  /** Of a store without rows; its root is to be written. */
  static begin(key: KeyObject): { readonly seals: Seals; readonly root: Buffer } {
    const buckets = Array.from({ length: BUCKETS }, () => new Map<string, Buffer>());
    const seals = new Seals(key, buckets, Buffer.alloc(BUCKETS * MAC_BYTES), 1n);
    return { seals, root: seals.#root(seals.#tags, 1n) };
  }

  /** Reads and verifies the index. Throws SealsError. */
  static open(key: KeyObject, read: (name: string) => Buffer | undefined): Seals {
    const root = read(ROOT);
    if (root === undefined) throw new SealsError('the root of the index is missing');
    if (root.length !== ROOT_BYTES) throw new SealsError('the root of the index has another length');
    const generation = root.readBigUInt64BE(MAC_BYTES);
    const tags = Buffer.from(root.subarray(MAC_BYTES + GENERATION_BYTES));
    const seals = new Seals(key, [], tags, generation);
    if (!timingSafeEqual(seals.#root(tags, generation), root)) throw new SealsError('the root of the index is altered');
    for (let at = 0; at < BUCKETS; at += 1) {
      const bytes = read(bucketName(at));
      if (!timingSafeEqual(seals.#tagOf(at, bytes), seals.#tagAt(at))) {
        throw new SealsError(`part ${at} of the index is altered, older or missing`);
      }
      seals.#buckets.push(decodeBucket(bytes ?? Buffer.alloc(0)));
    }
    return seals;
  }

  /** MAC and value, as a row is stored. */
  seal(table: string, key: string, value: Buffer): Buffer {
    return Buffer.concat([this.#mac('row', [table, key], value), value]);
  }

  /** The value of a stored row, or what is wrong with it. */
  unseal(table: string, key: string, stored: Buffer): Buffer | RowFault {
    const name = nameOf(table, key);
    const expected = this.#buckets[bucketOf(name)]?.get(name);
    if (expected === undefined) return 'added';
    if (stored.length < MAC_BYTES) return 'altered';
    const value = Buffer.from(stored.subarray(MAC_BYTES));
    const mac = this.#mac('row', [table, key], value);
    if (!timingSafeEqual(mac, stored.subarray(0, MAC_BYTES))) return 'altered';
    return timingSafeEqual(mac, expected) ? value : 'older';
  }

  /** Keys of the rows that a table should have. */
  keys(table: string): readonly string[] {
    const prefix = nameOf(table, '');
    const names = this.#buckets.flatMap((bucket) => [...bucket.keys()]);
    return names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  }

  /** The index after a change of rows: what each row is stored as now, undefined where it is removed. */
  stage(
    changes: readonly { readonly table: string; readonly key: string; readonly sealed: Buffer | undefined }[],
  ): Staged {
    const changed = new Map<number, Map<string, Buffer>>();
    for (const { table, key, sealed } of changes) {
      const name = nameOf(table, key);
      const at = bucketOf(name);
      const bucket = changed.get(at) ?? new Map(this.#buckets[at]);
      if (sealed === undefined) bucket.delete(name);
      else bucket.set(name, Buffer.from(sealed.subarray(0, MAC_BYTES)));
      changed.set(at, bucket);
    }
    const tags = Buffer.from(this.#tags);
    const rows: { key: string; value: Buffer | undefined }[] = [];
    for (const [at, bucket] of changed) {
      const value = bucket.size === 0 ? undefined : encodeBucket(bucket);
      this.#tagOf(at, value).copy(tags, at * MAC_BYTES);
      rows.push({ key: bucketName(at), value });
    }
    const generation = this.#generation + 1n;
    rows.push({ key: ROOT, value: this.#root(tags, generation) });
    const commit = (): void => {
      for (const [at, bucket] of changed) this.#buckets[at] = bucket;
      tags.copy(this.#tags);
      this.#generation = generation;
    };
    return { rows, commit };
  }

  #root(tags: Buffer, generation: bigint): Buffer {
    const count = Buffer.alloc(GENERATION_BYTES);
    count.writeBigUInt64BE(generation);
    const body = Buffer.concat([count, tags]);
    return Buffer.concat([this.#mac('root', [], body), body]);
  }

  #tagOf(at: number, bytes: Buffer | undefined): Buffer {
    return bytes === undefined ? NO_ROWS : this.#mac('bucket', [String(at)], bytes);
  }

  #tagAt(at: number): Buffer {
    return this.#tags.subarray(at * MAC_BYTES, (at + 1) * MAC_BYTES);
  }

  /** One key for three uses, told apart by their first field; every field but the last has its length before it. */
  #mac(use: 'row' | 'bucket' | 'root', fields: readonly string[], body: Buffer): Buffer {
    const mac = createHmac('sha256', this.#key).update(field(`mortise/key-store/${use}/v1`));
    for (const text of fields) mac.update(field(text));
    return mac.update(body).digest();
  }
}
