// Begins to read a container: its header, the input key that it holds for a key of the tenant, the first plaintext.
// Invariant: every cryptographic failure is one error, whether of the header, the commitment or a chunk.
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { type ContainerOpening, ContainerReader } from '../../crypto/chunked-container.ts';
import { ChunkedDecryptor } from '../../crypto/chunked-decryptor.ts';
import { parseChunkedHeader } from '../../crypto/chunked-header.ts';
import { type ByteRange, ChunkedRangeDecryptor } from '../../crypto/chunked-range.ts';
import { openJwe } from '../jose/open-jwe.ts';
import type { Part, Ports, Run } from '../perform.ts';
import type { StreamInput } from './stream-input.ts';

const readOpening = async (input: StreamInput<unknown>): Promise<ContainerOpening> => {
  const reader = new ContainerReader();
  for (;;) {
    const data = await input.next();
    const opening = data === undefined ? reader.ended() : reader.add(data);
    if (opening !== undefined) return opening;
  }
};

export interface OpenedContainer {
  readonly decryptor: ChunkedDecryptor | ChunkedRangeDecryptor;
  /** Salt and commitment. */
  readonly prefix: Buffer;
  /** Ciphertext that came with the header. */
  readonly rest: Buffer;
  readonly key: KeyRecord;
  readonly version: KeyVersionRecord;
}

export const openContainer = async (
  ports: Ports,
  run: Run,
  input: StreamInput<unknown>,
  by: {
    readonly key: string;
    readonly keyField?: string;
    readonly context: Buffer;
    readonly part?: Part;
    readonly range?: ByteRange;
  },
): Promise<OpenedContainer> => {
  const { context, range, ...named } = by;
  const { header, prefix, rest } = await readOpening(input);
  const recipients = parseChunkedHeader(header);
  const opened = await openJwe(ports, run, { ...named, recipients, associatedData: Buffer.alloc(0) });
  const { plaintext: inputKey, key, version } = opened;
  try {
    const message = { inputKey, prefix, context };
    const decryptor = range === undefined ? new ChunkedDecryptor(message) : new ChunkedRangeDecryptor(range, message);
    return { decryptor, prefix, rest, key, version };
  } finally {
    inputKey.fill(0);
  }
};
