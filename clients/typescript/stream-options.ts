// What callers may ask of streams.
import type { AssociatedDataOptions, DecryptOptions, SignOptions } from './crypto.ts';
import type { CallOptions } from './transport.ts';

/**
 * Who encrypts or decrypts the chunks of a stream. `auto`: this process, with the content key of this one stream, where
 * policy lets the agent give it, else the agent. `always`: this process, or the stream is refused. `never`: the agent.
 */
export type LocalChunks = 'auto' | 'always' | 'never';

export interface LocalOptions {
  /** Default `auto`. */
  readonly local?: LocalChunks;
}

/** Options of streams.encrypt. */
export type EncryptStreamOptions = AssociatedDataOptions & LocalOptions;
/** Options of streams.decrypt. */
export type DecryptStreamOptions = DecryptOptions & LocalOptions;

/** Options of signStream. */
export interface SignStreamOptions extends SignOptions {
  /** Default `jws-detached`; `jws` cannot be streamed. */
  readonly form?: 'jws-detached' | 'jws-unencoded' | 'raw';
}

/** A signature over streamed data: a detached or unencoded JWS, or a raw signature. */
export type StreamSignature =
  | { readonly jws: string }
  | { readonly raw: Uint8Array /** That it was signed under. */; readonly context?: Uint8Array };

/** Options of streams.reSign. */
export interface ReSignStreamOptions extends CallOptions {
  /** The JWS must be by this key; without it its `kid` names the key. */
  readonly sourceKey?: string;
  /** Default: the primary version of the source key. */
  readonly targetKey?: string;
}

/** Options of reEncryptStream. */
export interface ReEncryptStreamOptions extends AssociatedDataOptions {
  /** The ciphertext must be under this key; without it its `kid` names the key. */
  readonly sourceKey?: string;
  /** Default: the primary version of the source key. */
  readonly targetKey?: string;
  /** In place of `associatedData`; empty binds none. */
  readonly newAssociatedData?: Uint8Array;
}
