// What identity is made of: the peer that the kernel names, the rows of the policy that map credentials to callers,
// and the caller that comes out. No field of a request takes part.
import type { Scope } from '../../proto/documents/operations.ts';

export interface Peer {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

export interface Identity {
  readonly tenant: string;
  readonly principal: string;
  readonly scopes: ReadonlySet<Scope>;
  readonly authenticatedBy: 'jwt' | 'peer';
  /** Throws what these credentials are refused with by now: TOKEN_EXPIRED, or UNAUTHENTICATED once revoked. */
  readonly stands?: () => void;
}

export interface Issuer {
  readonly issuer: string;
  readonly audiences: readonly string[];
  readonly jwks: { readonly keys: readonly object[] };
  /** Tenants that it may speak for. */
  readonly tenants: readonly string[];
  readonly tenantClaim?: string;
  readonly scopesClaim?: string;
  /** In place of the claims: who is who. */
  readonly subjects?: readonly {
    readonly subject: string;
    readonly tenant: string;
    readonly scopes: readonly string[];
  }[];
  readonly maxLifetimeSeconds: number;
  readonly singleUse: boolean;
  readonly clockSkewSeconds?: number;
}

/** Exactly one of uid and gid. */
export interface Workload {
  readonly uid?: number;
  readonly gid?: number;
  readonly tenant: string;
  readonly principal: string;
  readonly scopes: readonly string[];
}

/** The parts of the policy in force that identity reads, asked anew for every call. */
export interface IdentityPolicy {
  issuers(): readonly Issuer[];
  workloads(): readonly Workload[];
  /** False for tenants that the host was not enrolled for: they have no log here, nor anything else. */
  serves(tenant: string): boolean;
  /** Token ids, or "sub:" and a subject: the platform's and the tenant's own. The same list while it does not change. */
  revokedTokens(tenant: string): readonly string[];
  tokenCacheSeconds(tenant: string): number;
}

export interface IdentityEvents {
  /** A credential was refused; the reason is for the log and never leaves the agent. */
  refused(event: { code: string; reason: string; peer: Peer }): void;
}

export const PLATFORM_TENANT = '_platform';
const PLATFORM_SCOPES: readonly Scope[] = ['audit.read', 'agent.status'];

/** Unknown scopes are dropped: a newer issuer may know more than this agent. The host's own log allows two only. */
export const scopesOf = (names: readonly string[], known: readonly Scope[], tenant: string): ReadonlySet<Scope> => {
  const allowed = tenant === PLATFORM_TENANT ? PLATFORM_SCOPES : known;
  return new Set(allowed.filter((scope) => names.includes(scope)));
};
