// DecryptStream: a container, or a range of it, to its plaintext, each chunk once it is authenticated, by the key that
// its header names; the chunks by the agent, or by the client with the key of this one container.
import { SALT_BYTES } from '../../../proto/documents/chunked/layout.ts';
import { ChunkedDecryptor } from '../../crypto/chunked-decryptor.ts';
import type { ByteRange } from '../../crypto/chunked-range.ts';
import { invalid } from '../../errors.ts';
import { MAX_ASSOCIATED_DATA_BYTES, requireSize } from '../jose/checks.ts';
import type { Call } from '../ports/call.ts';
import { type LocalKeyWish, localWork, mayHandOut } from './local-key.ts';
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
  /** Absent means no. */
  readonly localKey?: LocalKeyWish;
}

export const decryptStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<DecryptStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<undefined>, void, undefined> =>
  performStream(ports, call, 'decrypt', messages, async (run, opening, input) => {
    const { key, associatedData: context, range, localKey: wish = 'no' } = opening;
    requireSize('associated_data', context.length, MAX_ASSOCIATED_DATA_BYTES);
    if (range !== undefined && wish !== 'no') throw invalid('local_key', 'not with a range');
    if (range !== undefined) run.note({ range });
    const by = { key, context, ...(range && { range }) };
    const { decryptor, rest, prefix, ...used } = await openContainer(ports, run, input, by);
    if (decryptor instanceof ChunkedDecryptor && mayHandOut(ports, run, { wish, ...used, as: 'decrypt-data-key' })) {
      if (rest.length > 0) throw invalid('data', 'with local_key, no chunk is sent before the stream has begun');
      const salt = prefix.subarray(0, SALT_BYTES);
      return localWork(run, input, { handedOut: decryptor.handOut(), salt, opening: Buffer.alloc(0) });
    }
    return {
      first: decryptor.update(rest),
      update: (data) => decryptor.update(data),
      final: async () => ({ last: decryptor.final(), answer: undefined }),
      wipe: () => decryptor.wipe(),
    };
  });
