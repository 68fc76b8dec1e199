// The container of docs/spec/chunked.md: magic, length, header, then the chunked ciphertext. Invariant: no more of an
// untrusted container is held than its header, which is bounded.
import { CONTAINER_MAGIC, LEAD_BYTES, MAX_HEADER_BYTES, PREFIX_BYTES } from '../../proto/documents/chunked/layout.ts';
import { AgentError, invalid } from '../errors.ts';

const BLOCK_BYTES = 4096; // a header that is re-wrapped mostly fits into the place of the old one

/** Everything in front of the chunked ciphertext: the header, padded with spaces so that what follows is aligned. */
export const buildContainerHeader = (header: string): Buffer => {
  const json = Buffer.from(header, 'utf8');
  const padded = Math.ceil((LEAD_BYTES + json.length) / BLOCK_BYTES) * BLOCK_BYTES - LEAD_BYTES;
  if (padded > MAX_HEADER_BYTES) throw new RangeError('the header is over 64 KiB');
  const bytes = Buffer.alloc(LEAD_BYTES + padded, ' ');
  CONTAINER_MAGIC.copy(bytes);
  bytes.writeUInt32BE(padded, CONTAINER_MAGIC.length);
  json.copy(bytes, LEAD_BYTES);
  return bytes;
};

export interface ContainerOpening {
  readonly header: string;
  /** Salt and commitment. */
  readonly prefix: Buffer;
  /** The first of the chunks, as far as they have come. */
  readonly rest: Buffer;
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const headerOf = (bytes: Buffer): string => {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw invalid('data', 'the header is not UTF-8');
  }
};

/** Collects the beginning of a container. */
export class ContainerReader {
  #bytes = Buffer.alloc(0);

  /** The opening once it is whole. */
  add(data: Buffer): ContainerOpening | undefined {
    this.#bytes = Buffer.concat([this.#bytes, data]);
    const bytes = this.#bytes;
    const magic = bytes.subarray(0, CONTAINER_MAGIC.length);
    if (!magic.equals(CONTAINER_MAGIC.subarray(0, magic.length)))
      throw invalid('data', 'not a container of EncryptStream');
    if (bytes.length < LEAD_BYTES) return undefined;
    const headerBytes = bytes.readUInt32BE(CONTAINER_MAGIC.length);
    if (headerBytes === 0 || headerBytes > MAX_HEADER_BYTES)
      throw invalid('data', 'the header is empty or over 64 KiB');
    const prefixAt = LEAD_BYTES + headerBytes;
    const chunksAt = prefixAt + PREFIX_BYTES;
    if (bytes.length < chunksAt) return undefined;
    return {
      header: headerOf(bytes.subarray(LEAD_BYTES, prefixAt)),
      prefix: bytes.subarray(prefixAt, chunksAt),
      rest: bytes.subarray(chunksAt),
    };
  }

  /** The container has ended before its chunks began. */
  ended(): never {
    throw new AgentError('INVALID_CIPHERTEXT');
  }
}
