// The policy payload as it is written, and the effective view that the agent decides by. Types only: the parser is
// policy.ts, the merge is policy-merge.ts. docs/spec/policy.md says the same in words.
import type { Purpose } from './algorithms.ts';
import type { CompositeVerification } from './composite-verification.ts';
import type { PublicJwk } from './key-record.ts';
import type { OperationName, Scope } from './operations.ts';

export const POLICY_SCHEMA = 'mortise.policy/v1';
/** The tenant of the host itself; only platform policies may name it, for audit.read and agent.status. */
export const PLATFORM_TENANT = '_platform';

export type FipsBoundary = 'algorithms' | 'private-keys' | 'everything';
export type WhenStale = 'deny' | 'process-only';
export type WhenUnavailable = 'refuse' | 'process-only';
export type Durability = 'committed' | 'flushed';

export interface Lease {
  readonly maxStalenessSeconds: number;
  readonly whenStale: WhenStale;
}

export interface Sunset {
  readonly warnAfter: string;
  readonly refuseAfter: string;
}

/** Entries are algorithm ids or JOSE names; an entry matches where it equals either of the two. */
export interface AlgorithmRules {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  readonly sunset?: Readonly<Record<string, Sunset>>;
}

export interface KeyRules {
  readonly softUses?: number;
  readonly hardUses?: number;
  readonly softAgeSeconds?: number;
  readonly hardAgeSeconds?: number;
  readonly destroyWaitSeconds: number;
}

/** The caller that a token's `sub` stands for. */
export interface Subject {
  readonly subject: string;
  readonly tenant: string;
  readonly scopes: readonly Scope[];
}

/** Who may issue bearer tokens, and for which tenants. */
export interface Issuer {
  readonly issuer: string;
  readonly audiences: readonly string[];
  readonly jwks: { readonly keys: readonly PublicJwk[] };
  readonly tenants: readonly string[];
  /** Claims that say tenant and scopes; absent where `subjects` does. */
  readonly tenantClaim?: string;
  readonly scopesClaim?: string;
  /** For issuers whose tokens know nothing of tenants, such as Kubernetes: who is who. Nobody else may call. */
  readonly subjects?: readonly Subject[];
  readonly maxLifetimeSeconds: number;
  readonly singleUse: boolean;
  readonly clockSkewSeconds?: number;
}

/** A local principal known by the uid or gid of its process; exactly one of the two is given. */
export interface Workload {
  readonly uid?: number;
  readonly gid?: number;
  readonly tenant: string;
  readonly principal: string;
  readonly scopes: readonly Scope[];
}

export interface RateLimits {
  readonly operationsPerSecond: number;
  readonly burst: number;
}

export interface AuditRules {
  readonly durability: Durability;
  readonly whenUnavailable: WhenUnavailable;
}

/** Bounds of one content key that the agent keeps in memory. */
export interface DataKeyRules {
  readonly maxAgeSeconds: number;
  readonly maxUses: number;
  readonly maxBytes: number;
}

/** Bounds of the private bytes of one wrapped key that the agent keeps in memory, and of how many keys'. */
export interface UnwrappedKeyRules {
  readonly maxAgeSeconds: number;
  readonly maxUses: number;
  readonly maxKeys: number;
}

export interface CacheRules {
  readonly tokenSeconds: number;
  /** Absent in a platform policy: no cache. Absent in a tenant policy: as the platform's. */
  readonly dataKeys?: false | DataKeyRules;
  /** The same. */
  readonly unwrappedKeys?: false | UnwrappedKeyRules;
}

export interface StreamRules {
  /** Whether a client that asks for it is given the content key of a stream and works on the chunks itself. */
  readonly localKeys: boolean;
}

interface PolicyHead {
  readonly schema: typeof POLICY_SCHEMA;
  readonly version: number;
  readonly issuedAt: string;
  readonly notBefore: string;
  readonly expiresAt: string;
}

export interface PlatformPolicy extends PolicyHead {
  readonly scope: 'platform';
  readonly lease: Lease;
  readonly fipsOnly: false | { readonly boundary: FipsBoundary };
  readonly algorithms: AlgorithmRules & { readonly allow: readonly string[] };
  readonly operations: Readonly<Partial<Record<OperationName, readonly string[]>>>;
  readonly defaults: Readonly<Partial<Record<Purpose, string>>>;
  readonly keys: KeyRules;
  readonly tenants: readonly string[];
  readonly issuers: readonly Issuer[];
  readonly workloads: readonly Workload[];
  readonly revokedTokens?: readonly string[];
  readonly rateLimits: RateLimits;
  readonly audit: AuditRules;
  readonly caches: CacheRules;
  /** Absent: `all`. */
  readonly compositeVerification?: CompositeVerification;
  /** Whether a signature is verified before it leaves the agent. Absent: it is not. */
  readonly checkSignatures?: boolean;
  /** Absent: no content key of a stream leaves the agent. */
  readonly streams?: StreamRules;
}

/** Whatever a tenant policy leaves out is as the platform policy says. */
export interface TenantPolicy extends PolicyHead {
  readonly scope: 'tenant';
  readonly tenant: string;
  readonly lease?: Lease;
  readonly fipsOnly?: false | { readonly boundary: FipsBoundary };
  readonly algorithms?: AlgorithmRules;
  readonly operations?: Readonly<Partial<Record<OperationName, readonly string[]>>>;
  readonly defaults?: Readonly<Partial<Record<Purpose, string>>>;
  readonly keys?: Partial<KeyRules>;
  readonly revokedTokens?: readonly string[];
  readonly rateLimits?: RateLimits;
  readonly audit?: AuditRules;
  readonly caches?: CacheRules;
  readonly compositeVerification?: CompositeVerification;
  readonly checkSignatures?: boolean;
  readonly streams?: StreamRules;
}

export type Policy = PlatformPolicy | TenantPolicy;

/** One policy's lists, ready for decisions. */
export interface PolicyLayer {
  readonly scope: 'platform' | 'tenant';
  readonly version: number;
  readonly fipsBoundary: FipsBoundary | false;
  /** Undefined: no list of its own. */
  readonly allow: ReadonlySet<string> | undefined;
  readonly deny: ReadonlySet<string>;
  /** Milliseconds since 1970, UTC. */
  readonly sunset: ReadonlyMap<string, { readonly warnAfter: number; readonly refuseAfter: number }>;
  readonly operations: ReadonlyMap<OperationName, ReadonlySet<string>>;
}

/** What is in force for one tenant: the platform's policy, narrowed by the tenant's. Frozen; times in milliseconds. */
export interface EffectivePolicy {
  readonly tenant: string;
  /** Platform first; every layer must allow. */
  readonly layers: readonly PolicyLayer[];
  readonly notBefore: number;
  readonly expiresAt: number;
  readonly lease: { readonly maxStaleness: number; readonly whenStale: WhenStale };
  readonly fipsBoundary: FipsBoundary | false;
  readonly defaults: Readonly<Partial<Record<Purpose, string>>>;
  readonly keyLimits: {
    readonly softUses?: number;
    readonly hardUses?: number;
    readonly softAge?: number;
    readonly hardAge?: number;
  };
  readonly destroyWait: number;
  readonly rateLimits: RateLimits;
  readonly durability: Durability;
  readonly whenAuditUnavailable: WhenUnavailable;
  readonly compositeVerification: CompositeVerification;
  readonly checkSignatures: boolean;
  /** Whether a client may be given the content key of one stream; never under a FIPS boundary. */
  readonly localStreamKeys: boolean;
  readonly caches: {
    readonly tokenSeconds: number;
    readonly dataKeys?: DataKeyRules;
    readonly unwrappedKeys?: UnwrappedKeyRules;
  };
  /** jti values, or "sub:<subject>". */
  readonly revokedTokens: readonly string[];
}
