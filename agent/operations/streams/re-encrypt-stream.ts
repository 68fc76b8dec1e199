// ReEncryptStream: a container under one key to a new one under another, with an input key of its own. Invariant: the
// plaintext of a chunk exists between two calls of one turn, and is wiped in it.
import { MAX_ASSOCIATED_DATA_BYTES, requireSize } from '../jose/checks.ts';
import { noteSource, sidesOf } from '../jose/parts.ts';
import type { Call } from '../ports/call.ts';
import { openContainer } from './open-container.ts';
import { type OpenedBy, performStream, type StreamOutput } from './perform-stream.ts';
import { sealContainer } from './seal-container.ts';
import type { StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';

export interface ReEncryptStreamOpening extends OpenedBy {
  /** Empty means that the kid names it. */
  readonly sourceKey: string;
  /** Empty means the source key. */
  readonly targetKey: string;
  readonly associatedData: Buffer;
  /** Undefined carries the old one over; empty means none. */
  readonly newAssociatedData: Buffer | undefined;
}

export const reEncryptStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<ReEncryptStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<undefined>, void, undefined> =>
  performStream(ports, call, 're-encrypt', messages, async (run, opening, input) => {
    const { sourceKey, targetKey, associatedData, newAssociatedData = associatedData } = opening;
    requireSize('associated_data', associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    requireSize('new_associated_data', newAssociatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const sides = sidesOf(run, { read: 'decrypt', write: 'encrypt', sameKey: targetKey === '' });
    const by = { key: sourceKey, keyField: 'source_key', context: associatedData, part: sides.source };
    const { decryptor, rest, key, version } = await openContainer(ports, run, input, by);
    const source = noteSource(run, key, version);
    const target = run.key(targetKey === '' ? key.keyId : targetKey, 'target_key', sides.target);
    const { first, encryptor } = await sealContainer(ports, run, target, {
      context: newAssociatedData,
      part: sides.target,
    });
    const move = (pieces: readonly Buffer[]): Buffer[] =>
      pieces.flatMap((plaintext) => {
        const sealed = encryptor.update(plaintext);
        plaintext.fill(0);
        return sealed;
      });
    return {
      source,
      first: [...first, ...move(decryptor.update(rest))],
      update: (data) => move(decryptor.update(data)),
      final: async () => ({ last: [...move(decryptor.final()), ...encryptor.final()], answer: undefined }),
      wipe: () => {
        decryptor.wipe();
        encryptor.wipe();
      },
    };
  });
