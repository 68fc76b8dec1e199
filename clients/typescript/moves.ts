// Operations that make ciphertexts for several recipients, move data from one key to another, and make data keys.
import type { Recipient as RecipientMessage } from '../../proto/gen/mortise/agent/v1/crypto.ts';
import type { KeyVersionRef } from '../../proto/gen/mortise/agent/v1/types.ts';
import { bytesOf, envelopeOf } from './convert.ts';
import type { CallOptions, Calls } from './transport.ts';
import type { Envelope } from './types.ts';

/** Who can open a JWE: a key of the tenant, or a public JWK that is never stored. */
export type Recipient = { readonly key: string } | { readonly publicJwk: object };

/** A key version by name. */
export interface KeyUsed {
  readonly keyId: string;
  readonly version: number;
}

/** Options of encryptGeneral, generateDataKey and decryptDataKey. */
interface BoundOptions extends CallOptions {
  /** Bound in but not carried; at most 16 KiB. */
  readonly associatedData?: Uint8Array;
}

/** Options of reEncrypt. */
export interface ReEncryptOptions extends BoundOptions {
  /** Key that the ciphertext is under. Default: the one that its `kid` names. */
  readonly sourceKey?: string;
  /** Key to encrypt with. Default: the source key, whose primary version is used. */
  readonly targetKey?: string;
  /** Bound into the new ciphertext in place of `associatedData`; empty means none. Default: carried over. */
  readonly newAssociatedData?: Uint8Array;
}

/** Options of rewrap. */
export interface RewrapOptions extends CallOptions {
  /** Key by which the content key is reached. Default: the first recipient that the caller may use. */
  readonly sourceKey?: string;
  readonly add?: readonly Recipient[];
  /** `kid` of each recipient to take out. */
  readonly remove?: readonly string[];
}

/** Options of reSign. */
export interface ReSignOptions extends CallOptions {
  readonly sourceKey?: string;
  readonly targetKey?: string;
  /** The signed data of a detached JWS. */
  readonly message?: Uint8Array;
}

/** Options of generateDataKey. */
export interface DataKeyOptions extends BoundOptions {
  /** Default 32. */
  readonly length?: 16 | 24 | 32 | 64;
  /** Answer without the key itself. */
  readonly wrappedOnly?: boolean;
}

/** What moved data was read with. */
export interface Source {
  readonly sourceKeyUsed: KeyUsed | undefined;
  readonly sourceAlgorithmUsed: string;
}

const NOTHING = Buffer.alloc(0);

const recipientMessage = (recipient: Recipient): RecipientMessage => ({
  recipient:
    'key' in recipient
      ? { $case: 'key', value: recipient.key }
      : { $case: 'publicJwk', value: JSON.stringify(recipient.publicJwk) },
});
const keyUsedOf = ({ keyId, version }: KeyVersionRef): KeyUsed => ({ keyId, version });
const sourceOf = (answer: { sourceKeyUsed?: KeyVersionRef | undefined; sourceAlgorithmUsed: string }): Source => ({
  sourceKeyUsed: answer.sourceKeyUsed && keyUsedOf(answer.sourceKeyUsed),
  sourceAlgorithmUsed: answer.sourceAlgorithmUsed,
});

export class MoveOperations {
  readonly #transport: Calls;

  constructor(transport: Calls) {
    this.#transport = transport;
  }

  /**
   * Encrypts to a General JSON JWE (RFC 7516 section 7.2.1), which `rewrap` can give other recipients.
   * @param recipients 1 to 32.
   * @param plaintext At most 2 MiB.
   */
  async encryptGeneral(
    recipients: readonly Recipient[],
    plaintext: Uint8Array,
    options: BoundOptions = {},
  ): Promise<{ readonly jwe: string; readonly keysUsed: readonly KeyUsed[]; readonly envelope: Envelope }> {
    const { jwe, keysUsed, envelope } = await this.#transport.call(
      'encryptGeneral',
      {
        recipients: recipients.map(recipientMessage),
        plaintext: bytesOf(plaintext),
        associatedData: bytesOf(options.associatedData ?? NOTHING),
      },
      options,
    );
    return { jwe, keysUsed: keysUsed.map(keyUsedOf), envelope: envelopeOf(envelope) };
  }

  /**
   * Moves a JWE to another key, or to the primary version of its own. The plaintext does not leave the agent.
   * @throws {MortiseError} INVALID_CIPHERTEXT, KEY_STATE, KEY_LIMIT, PERMISSION_DENIED, …
   */
  async reEncrypt(
    jwe: string,
    options: ReEncryptOptions = {},
  ): Promise<{ readonly jwe: string; readonly envelope: Envelope } & Source> {
    const answer = await this.#transport.call(
      'reEncrypt',
      {
        jwe,
        sourceKey: options.sourceKey ?? '',
        targetKey: options.targetKey ?? '',
        associatedData: bytesOf(options.associatedData ?? NOTHING),
        newAssociatedData: options.newAssociatedData && bytesOf(options.newAssociatedData),
      },
      options,
    );
    return { jwe: answer.jwe, envelope: envelopeOf(answer.envelope), ...sourceOf(answer) };
  }

  /**
   * Adds, removes or replaces recipients of a JSON JWE; its payload is not decrypted. Who was taken out may have kept the
   * content key: to shut somebody out, use `reEncrypt`.
   */
  async rewrap(
    jwe: string,
    options: RewrapOptions,
  ): Promise<
    {
      readonly jwe: string;
      readonly keysUsed: readonly KeyUsed[];
      readonly insideToken: boolean;
      readonly envelope: Envelope;
    } & Source
  > {
    const { sourceKey = '', add = [], remove = [] } = options;
    const request = { jwe, sourceKey, add: add.map(recipientMessage), remove: [...remove] };
    const answer = await this.#transport.call('rewrap', request, options);
    return {
      jwe: answer.jwe,
      keysUsed: answer.keysUsed.map(keyUsedOf),
      insideToken: answer.insideToken,
      envelope: envelopeOf(answer.envelope),
      ...sourceOf(answer),
    };
  }

  /**
   * Verifies a JWS and signs its payload by another key, or by the primary version of its own, in the same form.
   * @throws {MortiseError} SIGNATURE_INVALID where it does not verify.
   */
  async reSign(
    jws: string,
    options: ReSignOptions = {},
  ): Promise<{ readonly jws: string; readonly envelope: Envelope } & Source> {
    const { sourceKey = '', targetKey = '', message } = options;
    const request = { jws, message: message && bytesOf(message), sourceKey, targetKey };
    const answer = await this.#transport.call('reSign', request, options);
    return { jws: answer.jws, envelope: envelopeOf(answer.envelope), ...sourceOf(answer) };
  }

  /** Makes a data key: `dataKey` to encrypt with and forget (empty with `wrappedOnly`), `wrappedDataKey` to keep. */
  async generateDataKey(
    key: string,
    options: DataKeyOptions = {},
  ): Promise<{ readonly dataKey: Buffer; readonly wrappedDataKey: string; readonly envelope: Envelope }> {
    const { length = 0, wrappedOnly = false, associatedData = NOTHING } = options;
    const request = { key, length, wrappedOnly, associatedData: bytesOf(associatedData) };
    const { dataKey, wrappedDataKey, envelope } = await this.#transport.call('generateDataKey', request, options);
    return { dataKey, wrappedDataKey, envelope: envelopeOf(envelope) };
  }

  /** Unwraps a data key. @throws {MortiseError} INVALID_CIPHERTEXT */
  async decryptDataKey(
    wrappedDataKey: string,
    options: BoundOptions & { readonly key?: string } = {},
  ): Promise<{ readonly dataKey: Buffer; readonly envelope: Envelope }> {
    const { key = '', associatedData = NOTHING } = options;
    const request = { wrappedDataKey, key, associatedData: bytesOf(associatedData) };
    const { dataKey, envelope } = await this.#transport.call('decryptDataKey', request, options);
    return { dataKey, envelope: envelopeOf(envelope) };
  }
}
