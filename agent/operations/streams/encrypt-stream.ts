// EncryptStream: plaintext of any size to a container under the primary version of a key.
import { MAX_ASSOCIATED_DATA_BYTES, requireSize } from '../jose/checks.ts';
import type { Call } from '../ports.ts';
import { type OpenedBy, performStream, type StreamOutput } from './perform-stream.ts';
import { sealContainer } from './seal-container.ts';
import type { StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';

export interface EncryptStreamOpening extends OpenedBy {
  readonly key: string;
  /** Empty means none. */
  readonly associatedData: Buffer;
}

export const encryptStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<EncryptStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<undefined>, void, undefined> =>
  performStream(ports, call, 'encrypt', messages, async (run, opening) => {
    requireSize('associated_data', opening.associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const key = run.key(opening.key);
    const { first, encryptor } = await sealContainer(ports, run, key, { context: opening.associatedData });
    return {
      first,
      update: (data) => encryptor.update(data),
      final: async () => ({ last: encryptor.final(), answer: undefined }),
      wipe: () => encryptor.wipe(),
    };
  });
