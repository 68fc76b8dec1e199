// What the operations need of the rest of the agent, as small interfaces. The rooms (policy, keys, token, audit, …)
// fit them by structure; agent.ts joins the two and tsc checks the fit.
import type { KeyObject } from 'node:crypto';
import type { Purpose } from '../../proto/documents/algorithms.ts';
import type { CompositeVerification } from '../../proto/documents/composite-verification.ts';
import type { KeyRecord, KeyVersionRecord, PublicJwk } from '../../proto/documents/key-record.ts';
import type { OperationName, Scope } from '../../proto/documents/operations.ts';

/** The connection's peer as the kernel gave it at connect(2). Never authorise by pid. */
export interface Peer {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

export interface Caller {
  readonly tenant: string;
  readonly principal: string;
  readonly scopes: ReadonlySet<Scope>;
  readonly authenticatedBy: 'jwt' | 'peer';
  /** Throws what these credentials are refused with by now. For streams, which outlive the call that opened them. */
  readonly stands?: () => void;
}

/** One call, from the server down. */
export interface Call {
  readonly correlationId: string;
  readonly caller: Caller;
  readonly peer: Peer;
  /** Milliseconds since 1970; the server always sets one. */
  readonly deadline: number;
  readonly signal: AbortSignal;
}

// ---- policy

export interface PolicyQuestion {
  readonly tenant: string;
  readonly operation: OperationName;
  /** Algorithm id and JOSE name; absent for operations that use no algorithm. */
  readonly algorithm?: string;
  readonly jose?: string;
  /** Custody of the version, for the FIPS boundary. */
  readonly custody?: 'hsm' | 'wrapped' | 'split';
}

export type Decision =
  | { readonly allowed: true; readonly rule: string; readonly warnings: readonly Warning[] }
  | {
      readonly allowed: false;
      readonly rule: string;
      readonly code: 'POLICY_DENIED' | 'ALGORITHM_FORBIDDEN' | 'FIPS_ONLY' | 'POLICY_STALE' | 'POLICY_INVALID';
      readonly explanation: string;
    };

export interface PolicyPort {
  /** Pure in the policy in force and the clock; never throws. */
  decide(question: PolicyQuestion): Decision;
  /** The default algorithm id of a purpose, or undefined where policy names none. */
  defaultAlgorithm(tenant: string, purpose: Purpose): string | undefined;
  /** Limits that a new key gets, and that it may not exceed. Ages are in milliseconds from creation. */
  keyLimits(tenant: string): {
    readonly softUses?: number;
    readonly hardUses?: number;
    readonly softAge?: number;
    readonly hardAge?: number;
  };
  /** From when policy warns of an algorithm, and from when it makes nothing new with it; undefined: never. */
  sunset(
    tenant: string,
    use: { readonly algorithm: string; readonly jose: string },
  ): { readonly warnAfter: number; readonly refuseAfter: number } | undefined;
  /** The undo window of DestroyKey in milliseconds. */
  destroyWait(tenant: string): number;
  /** What happens when the audit log cannot be written. */
  whenAuditUnavailable(tenant: string): 'refuse' | 'process-only';
  /** Which halves of a composite signature have to be right. */
  compositeVerification(tenant: string): CompositeVerification;
  /** Whether a signature is verified before it leaves. */
  checkSignatures(tenant: string): boolean;
  /** Whether a client may be given the content key of a stream. */
  localStreamKeys(tenant: string): boolean;
}

// ---- keys

export interface KeysPort {
  /** Throws REGISTRY_UNAVAILABLE where a change of the tenant's keys could not be decided now. */
  requireChangeable(tenant: string): void;
  /** Undefined where the tenant has no such key. Served from memory. */
  get(tenant: string, keyId: string): KeyRecord | undefined;
  /** In order of key id, from the first id after `after`; stops when `accept` has taken `limit`. */
  list(
    tenant: string,
    query: {
      readonly after?: string;
      readonly prefix?: string;
      readonly limit: number;
      accept(key: KeyRecord): boolean;
    },
  ): readonly KeyRecord[];
  /** Durable when it resolves. KEY_EXISTS where the id is taken. */
  insert(record: KeyRecord): Promise<void>;
  /** Durable when it resolves. KEY_CONFLICT unless the stored revision is `next.revision - 1`. */
  replace(next: KeyRecord): Promise<void>;
  /**
   * Counts one use against the hard limit, reserving a durable block first where the present one is used up.
   * KEY_LIMIT where none is left. Resolves with the uses made so far, this one included. Uses are counted by version:
   * rotation starts anew.
   */
  use(record: KeyRecord): Promise<number>;
  /** Uses made of the primary version, an upper bound after a crash. */
  uses(tenant: string, keyId: string): number;
  /** What was done with a version; the times of last use are kept about once a minute, so a crash forgets the newest. */
  usage(
    tenant: string,
    keyId: string,
    version: number,
  ): { readonly made: number; readonly appliedAt?: number; readonly processedAt?: number };
  /** Notes that a version has read something with success. In memory: nothing waits for it. */
  processed(tenant: string, keyId: string, version: number): void;
}

/** Token objects of key versions, made so that a crash at any moment leaves none that nobody knows. */
export interface ObjectsPort {
  /**
   * Notes the object durably, then generates it. Storing a record that names its `tokenId` ends the note; what no
   * record names is destroyed by `discard`, or by the reaper after a crash.
   */
  generate(
    what: {
      readonly tenant: string;
      readonly keyId: string;
      readonly version: number;
      readonly algorithm: string;
      readonly purpose: Purpose;
      readonly jose: string;
    },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk }>;
  /** The same for an object of material that was made elsewhere; see `TokenPort.create`. */
  create(
    what: {
      readonly tenant: string;
      readonly keyId: string;
      readonly version: number;
      readonly algorithm: string;
      readonly purpose: Purpose;
      readonly jose: string;
      readonly material: readonly Buffer[];
    },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk }>;
  /** Destroys an object that no record came to name. Never rejects: where the token cannot do it now, the reaper will. */
  discard(tokenId: string): Promise<void>;
}

// ---- token

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

// ---- random bytes and public keys

/** Bytes of the token's generator mixed with the operating system's. */
export interface RandomPort {
  /** From the pool that is filled in bulk; for CEKs, seeds and nonces. */
  take(length: number): Promise<Buffer>;
  /** Past the pool, in the queue of the call; fails where the token fails. */
  fresh(length: number, call: TokenCall): Promise<Buffer>;
}

export interface PublicKeysPort {
  /** The public key of a key version as a key object, from a bounded cache. `keyJwk`: the JWK that OpenSSL takes for it. */
  get(jwk: PublicJwk, keyJwk?: (whole: PublicJwk) => PublicJwk): KeyObject;
}

// ---- keys on their way in

/** Keys of the token that wrap key material for ImportKey; see agent/keys/import-keys.ts for their bounds. */
export interface ImportKeysPort {
  open(
    what: { readonly tenant: string; readonly algorithm: string; readonly jose: string },
    call: TokenCall,
  ): Promise<ImportKeyView>;
  /** For one attempt; undefined where the tenant has none of this name that still takes one. */
  take(tenant: string, kid: string): ImportKeyView | undefined;
  /** Destroys it; never rejects. */
  end(tenant: string, kid: string): Promise<void>;
}

export interface ImportKeyView {
  readonly kid: string;
  readonly algorithm: string;
  readonly jose: string;
  readonly tokenId: string;
  readonly publicJwk: PublicJwk;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

// ---- content keys kept in memory

/** A content key and how it was wrapped; the bytes are the holder's own, to be wiped. */
export interface WrappedContentKey {
  readonly cek: Buffer;
  readonly encryptedKey: Buffer;
  /** Header members besides alg, enc and kid. */
  readonly members: Readonly<Record<string, unknown>>;
}

/** A place in the cache: what is there, as a copy, or where to put what was made in its stead. */
export type CacheSlot<T> = { readonly found: T } | { keep(value: T): void };

interface CachedUse {
  readonly tenant: string;
  readonly keyId: string;
  readonly version: number;
  /** Bytes of content that this use protects or reveals. */
  readonly bytes: number;
}

/**
 * Content keys that policy lets the agent keep (docs/spec/formats.md). Undefined where it does not. Each answer takes
 * one use and the bytes off what policy allows; `keep` copies, and keeps nothing where a key or policy changed meanwhile.
 */
export interface DataKeysPort {
  toEncrypt(use: CachedUse): CacheSlot<WrappedContentKey> | undefined;
  /** `wrap` names the encrypted key and everything of the header that it depends on; asked only where policy keeps any. */
  toDecrypt(use: CachedUse & { wrap(): string }): CacheSlot<Buffer> | undefined;
}

// ---- audit

export interface AuditEvent {
  readonly tenant: string;
  readonly principal: string;
  /** "<key id>/<version>", "<key id>", or "-". */
  readonly key: string;
  readonly algorithm: string;
  readonly operation: string;
  /** "ok" or an error code. */
  readonly outcome: string;
  readonly correlationId: string;
  /** More about the event, as JSON of at most 4 KiB. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

export interface AuditPort {
  /** Resolves with the event id when the record is as durable as the tenant's policy asks; or AUDIT_UNAVAILABLE. */
  append(event: AuditEvent): Promise<string>;
}

// ---- limits

export interface RateLimitPort {
  /** Takes one operation of the tenant; throws RATE_LIMITED with a wait. */
  take(tenant: string): void;
}

// ---- wrapped custody

/** How a seed is held while it is used. */
export interface HeldSeed {
  /** It was in memory before this use, as policy allows. */
  readonly isKept: boolean;
  /** The key object that `make` makes of it, kept as long as the seed; `name` tells those of one seed apart. */
  expand(name: string, make: () => KeyObject): KeyObject;
}

/** Keeps seeds wrapped by the tenant's KEK. The associated data is the record's identity. */
export interface VaultPort {
  /** Of custody `split` the post-quantum half; then `publicJwk` is that half's. */
  generate(
    what: {
      readonly tenant: string;
      readonly keyId: string;
      readonly version: number;
      readonly algorithm: string;
      readonly custody?: 'wrapped' | 'split';
    },
    call: TokenCall,
  ): Promise<{ readonly wrapped: string; readonly publicJwk: PublicJwk }>;
  /** Runs `use` with the seed (private bytes) in memory and wipes it afterwards, whatever happens. */
  withSeed<T>(
    record: KeyRecord,
    version: KeyVersionRecord,
    call: TokenCall,
    use: (seed: Buffer, held: HeldSeed) => Promise<T> | T,
  ): Promise<T>;
  /** Makes the next KEK version and re-wraps every blob of the tenant. */
  rotateKek(tenant: string, call: TokenCall): Promise<{ readonly version: number; readonly rewrapped: number }>;
}

// ---- post-quantum signatures

interface PqMessage {
  readonly algorithm: string;
  readonly message: Buffer;
  /** Context string of FIPS 204 and 205, up to 255 bytes; empty where absent. */
  readonly context?: Buffer;
}

/** Post-quantum signatures outside the token. Whatever takes long is done off the event loop, and ends with its call. */
export interface PostQuantumPort {
  /** `withMaterial` is asked when the work can begin, so that private bytes are in memory no longer than it takes. */
  sign(
    what: PqMessage,
    call: TokenCall,
    withMaterial: <T>(use: (material: Buffer, held?: HeldSeed) => Promise<T>) => Promise<T>,
  ): Promise<Buffer>;
  /** A malformed signature is a wrong one. */
  verify(what: PqMessage & { readonly key: KeyObject; readonly signature: Buffer }): Promise<boolean>;
  /** FN-DSA, by its public bytes; off the event loop, in the tenant's turn. */
  verifyFnDsa(
    what: Omit<PqMessage, 'context'> & { readonly publicKey: Buffer; readonly signature: Buffer },
    call: TokenCall,
  ): Promise<boolean>;
}

// ---- reading the audit log

/** One record of a log, as in AuditRecord of audit.proto. */
export interface AuditRecordView {
  readonly index: number;
  readonly tenant: string;
  readonly principal: string;
  readonly key: string;
  readonly algorithm: string;
  readonly operation: string;
  readonly outcome: string;
  /** RFC 3339 UTC with microseconds. */
  readonly time: string;
  readonly correlationId: string;
  readonly eventId: string;
  /** JSON, or empty. */
  readonly detail: string;
  readonly canonical: Uint8Array;
  readonly mac: Uint8Array;
}

export interface AuditFinding {
  readonly code: string;
  readonly index: number;
  readonly message: string;
}

/** Each method reads the log of one tenant. Records are verified as they are read: AUDIT_CORRUPT names the position. */
/** Proof that a record is in a log. */
export interface AuditReceiptView {
  /** C2SP tlog-proof. */
  readonly proof: string;
  /** Canonical form with detail. */
  readonly record: Uint8Array;
  readonly mac: Uint8Array;
  /** JSON. */
  readonly publicJwk: string;
  readonly countersigned: boolean;
}

export interface ReceiptQuestion {
  readonly eventId: string;
  /** Only a checkpoint that the registry has countersigned will do. */
  readonly countersigned: boolean;
  /** How long to wait for a checkpoint. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  /** Whether the caller may know of a record of this principal. */
  mayRead(principal: string): boolean;
}

export interface AuditReadPort {
  size(tenant: string): number;
  /** Up to `limit` records from position `from`, oldest first. */
  list(tenant: string, from: number, limit: number): Promise<readonly AuditRecordView[]>;
  /** Records from `from` on as they are committed, in order; ends when the signal is aborted. */
  tail(tenant: string, from: number, signal: AbortSignal): AsyncIterable<readonly AuditRecordView[]>;
  /** The newest checkpoint; signs a new one where records were added since. `publicJwk` is JSON. */
  checkpoint(tenant: string): Promise<{ readonly checkpoint: string; readonly publicJwk: string }>;
  /** RECORD_UNKNOWN, or RECEIPT_PENDING where no checkpoint covers the record in time. */
  receipt(tenant: string, question: ReceiptQuestion): Promise<AuditReceiptView>;
  verify(
    tenant: string,
    trustedCheckpoint: string | undefined,
  ): Promise<{
    readonly intact: boolean;
    readonly size: number;
    /** Lower-case hex. */
    readonly root: string;
    readonly findings: readonly AuditFinding[];
    /** Milliseconds since 1970. */
    readonly checkpointTime: number | undefined;
  }>;
}

// ---- status

/** Parts without which the agent cannot serve, as the health service names them. */
export type Part = 'policy' | 'keys' | 'token' | 'audit';

export interface TokenView {
  readonly label: string;
  readonly model: string;
  readonly serial: string;
  readonly library: string;
  readonly sessions: number;
  readonly restarts: number;
  readonly abilities: readonly string[];
}

/** A token of the host, whether or not it is there. */
export interface TokenState {
  /** As the configuration calls it. */
  readonly name: string;
  readonly healthy: boolean;
  readonly detail: string;
  readonly token: TokenView | undefined;
  /** What the operator says of the validation of its module. */
  readonly certificate:
    | {
        readonly identifier: string;
        readonly standard: string;
        readonly level: number;
        readonly expires: number;
        readonly status: string;
        /** Why an auditor would ask, or empty. */
        readonly warning: string;
      }
    | undefined;
}

/** The agent as GetStatus shows it to one tenant. Times are milliseconds since 1970. */
export interface AgentState {
  readonly version: string;
  readonly host: string;
  readonly startedAt: number;
  /** `registry` only where there is one; the agent serves without it. */
  readonly parts: readonly { readonly part: Part | 'registry'; readonly healthy: boolean; readonly detail: string }[];
  /** The platform policy, then the tenant's own where there is one. */
  readonly policies: readonly {
    readonly scope: 'platform' | 'tenant';
    readonly version: number;
    readonly digest: string;
    readonly expiresAt: number;
    readonly verifiedAt: number;
    readonly stale: boolean;
  }[];
  /** The tenant's token; of the platform the agent's own. Undefined until it was there once. */
  readonly token: TokenView | undefined;
  /** What the tenant may know of: the platform every token, others their own. */
  readonly tokens: readonly TokenState[];
  readonly fipsBoundary: '' | 'algorithms' | 'private-keys' | 'everything';
  readonly opensslFips: boolean;
}

export interface StatusPort {
  /** Never throws: what is wrong stands in `parts`. */
  state(tenant: string): AgentState | Promise<AgentState>;
}

// ---- answers

export interface Warning {
  readonly code:
    | 'SOFT_LIMIT'
    | 'NEAR_EXPIRY'
    | 'ALGORITHM_SUNSET'
    | 'POLICY_STALE'
    | 'AUDIT_SUSPENDED'
    | 'COMPOSITE_PARTIAL';
  readonly message: string;
}

export interface Envelope {
  readonly keyRequested: string;
  readonly keyUsed: { readonly keyId: string; readonly version: number } | undefined;
  readonly algorithmUsed: string;
  readonly warnings: readonly Warning[];
  readonly correlationId: string;
  /** The record of the operation in the audit log; empty where it went on unrecorded. */
  readonly eventId: string;
}
