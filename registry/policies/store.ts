// What this room needs of the store: published policies, which are never changed or removed.

export interface PolicyRow {
  /** Tenant, or "_platform". */
  readonly tenant: string;
  readonly version: number;
  /** SHA-256 of the signed payload, lower-case hex. */
  readonly digest: string;
  /** Exactly as published. */
  readonly jws: Buffer;
  /** Milliseconds since 1970, UTC; so are all times of rows. */
  readonly publishedAt: number;
  readonly publishedBy: string;
  readonly officers: readonly string[];
  readonly notBefore: number;
  readonly expiresAt: number;
}

export type PolicyHead = Pick<PolicyRow, 'tenant' | 'version' | 'digest'>;

/** Fails with STORE_UNAVAILABLE alone. */
export interface PoliciesStore {
  newestPolicy(tenant: string): Promise<PolicyRow | undefined>;
  /** What the newest of every tenant that has one is, the platform's included. */
  policyHeads(): Promise<readonly PolicyHead[]>;
  policy(tenant: string, version: number): Promise<PolicyRow | undefined>;
  /** Newest first, from the first version below `below`. */
  policyVersions(query: {
    readonly tenant: string;
    readonly below?: number;
    readonly limit: number;
  }): Promise<readonly PolicyRow[]>;
  /**
   * Stores a version if the newest ones, of this tenant and of the platform, still are those that it was judged against
   * (0: none). False where they are not. Durable when it resolves, and told to every replica.
   */
  insertPolicy(row: PolicyRow, judged: { readonly newest: number; readonly platform: number }): Promise<boolean>;
  /** Calls the listener with the tenant of every policy that was stored, on every replica. Answers how to stop. */
  watchPolicies(listener: (tenant: string) => void): () => void;
}
