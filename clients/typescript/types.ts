// The plain types of the public API. Bytes come in as Uint8Array and go out as Buffer; times are Date; counts are
// numbers below 2^53.

/** What a key is for; one key serves one purpose for ever. */
export type Purpose = 'encrypt' | 'sign' | 'mac';

/** Where the private or secret part of a key version lives. */
export type Custody = 'hsm' | 'wrapped' | 'split';

/** Where the private or secret part of a key version was made. */
export type Origin = 'generated' | 'imported';

/** State of a key; docs/architecture.md has the table of what each allows. */
export type KeyState =
  | 'PRE_ACTIVE'
  | 'ACTIVE'
  | 'SUSPENDED'
  | 'EXPIRED'
  | 'REVOKED'
  | 'PENDING_DESTRUCTION'
  | 'DESTROYED';

/** State of one version: PRIMARY serves new operations, RETIRED only decrypts and verifies. */
export type VersionState = 'PRIMARY' | 'RETIRED' | 'REVOKED' | 'DESTROYED';

/** Something to act on though the call succeeded. */
export interface Warning {
  /** `SOFT_LIMIT`, `NEAR_EXPIRY`, `ALGORITHM_SUNSET`, `POLICY_STALE`, `AUDIT_SUSPENDED` or `COMPOSITE_PARTIAL`. */
  readonly code: string;
  readonly message: string;
}

/** What was asked and what was done. */
export interface Envelope {
  /** The key as named in the request, or found in the header of the ciphertext or signature. */
  readonly keyRequested: string;
  /** The key version that did the work; undefined where the caller brought the key. */
  readonly keyUsed: { readonly keyId: string; readonly version: number } | undefined;
  /** A JOSE name such as `A256GCMKW` or `ES256`. */
  readonly algorithmUsed: string;
  readonly warnings: readonly Warning[];
  readonly correlationId: string;
  /** The operation's record in the audit log, for `audit.receipt`; empty where it went on unrecorded. */
  readonly eventId: string;
}

/** Limits of a key; what is absent is the policy's default. A soft limit warns, a hard limit stops. */
export interface KeyLimits {
  /** Number of encrypt, sign and mac operations. */
  readonly softUses?: number;
  readonly hardUses?: number;
  readonly softExpiry?: Date;
  readonly hardExpiry?: Date;
}

/** Lets a principal do these operations with a key; with any grant, only the granted principals may use the key. */
export interface Grant {
  readonly principal: string;
  /** Operation names as in the audit trail: `encrypt`, `decrypt`, `sign`, `rotate-key`, … */
  readonly operations: readonly string[];
}

/** One version of a key. */
export interface KeyVersion {
  readonly version: number;
  /** Id in the algorithm table, such as `AES-256`. */
  readonly algorithm: string;
  /** JOSE name, such as `A256GCMKW`. */
  readonly joseAlgorithm: string;
  readonly state: VersionState;
  readonly custody: Custody;
  /** `imported`: made elsewhere, so copies outside of the token may exist. */
  readonly origin: Origin;
  readonly createTime: Date | undefined;
  /** Encrypt, sign and mac operations made with it. */
  readonly uses: number;
  /** The last of them, to about a minute; undefined: none that is known of. */
  readonly lastApplyTime: Date | undefined;
  /** When it last read something: decrypt, verify, verifyMac, or as the source of a move. */
  readonly lastProcessTime: Date | undefined;
  /** From when policy warns of the algorithm; undefined: never. */
  readonly sunsetWarnTime: Date | undefined;
  /** From when policy makes nothing new with the algorithm. */
  readonly sunsetTime: Date | undefined;
}

/** A key record; never holds secret material. */
export interface Key {
  readonly keyId: string;
  readonly tenant: string;
  readonly purpose: Purpose;
  readonly state: KeyState;
  readonly labels: Readonly<Record<string, string>>;
  readonly limits: KeyLimits;
  readonly grants: readonly Grant[];
  /** Oldest first. */
  readonly versions: readonly KeyVersion[];
  readonly createTime: Date | undefined;
  readonly updateTime: Date | undefined;
  /** When the key may first be used; undefined means at once. */
  readonly activationTime: Date | undefined;
  /** When the material will be destroyed; set in PENDING_DESTRUCTION. */
  readonly destroyTime: Date | undefined;
  /** Grows by one with each change; give it to `update` for compare-and-set. */
  readonly revision: number;
  /** Uses reserved against `limits.hardUses`: an upper bound of those made. */
  readonly uses: number;
}

/** One record of the audit log. */
export interface AuditRecord {
  /** Position in the tenant's log, from 0. */
  readonly index: number;
  readonly tenant: string;
  readonly principal: string;
  readonly key: string;
  readonly algorithm: string;
  readonly operation: string;
  /** `ok` or an error code. */
  readonly outcome: string;
  /** RFC 3339, UTC, microseconds. */
  readonly time: string;
  readonly correlationId: string;
  /** `<host>/<epoch>/<sequence>` */
  readonly eventId: string;
  /** JSON, or empty. */
  readonly detail: string;
  /** The bytes that were MACed (docs/spec/audit.md). */
  readonly canonical: Buffer;
  readonly mac: Buffer;
}

/** One thing found wrong with an audit log. */
export interface Finding {
  /** `RECORD_EDITED`, `RECORD_MISSING`, `RECORD_REORDERED`, `LOG_TRUNCATED`, `CHECKPOINT_INVALID`, `LOG_FORKED`. */
  readonly code: string;
  /** Position in the log. */
  readonly index: number;
  readonly message: string;
}

/** What the agent found when it verified the tenant's log. */
export interface LogVerification {
  readonly intact: boolean;
  readonly size: number;
  /** Merkle root, lower-case hex. */
  readonly root: string;
  readonly findings: readonly Finding[];
  readonly checkpointTime: Date | undefined;
}

/** Who the caller is to the agent. */
export interface Identity {
  readonly tenant: string;
  readonly principal: string;
  readonly scopes: readonly string[];
  readonly authenticatedBy: string;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

export interface TokenStatus {
  readonly label: string;
  readonly model: string;
  readonly serial: string;
  readonly library: string;
  readonly sessions: number;
  readonly restarts: number;
  readonly abilities: readonly string[];
}

/** State of the agent, as far as the caller's tenant may see it. */
export interface AgentStatus {
  readonly version: string;
  readonly host: string;
  readonly startTime: Date | undefined;
  readonly parts: readonly { readonly part: string; readonly healthy: boolean; readonly detail: string }[];
  readonly policies: readonly {
    readonly scope: string;
    readonly version: number;
    readonly digest: string;
    readonly expiresAt: Date | undefined;
    readonly verifiedAt: Date | undefined;
    readonly stale: boolean;
  }[];
  /** That of the caller's tenant; for the platform the one with the agent's own keys. */
  readonly token: TokenStatus | undefined;
  /** For the platform every token of the host, for others their own. */
  readonly tokens: readonly {
    /** As the host's configuration calls it. */
    readonly name: string;
    readonly healthy: boolean;
    readonly detail: string;
    readonly token: TokenStatus | undefined;
    /** What the host's operator says of the validation of its module. */
    readonly certificate:
      | {
          readonly identifier: string;
          readonly standard: string;
          readonly level: number;
          readonly expireTime: Date | undefined;
          readonly status: string;
          /** Why an auditor would ask, or empty. */
          readonly warning: string;
        }
      | undefined;
  }[];
  /** `""`, `algorithms`, `private-keys` or `everything`. */
  readonly fipsBoundary: string;
  readonly opensslFips: boolean;
}

/** Which rule decides about a call. */
export interface Explanation {
  readonly allowed: boolean;
  readonly rule: string;
  readonly explanation: string;
  /** The error code that the call would get; empty where allowed. */
  readonly code: string;
}

/** Answer of the standard health check. */
export type HealthStatus = 'UNKNOWN' | 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
