// DecryptStream: a container, or a range of it, to its plaintext, each chunk once it is authenticated, by the key that
// its header names.
import type { ByteRange } from '../../crypto/chunked-range.ts';
import { MAX_ASSOCIATED_DATA_BYTES, requireSize } from '../jose/checks.ts';
import type { Call } from '../ports.ts';
import { openContainer } from './open-container.ts';
import { type OpenedBy, performStream, type StreamOutput } from './perform-stream.ts';
import type { StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';

export interface DecryptStreamOpening extends OpenedBy {
  /** Empty means that the kid names it. */
  readonly key: string;
  readonly associatedData: Buffer;
  /** Undefined means all of it. */
  readonly range?: ByteRange;
}

export const decryptStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<DecryptStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<undefined>, void, undefined> =>
  performStream(ports, call, 'decrypt', messages, async (run, opening, input) => {
    const { key, associatedData: context, range } = opening;
    requireSize('associated_data', context.length, MAX_ASSOCIATED_DATA_BYTES);
    if (range !== undefined) run.note({ range });
    const by = { key, context, ...(range && { range }) };
    const { decryptor, rest } = await openContainer(ports, run, input, by);
    return {
      first: decryptor.update(rest),
      update: (data) => decryptor.update(data),
      final: async () => ({ last: decryptor.final(), answer: undefined }),
      wipe: () => decryptor.wipe(),
    };
  });
