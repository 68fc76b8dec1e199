// Where what stands in a container (docs/spec/chunked.md, "Layout"), for those who make, read or cut one.
import { SEALED_CHUNK_BYTES } from './chunks.ts';

/** "MCE", format 1. */
export const CONTAINER_MAGIC: Buffer = Buffer.from('4d434501', 'hex');
/** Magic and the length of the header. */
export const LEAD_BYTES = 8;
export const MAX_HEADER_BYTES = 64 * 1024;
export const SALT_BYTES = 24;
export const COMMITMENT_BYTES = 32;
/** Salt and commitment, in front of the chunks. */
export const PREFIX_BYTES = SALT_BYTES + COMMITMENT_BYTES;

/** Where chunk `number` begins, counted from the salt ("Implementation notes"). */
export const chunkOffset = (number: number): number => PREFIX_BYTES + number * SEALED_CHUNK_BYTES;
