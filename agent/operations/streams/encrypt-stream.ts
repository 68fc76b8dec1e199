// EncryptStream: plaintext of any size to a container under the primary version of a key, by the agent or by the client
// with the key of this one container.
import { SALT_BYTES } from '../../../proto/documents/chunked/layout.ts';
import { primaryVersion } from '../../../proto/documents/key-states.ts';
import { MAX_ASSOCIATED_DATA_BYTES, requireSize } from '../jose/checks.ts';
import type { Call } from '../ports/call.ts';
import { type LocalKeyWish, localWork, mayHandOut } from './local-key.ts';
import { type OpenedBy, performStream, type StreamOutput } from './perform-stream.ts';
import { sealContainer } from './seal-container.ts';
import type { StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';

export interface EncryptStreamOpening extends OpenedBy {
  readonly key: string;
  /** Empty means none. */
  readonly associatedData: Buffer;
  /** Absent means no. */
  readonly localKey?: LocalKeyWish;
}

export const encryptStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<EncryptStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<undefined>, void, undefined> =>
  performStream(ports, call, 'encrypt', messages, async (run, opening, input) => {
    requireSize('associated_data', opening.associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const key = run.key(opening.key);
    const question = {
      wish: opening.localKey ?? 'no',
      key,
      version: primaryVersion(key),
      as: 'generate-data-key',
    } as const;
    const isLocal = mayHandOut(ports, run, question);
    const { first, encryptor } = await sealContainer(ports, run, key, { context: opening.associatedData });
    if (isLocal) {
      const salt = encryptor.prefix.subarray(0, SALT_BYTES);
      return localWork(run, input, { handedOut: encryptor.handOut(), salt, opening: Buffer.concat(first) });
    }
    return {
      first,
      update: (data) => encryptor.update(data),
      final: async () => ({ last: encryptor.final(), answer: undefined }),
      wipe: () => encryptor.wipe(),
    };
  });
