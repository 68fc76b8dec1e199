// The write-ahead journal: preallocated files that take each commit by one write(2) into the page cache, which is
// what survives a killed process. Invariant: a frame counts only whole, under the nonce of its start, in sequence.
import { closeSync, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';

export interface Put {
  readonly key: Buffer;
  readonly value: Buffer;
}

export interface Frame {
  readonly sequence: number;
  readonly puts: readonly Put[];
}

export const NONCE_BYTES = 8;
const HEADER_BYTES = 4 + 4 + NONCE_BYTES + 8; // payload length, CRC-32 of all that follows, nonce, sequence
const FILL_BYTES = 64 * 1024;

/** Bytes that `puts` take as one frame. */
export const frameBytes = (puts: readonly Put[]): number =>
  puts.reduce((sum, { key, value }) => sum + 6 + key.length + value.length, HEADER_BYTES);

const encodeFrame = (into: Buffer, nonce: Buffer, { sequence, puts }: Frame): number => {
  let at = HEADER_BYTES;
  for (const { key, value } of puts) {
    at = into.writeUInt16BE(key.length, at);
    at += key.copy(into, at);
    at = into.writeUInt32BE(value.length, at);
    at += value.copy(into, at);
  }
  nonce.copy(into, 8);
  into.writeBigUInt64BE(BigInt(sequence), 8 + NONCE_BYTES);
  into.writeUInt32BE(at - HEADER_BYTES, 0);
  into.writeUInt32BE(crc32(into.subarray(8, at)), 4);
  return at;
};

/** The frame at `offset`, or undefined where there is no whole frame of this nonce. */
const decodeFrame = (bytes: Buffer, offset: number, nonce: Buffer): { frame: Frame; end: number } | undefined => {
  if (offset + HEADER_BYTES > bytes.length) return undefined;
  const end = offset + HEADER_BYTES + bytes.readUInt32BE(offset);
  if (end > bytes.length || !bytes.subarray(offset + 8, offset + 8 + NONCE_BYTES).equals(nonce)) return undefined;
  if (crc32(bytes.subarray(offset + 8, end)) !== bytes.readUInt32BE(offset + 4)) return undefined;
  const sequence = Number(bytes.readBigUInt64BE(offset + 8 + NONCE_BYTES));
  const puts: Put[] = [];
  const take = (at: number, length: number): Buffer | undefined =>
    at + length <= end ? Buffer.from(bytes.subarray(at, at + length)) : undefined;
  for (let at = offset + HEADER_BYTES; at < end; ) {
    const key = at + 2 <= end ? take(at + 2, bytes.readUInt16BE(at)) : undefined;
    if (key === undefined) return undefined;
    at += 2 + key.length;
    const value = at + 4 <= end ? take(at + 4, bytes.readUInt32BE(at)) : undefined;
    if (value === undefined) return undefined;
    at += 4 + value.length;
    puts.push({ key, value });
  }
  return { frame: { sequence, puts }, end };
};

/** All whole frames of a journal file from its start on, of this nonce. A file that is not there has none. */
export const readFrames = (path: string, nonce: Buffer): Frame[] => {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new Error(`the audit journal ${path} cannot be read`, { cause });
  }
  const frames: Frame[] = [];
  for (let offset = 0; ; ) {
    const next = decodeFrame(bytes, offset, nonce);
    if (next === undefined) return frames;
    frames.push(next.frame);
    offset = next.end;
  }
};

/** One journal file, open for writing. */
export class Journal {
  readonly #fd: number;
  readonly #capacity: number;
  #position = 0;

  constructor(path: string, capacity: number) {
    this.#fd = openSync(path, 'a', 0o600);
    closeSync(this.#fd);
    this.#fd = openSync(path, 'r+');
    this.#capacity = capacity;
    try {
      // Blocks are claimed now, so that a disk that fills up later cannot refuse a frame.
      const zeros = Buffer.alloc(FILL_BYTES);
      for (let at = fstatSync(this.#fd).size; at < capacity; at += zeros.length) {
        writeSync(this.#fd, zeros, 0, Math.min(zeros.length, capacity - at), at);
      }
    } catch (cause) {
      closeSync(this.#fd);
      throw new Error('the audit journal cannot be preallocated', { cause });
    }
  }

  get room(): number {
    return this.#capacity - this.#position;
  }

  /** In the page cache when it returns. Throws, and leaves the journal as it was, where the write fails. */
  append(scratch: Buffer, nonce: Buffer, frame: Frame): void {
    const length = encodeFrame(scratch, nonce, frame);
    for (let done = 0; done < length; ) {
      done += writeSync(this.#fd, scratch, done, length - done, this.#position + done);
    }
    this.#position += length;
  }

  rewind(): void {
    this.#position = 0;
  }

  close(): void {
    closeSync(this.#fd);
  }
}
