// A log as the files of C2SP tlog-tiles: hash tiles, bundles of entries, and where each of them lies. Invariant: constant
// memory; a file is given out once, whole, when its last entry has come or the log ends.
import { DocumentError } from './canonical.ts';
import { Frontier, leafHash } from './merkle.ts';
import { FAN } from './stored-tree.ts';

export interface TileFile {
  /** Below the log's folder. */
  readonly path: string;
  readonly bytes: Buffer;
}

/** Where an entry bundle stands among the levels. */
const ENTRIES = 'entries';
const MAX_ENTRY_BYTES = 0xffff;

/** "x001/x234/067" for 1234067. */
const indexPath = (index: number): string => {
  const digits = String(index);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, '0').match(/\d{3}/g) as string[];
  return groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join('/');
};

/** Path of a tile of `width` hashes, or bundle of as many entries. */
export const tilePath = (level: number | typeof ENTRIES, index: number, width: number = FAN): string =>
  `tile/${level}/${indexPath(index)}${width === FAN ? '' : `.p/${width}`}`;

export class TileBuilder {
  /** By level: hashes of the tile that is not full yet, and its index. */
  readonly #levels: { index: number; hashes: Buffer[] }[] = [];
  #entries: Buffer[] = [];
  #bundles = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Takes the next entry; answers the files that it completes. */
  add(entry: Buffer): readonly TileFile[] {
    if (entry.length > MAX_ENTRY_BYTES) throw new DocumentError('the entry is too long for an entry bundle');
    const length = Buffer.alloc(2);
    length.writeUInt16BE(entry.length);
    this.#entries.push(length, entry);
    this.#size += 1;
    const files: TileFile[] = [];
    if (this.#size % FAN === 0) files.push(this.#bundle(FAN));
    let hash = leafHash(entry);
    for (let level = 0; ; level += 1) {
      const tile = this.#level(level);
      tile.hashes.push(hash);
      if (tile.hashes.length < FAN) return files;
      files.push({ path: tilePath(level, tile.index), bytes: Buffer.concat(tile.hashes) });
      const tree = new Frontier();
      for (const one of tile.hashes) tree.append(one);
      hash = tree.root();
      tile.index += 1;
      tile.hashes = [];
    }
  }

  /** The partial files at the end of the log. */
  end(): readonly TileFile[] {
    const files = this.#levels.flatMap(({ index, hashes }, level) =>
      hashes.length === 0 ? [] : [{ path: tilePath(level, index, hashes.length), bytes: Buffer.concat(hashes) }],
    );
    const left = this.#size % FAN;
    return left === 0 ? files : [this.#bundle(left), ...files];
  }

  #level(level: number): { index: number; hashes: Buffer[] } {
    this.#levels[level] ??= { index: 0, hashes: [] };
    return this.#levels[level];
  }

  #bundle(width: number): TileFile {
    const file = { path: tilePath(ENTRIES, this.#bundles, width), bytes: Buffer.concat(this.#entries) };
    this.#bundles += 1;
    this.#entries = [];
    return file;
  }
}
