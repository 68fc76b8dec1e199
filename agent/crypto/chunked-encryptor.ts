// Begins a message of docs/spec/chunked.md: keys out of an input key, salt and commitment, and the sealing of its chunks.
// Invariant: the keys either seal here or are handed out, never both.
import { ChunkSealer } from '../../proto/documents/chunked/sealer.ts';
import { type DerivedKeys, deriveChunkedKeys, type HandedOut, handOut } from './chunked-keys.ts';

export interface ChunkedInput {
  readonly inputKey: Buffer;
  readonly salt: Buffer;
  /** Bound into the keys, not carried; may be empty. */
  readonly context: Buffer;
}

export class ChunkedEncryptor extends ChunkSealer {
  /** Salt and commitment: the first bytes of the ciphertext. */
  readonly prefix: Buffer;
  readonly #derived: DerivedKeys;

  constructor({ inputKey, salt, context }: ChunkedInput) {
    const derived = deriveChunkedKeys(inputKey, salt, context);
    super(derived);
    this.#derived = derived;
    this.prefix = Buffer.concat([salt, derived.commitment]);
  }

  /** Ends it before its first chunk: the receiver seals the chunks, and wipes the key. */
  handOut(): HandedOut {
    this.wipe();
    return handOut(this.#derived);
  }
}
