// Begins to read a message of docs/spec/chunked.md. Invariants: the commitment is checked before any chunk; the keys
// either open here or are handed out, never both.
import { timingSafeEqual } from 'node:crypto';
import { PREFIX_BYTES, SALT_BYTES } from '../../proto/documents/chunked/layout.ts';
import { ChunkOpener } from '../../proto/documents/chunked/opener.ts';
import { AgentError } from '../errors.ts';
import { type DerivedKeys, deriveChunkedKeys, type HandedOut, handOut, INPUT_KEY_BYTES } from './chunked-keys.ts';

const refusal = (): AgentError => new AgentError('INVALID_CIPHERTEXT');

interface ChunkedMessage {
  readonly inputKey: Buffer;
  /** Salt and commitment. */
  readonly prefix: Buffer;
  readonly context: Buffer;
}

const committedKeys = ({ inputKey, prefix, context }: ChunkedMessage): DerivedKeys => {
  if (inputKey.length !== INPUT_KEY_BYTES || prefix.length !== PREFIX_BYTES) throw refusal();
  const derived = deriveChunkedKeys(inputKey, prefix.subarray(0, SALT_BYTES), context);
  if (!timingSafeEqual(derived.commitment, prefix.subarray(SALT_BYTES))) throw refusal();
  return derived;
};

export class ChunkedDecryptor extends ChunkOpener {
  readonly #derived: DerivedKeys;

  /** INVALID_CIPHERTEXT where key or context is not the one that the message was made with. `first`: of the chunks. */
  constructor({ first = 0, ...message }: ChunkedMessage & { readonly first?: number }) {
    const derived = committedKeys(message);
    super({ keys: derived, refusal, first });
    this.#derived = derived;
  }

  /** Ends it before its first chunk: the receiver opens the chunks, and wipes the key. */
  handOut(): HandedOut {
    this.wipe();
    return handOut(this.#derived);
  }
}
