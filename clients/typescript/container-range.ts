// What of a container the agent has to see: its beginning, and of a range the chunks that hold it (docs/spec/chunked.md,
// "Ranges"). Invariant: nothing of the container is trusted; the agent judges it.
import { CHUNK_BYTES, SEALED_CHUNK_BYTES } from '../../proto/documents/chunked/chunks.ts';
import { CONTAINER_MAGIC, LEAD_BYTES, MAX_HEADER_BYTES, PREFIX_BYTES } from '../../proto/documents/chunked/layout.ts';
import type { SourceReader } from './source-reader.ts';

/** Reads bytes of a container at a position; fewer than asked, or none, only where it ends. */
export type ReadAt = (position: number, length: number) => Promise<Uint8Array>;

/** A part of a plaintext; without a length, all from the offset on. */
export interface ByteRange {
  readonly offset: number;
  readonly length?: number;
}

const CHUNKS_READ = 15; // in one piece, as whole streams are cut

/** Bytes up to the first chunk of a container that begins like this; at least so many where it is shorter than a lead. */
const beginningBytes = (lead: Buffer): number => {
  const headerBytes = lead.length < LEAD_BYTES ? 0 : lead.readUInt32BE(CONTAINER_MAGIC.length);
  return LEAD_BYTES + Math.min(headerBytes, MAX_HEADER_BYTES) + PREFIX_BYTES;
};

/** Takes the container up to its first chunk, as far as it is there, out of a source. */
export const takeBeginning = async (reader: SourceReader): Promise<{ beginning: Buffer; isWhole: boolean }> => {
  let have: Buffer = Buffer.alloc(0);
  for (;;) {
    const wanted = beginningBytes(have);
    if (have.length >= wanted) {
      reader.putBack(have.subarray(wanted));
      return { beginning: have.subarray(0, wanted), isWhole: true };
    }
    const piece = await reader.next();
    if (piece === undefined) return { beginning: have, isWhole: false };
    have = have.length === 0 ? piece : Buffer.concat([have, piece]);
  }
};

/** All that is there of so many bytes. */
const readAll = async (read: ReadAt, position: number, length: number): Promise<Buffer> => {
  const pieces: Uint8Array[] = [];
  for (let have = 0; have < length; ) {
    const piece = await read(position + have, length - have);
    if (piece.length === 0) break;
    pieces.push(piece);
    have += piece.length;
  }
  return Buffer.concat(pieces);
};

/** The bytes of the container that the range takes, in order. */
export async function* bytesOfRange(read: ReadAt, { offset, length }: ByteRange): AsyncGenerator<Buffer> {
  const chunksAt = beginningBytes(await readAll(read, 0, LEAD_BYTES));
  const beginning = await readAll(read, 0, chunksAt);
  if (beginning.length > 0) yield beginning;
  if (beginning.length < chunksAt) return;
  const first = Math.floor(offset / CHUNK_BYTES);
  const end = length === undefined ? Number.POSITIVE_INFINITY : Math.ceil((offset + length) / CHUNK_BYTES);
  for (let chunk = first; chunk < end; chunk += CHUNKS_READ) {
    const wanted = Math.min(CHUNKS_READ, end - chunk) * SEALED_CHUNK_BYTES;
    const piece = await readAll(read, chunksAt + chunk * SEALED_CHUNK_BYTES, wanted);
    if (piece.length > 0) yield piece;
    if (piece.length < wanted) return;
  }
}
