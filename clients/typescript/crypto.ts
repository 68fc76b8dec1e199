// The cryptographic operations. Callers name a key, never an algorithm. All are safe to repeat.
import { SignatureForm as FormMessage } from '../../proto/gen/mortise/agent/v1/crypto.ts';
import { bytesOf, envelopeOf, publicKeyText } from './convert.ts';
import { MoveOperations } from './moves.ts';
import type { CallOptions, Calls } from './transport.ts';
import type { Envelope } from './types.ts';

/** Options of encrypt, decrypt and encryptTo. */
export interface AssociatedDataOptions extends CallOptions {
  /** Bound into the ciphertext but not carried in it; decrypt needs the same bytes. At most 16 KiB. */
  readonly associatedData?: Uint8Array;
}

/** Options of decrypt. */
export interface DecryptOptions extends AssociatedDataOptions {
  /** The ciphertext must be under this key; without it the `kid` of the JWE header names the key. */
  readonly key?: string;
}

/** Form of a signature: Compact JWS with or without its payload, RFC 7797 unencoded, or the bare signature. */
export type SignatureForm = 'jws' | 'jws-detached' | 'jws-unencoded' | 'raw';

/** What is signed: a message of at most 2 MiB, or (raw signatures only, not Ed25519) its digest. */
export type SignatureInput = { readonly message: Uint8Array } | { readonly digest: Uint8Array };

/** Options of sign. */
export interface SignOptions extends CallOptions {
  /** Default `jws`. */
  readonly form?: SignatureForm;
  /** Protected header `typ`, at most 127 bytes; not with `raw`. */
  readonly type?: string;
  /** Context string, at most 255 bytes; only with `raw`, and with ML-DSA, SLH-DSA and composites. */
  readonly context?: Uint8Array;
}

/** A signature to check: a JWS, or a raw signature (then with `message` or `digest`). */
export type SignatureToVerify =
  | { readonly jws: string; readonly message?: Uint8Array }
  | ({ readonly raw: Uint8Array /** That it was signed under. */; readonly context?: Uint8Array } & SignatureInput);

/** Options of verify. */
export interface VerifyOptions extends CallOptions {
  /** Key; without it the `kid` of the JWS names it. Required for a raw signature. */
  readonly key?: string;
  /** Key version of a raw signature. Default: the primary version. */
  readonly version?: number;
}

/** Options of verifyMac. */
export interface VerifyMacOptions extends CallOptions {
  /** Key version, `envelope.keyUsed.version` of `mac`. Default: the primary version. */
  readonly version?: number;
}

/** Answer of verify and verifyWith. A wrong signature is an answer, not an error. */
export interface Verification {
  readonly valid: boolean;
  /** Payload of a valid JWS that carries it; empty otherwise. */
  readonly payload: Buffer;
  readonly envelope: Envelope;
}

const NOTHING = Buffer.alloc(0);
/** The forms as the agent's messages have them. */
export const FORMS: Readonly<Record<SignatureForm, FormMessage>> = {
  jws: FormMessage.JWS_COMPACT,
  'jws-detached': FormMessage.JWS_DETACHED,
  'jws-unencoded': FormMessage.JWS_UNENCODED,
  raw: FormMessage.RAW,
};

type InputMessage = { $case: 'message'; value: Buffer } | { $case: 'digest'; value: Buffer };

const inputMessage = (input: SignatureInput): InputMessage =>
  'digest' in input
    ? { $case: 'digest', value: bytesOf(input.digest) }
    : { $case: 'message', value: bytesOf(input.message) };

const toVerify = (
  what: SignatureToVerify,
): {
  signature: { $case: 'jws'; value: string } | { $case: 'raw'; value: Buffer };
  input: InputMessage | undefined;
  context: Buffer;
} =>
  'raw' in what
    ? {
        signature: { $case: 'raw', value: bytesOf(what.raw) },
        input: inputMessage(what),
        context: bytesOf(what.context ?? NOTHING),
      }
    : {
        signature: { $case: 'jws', value: what.jws },
        input: what.message && { $case: 'message', value: bytesOf(what.message) },
        context: NOTHING,
      };

/** The cryptographic half of the client. Bytes given must not change before the promise settles. */
export class CryptoOperations extends MoveOperations {
  readonly #transport: Calls;

  constructor(transport: Calls) {
    super(transport);
    this.#transport = transport;
  }

  /**
   * Encrypts to a Compact JWE (RFC 7516).
   * @param key Key id or `<tenant>/<key id>`, purpose encrypt.
   * @param plaintext At most 2 MiB.
   * @throws {MortiseError} KEY_UNKNOWN, KEY_STATE, KEY_LIMIT, POLICY_DENIED, TOO_LARGE, HSM_BUSY, …
   */
  async encrypt(
    key: string,
    plaintext: Uint8Array,
    options: AssociatedDataOptions = {},
  ): Promise<{ readonly jwe: string; readonly envelope: Envelope }> {
    const { jwe, envelope } = await this.#transport.call(
      'encrypt',
      { key, plaintext: bytesOf(plaintext), associatedData: bytesOf(options.associatedData ?? NOTHING) },
      options,
    );
    return { jwe, envelope: envelopeOf(envelope) };
  }

  /**
   * Decrypts a JWE, Compact or JSON, of at most 3 MiB.
   * @throws {MortiseError} INVALID_CIPHERTEXT for every failure of the cryptography, wrong associated data included.
   */
  async decrypt(
    jwe: string,
    options: DecryptOptions = {},
  ): Promise<{ readonly plaintext: Buffer; readonly envelope: Envelope }> {
    const { plaintext, envelope } = await this.#transport.call(
      'decrypt',
      { jwe, key: options.key ?? '', associatedData: bytesOf(options.associatedData ?? NOTHING) },
      options,
    );
    return { plaintext, envelope: envelopeOf(envelope) };
  }

  /**
   * Signs a message or digest. The answer has `jws`, or with form `raw` the bare `signature`: r || s for ECDSA.
   * @throws {MortiseError} KEY_UNKNOWN, KEY_STATE, KEY_LIMIT, POLICY_DENIED, INVALID_REQUEST, TOO_LARGE, …
   */
  async sign(
    key: string,
    input: SignatureInput,
    options: SignOptions = {},
  ): Promise<{ readonly jws: string; readonly signature: Buffer; readonly envelope: Envelope }> {
    const { jws, signature, envelope } = await this.#transport.call(
      'sign',
      {
        key,
        input: inputMessage(input),
        form: FORMS[options.form ?? 'jws'],
        type: options.type ?? '',
        context: bytesOf(options.context ?? NOTHING),
      },
      options,
    );
    return { jws, signature, envelope: envelopeOf(envelope) };
  }

  /** Verifies a JWS or a raw signature by a key of the agent. */
  async verify(what: SignatureToVerify, options: VerifyOptions = {}): Promise<Verification> {
    const { valid, payload, envelope } = await this.#transport.call(
      'verify',
      { key: options.key ?? '', version: options.version ?? 0, ...toVerify(what) },
      options,
    );
    return { valid, payload, envelope: envelopeOf(envelope) };
  }

  /** Computes an HMAC over at most 2 MiB: 32, 48 or 64 bytes. */
  async mac(
    key: string,
    message: Uint8Array,
    options: CallOptions = {},
  ): Promise<{ readonly mac: Buffer; readonly envelope: Envelope }> {
    const answer = await this.#transport.call('mac', { key, message: bytesOf(message) }, options);
    return { mac: answer.mac, envelope: envelopeOf(answer.envelope) };
  }

  /** Verifies a full HMAC in constant time. A wrong one is an answer, not an error. */
  async verifyMac(
    key: string,
    message: Uint8Array,
    mac: Uint8Array,
    options: VerifyMacOptions = {},
  ): Promise<{ readonly valid: boolean; readonly envelope: Envelope }> {
    const { valid, envelope } = await this.#transport.call(
      'verifyMac',
      { key, message: bytesOf(message), mac: bytesOf(mac), version: options.version ?? 0 },
      options,
    );
    return { valid, envelope: envelopeOf(envelope) };
  }

  /** Random bytes from the token mixed with the operating system's; 1 to 65536 of them. */
  async generateRandom(length: number, options: CallOptions = {}): Promise<Buffer> {
    return (await this.#transport.call('generateRandom', { length }, options)).random;
  }

  /**
   * Encrypts to a public key that is never stored.
   * @param publicKey a JWK without private members, or PEM text: RSA of 2048 bits or more, EC, X25519, or of a KEM.
   */
  async encryptTo(
    publicKey: object | string,
    plaintext: Uint8Array,
    options: AssociatedDataOptions = {},
  ): Promise<{ readonly jwe: string; readonly envelope: Envelope }> {
    const { jwe, envelope } = await this.#transport.call(
      'encryptTo',
      {
        publicJwk: publicKeyText(publicKey),
        plaintext: bytesOf(plaintext),
        associatedData: bytesOf(options.associatedData ?? NOTHING),
      },
      options,
    );
    return { jwe, envelope: envelopeOf(envelope) };
  }

  /** Verifies against a public key that is never stored, a JWK or PEM text; for a raw signature the JWK must have `alg`. */
  async verifyWith(
    publicKey: object | string,
    what: SignatureToVerify,
    options: CallOptions = {},
  ): Promise<Verification> {
    const { valid, payload, envelope } = await this.#transport.call(
      'verifyWith',
      { publicJwk: publicKeyText(publicKey), ...toVerify(what) },
      options,
    );
    return { valid, payload, envelope: envelopeOf(envelope) };
  }
}
