// What of a container has to be sent so that the agent can decrypt a range of it (docs/spec/chunked.md, "Ranges"): its
// beginning, and the chunks that hold the range. Invariant: nothing of the container is trusted; the agent judges it.
import { CHUNK_BYTES, SEALED_CHUNK_BYTES } from '../../proto/documents/chunked/chunks.ts';
import { CONTAINER_MAGIC, LEAD_BYTES, MAX_HEADER_BYTES, PREFIX_BYTES } from '../../proto/documents/chunked/layout.ts';

/** Reads bytes of a container at a position; fewer than asked, or none, only where it ends. */
export type ReadAt = (position: number, length: number) => Promise<Uint8Array>;

/** A part of a plaintext; without a length, all from the offset on. */
export interface ByteRange {
  readonly offset: number;
  readonly length?: number;
}

const CHUNKS_READ = 15; // in one piece, as whole streams are cut

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
  const lead = await readAll(read, 0, LEAD_BYTES);
  const headerBytes =
    lead.length < LEAD_BYTES ? 0 : Math.min(lead.readUInt32BE(CONTAINER_MAGIC.length), MAX_HEADER_BYTES);
  const chunksAt = LEAD_BYTES + headerBytes + PREFIX_BYTES;
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
