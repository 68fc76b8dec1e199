// What the operations ask of the token.
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';

/** How a request to the token is queued and bounded. */
export interface TokenCall {
  /** The queue it waits in; queues are served fairly. */
  readonly tenant: string;
  /** Whose token it is for, where that is not the queue's tenant: what the agent does of itself to a tenant's objects. */
  readonly owner?: string;
  readonly deadline: number;
  readonly signal: AbortSignal;
}

/**
 * Failures are AgentErrors: HSM_BUSY, HSM_UNAVAILABLE, HSM_UNSUPPORTED, DEADLINE_EXCEEDED, CANCELLED, and for
 * cryptographic failure of decrypt and unwrap INVALID_CIPHERTEXT. Buffers given are not kept after the promise settles.
 */
export interface TokenPort {
  /**
   * Can the token of this tenant (of the agent, where none is named) generate, use and protect this algorithm for this
   * purpose? Proved by self-test.
   */
  canHold(
    algorithm: string,
    purpose: Purpose,
    tenant?: string,
  ): { readonly ok: true } | { readonly ok: false; readonly why: string };
  /**
   * Generates a token object, reads its attributes back, and answers with its CKA_ID and public key; of a composite both
   * halves, as one. `alg` of an AKP key is its post-quantum algorithm's id. Not repeated on failure.
   */
  generate(
    what: {
      readonly algorithm: string;
      readonly purpose: Purpose;
      readonly label: string;
      /** The CKA_ID to give it (16 bytes, lower-case hex), so that a crash leaves no object that nobody knows; random where absent. */
      readonly tokenId?: string;
    },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk }>;
  /** The token object with this exact label, as `generate` made it; undefined where there is none. */
  find(
    label: string,
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk } | undefined>;
  /** Ids of 16 bytes of the keys whose label begins so, sorted. Slow: the token looks at every object. */
  list(labelPrefix: string, call: TokenCall): Promise<readonly string[]>;
  /** What its label and its attributes say. HSM_UNAVAILABLE where there is none. */
  describe(
    tokenId: string,
    call: TokenCall,
  ): Promise<{
    readonly label: string;
    /** Algorithm ids of its objects, sorted: of a composite two. */
    readonly algorithms: readonly string[];
    /** Absent where its attributes allow what keys of two purposes do, or nothing. */
    readonly purpose?: Purpose;
    /** It was generated in the token. */
    readonly isLocal: boolean;
    readonly publicJwk?: PublicJwk;
    /** Why it cannot be used; then nothing else is known but its label. */
    readonly fault?: string;
  }>;
  /** Destroys all objects with this CKA_ID; succeeds where there are none. */
  destroy(tokenId: string, call: TokenCall): Promise<void>;
  /**
   * AES-GCM under a secret key, 96-bit iv: ciphertext || 128-bit tag. Some HSMs make the iv themselves: then it has been
   * written over the given one, so `iv` is read after the promise has settled.
   */
  gcmEncrypt(tokenId: string, input: { iv: Buffer; aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer>;
  gcmDecrypt(tokenId: string, input: { iv: Buffer; aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer>;
  /**
   * `jose` is RS*, PS*, ES* (data is the digest), Ed25519 or ML-DSA-* (data is the message). ECDSA answers r || s. Only
   * ML-DSA takes a context (FIPS 204 section 5.2), of at most 255 bytes. Of a composite, the half that `jose` is of signs.
   */
  sign(tokenId: string, jose: string, data: Buffer, call: TokenCall, context?: Buffer): Promise<Buffer>;
  /** `jose` is HS256, HS384 or HS512. */
  mac(tokenId: string, jose: string, data: Buffer, call: TokenCall): Promise<Buffer>;
  /**
   * RSAES-OAEP with SHA-256, MGF1 SHA-256, empty label (RFC 8017 section 7.1). With `secretBytes` a ciphertext of the right
   * length that is refused, or holds another length, is answered by as many random bytes, as by ML-KEM: for secrets that
   * are proved right by what they open, and for them alone.
   */
  oaepDecrypt(tokenId: string, ciphertext: Buffer, call: TokenCall, secretBytes?: number): Promise<Buffer>;
  /** Raw ECDH secret Z (SP 800-56A, x coordinate, full field length); `point` is 0x04 || X || Y. */
  ecdh(tokenId: string, point: Buffer, call: TokenCall): Promise<Buffer>;
  /** The secret of an ML-KEM ciphertext; of a wrong one of the right length, another secret (FIPS 203 section 6.3). */
  decapsulate(tokenId: string, ciphertext: Buffer, call: TokenCall): Promise<Buffer>;
  /**
   * The CKA_ID for a new key that wraps key material, by the scheme that the tenant's token does best; it says for ever
   * which. HSM_UNSUPPORTED, with what is missing, where it does none.
   */
  wrappingKeyId(call: Pick<TokenCall, 'tenant' | 'owner'>): string;
  /** Generates such a key, of one object or two. Not repeated on failure. */
  generateWrappingKey(
    what: { readonly label: string; readonly tokenId?: string },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string }>;
  /** Key material of up to 4 KiB, wrapped by such a key and bound to `aad` (of up to 1 KiB): iv, what is wrapped, tag. */
  wrap(tokenId: string, input: { aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer>;
  /** INVALID_CIPHERTEXT whatever is wrong with the wrap. */
  unwrap(tokenId: string, input: { aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer>;
  random(length: number, call: TokenCall): Promise<Buffer>;
  /**
   * A secret of `bytes` bytes under one key, wrapped by another, in one request: it does not leave the token process.
   * From AES-GCM with `iv`, or without one from RSAES-OAEP, to AES-GCM, whose iv is as in gcmEncrypt; no associated data.
   * INVALID_CIPHERTEXT where it does not open, or not to that length.
   */
  rewrap(
    from: { readonly tokenId: string; readonly iv?: Buffer; readonly data: Buffer },
    to: { readonly tokenId: string; readonly iv: Buffer },
    bytes: number,
    call: TokenCall,
  ): Promise<Buffer>;
  /**
   * Makes a token object of material that was made elsewhere, protected like a generated one, and reads it back.
   * `material`: the bytes of AES and HMAC keys; 0x04 || X || Y and d of EC keys; public and private part of Ed25519; n, e,
   * d, p, q, dp, dq, qi of RSA keys, unsigned big-endian without leading zeros. Not repeated on failure.
   */
  create(
    what: {
      readonly algorithm: string;
      readonly purpose: Purpose;
      readonly label: string;
      readonly tokenId: string;
      readonly material: readonly Buffer[];
    },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk }>;
}
