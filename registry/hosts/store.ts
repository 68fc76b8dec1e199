// What this room needs of the store: rows of tenants, hosts, administrators, enrolment tokens, and what hosts last said.
// Rows are plain data; every change is compare-and-set by revision, durable when it resolves, and told to every replica.

export interface TenantRow {
  readonly tenant: string;
  readonly displayName: string;
  /** Milliseconds since 1970, UTC; so are all times of rows. */
  readonly createdAt: number;
}

export type HostState = 'PENDING' | 'ACTIVE' | 'REVOKED';

/** The certificates that are good: serial numbers in lower-case hex, newest first, and when the newest ends. */
export interface Certificates {
  readonly serials: readonly string[];
  readonly expiresAt: number;
}

export interface HostRow {
  readonly host: string;
  readonly state: HostState;
  /** Sorted. */
  readonly tenants: readonly string[];
  readonly bringsCertificate: boolean;
  readonly certificates?: Certificates;
  readonly enrolledAt?: number;
  /** The one token that may be used for it. */
  readonly tokenId?: string;
  readonly revokedAt?: number;
  readonly revokeReason?: string;
  /** From 1, plus one with each change: the value for compare-and-set. */
  readonly revision: number;
}

export interface AdminRow {
  readonly name: string;
  /** Sorted. */
  readonly scopes: readonly string[];
  /** Sorted; empty for the platform's. */
  readonly tenants: readonly string[];
  readonly revoked: boolean;
  readonly certificates?: Certificates;
  readonly tokenId?: string;
  readonly revision: number;
}

/** A one-time token. The secret itself is nowhere. */
export interface TokenRow {
  readonly id: string;
  readonly kind: 'host' | 'admin';
  readonly name: string;
  /** SHA-256 of the secret, lower-case hex. */
  readonly secretHash: string;
  /** Of a host: the tenants that it gives. */
  readonly tenants: readonly string[];
  readonly expiresAt: number;
  /** SHA-256 of the public key (SubjectPublicKeyInfo) that it was used with, lower-case hex. */
  readonly usedWith?: string;
  readonly revision: number;
}

/** What a host last said by its heartbeat; written by the replica that it is connected to. */
export interface PresenceRow {
  readonly host: string;
  /** Name of the replica that has its heartbeat; absent when it has none. */
  readonly replica?: string;
  readonly lastSeen: number;
  readonly agentVersion: string;
  readonly startedAt: number;
  readonly policies: readonly {
    readonly tenant: string;
    readonly version: number;
    readonly digest: string;
    readonly since: number;
  }[];
  readonly catalogs: readonly { readonly tenant: string; readonly position: number }[];
  readonly backlogs: readonly { readonly tenant: string; readonly records: number }[];
  readonly parts: readonly { readonly part: string; readonly healthy: boolean; readonly detail: string }[];
}

/** Rows of one transaction. Each `revision` is the new one; the stored one must be one less, or absent where it is 1. */
export interface HostsChange {
  readonly host?: HostRow;
  readonly admin?: AdminRow;
  readonly token?: TokenRow;
}

export interface Page {
  /** In order of name, from the first after this one. */
  readonly after?: string;
  readonly limit: number;
}

/** Fails with STORE_UNAVAILABLE alone. */
export interface HostsStore {
  tenant(tenant: string): Promise<TenantRow | undefined>;
  tenants(page: Page): Promise<readonly TenantRow[]>;
  /** Answers the row that is there afterwards: the one before, where there was one. */
  insertTenant(row: TenantRow): Promise<TenantRow>;

  host(host: string): Promise<HostRow | undefined>;
  hosts(page: Page & { readonly tenant?: string; readonly state?: HostState }): Promise<readonly HostRow[]>;
  admin(name: string): Promise<AdminRow | undefined>;
  /** All of them: administrators are few. */
  admins(): Promise<readonly AdminRow[]>;
  token(id: string): Promise<TokenRow | undefined>;
  /** All rows or none. False where one of them was changed meanwhile. */
  change(rows: HostsChange): Promise<boolean>;

  presence(host: string): Promise<PresenceRow | undefined>;
  /** Those of the hosts named that were ever heard. */
  presences(hosts: readonly string[]): Promise<readonly PresenceRow[]>;
  /** At most one row of a host; all in one transaction. */
  putPresences(rows: readonly PresenceRow[]): Promise<void>;

  /** Calls the listener with every change of a host's or administrator's row, on every replica. Answers how to stop. */
  watchHosts(listener: (change: { readonly kind: 'host' | 'admin'; readonly name: string }) => void): () => void;
  /** The same for presences, with the replica that has the heartbeat. */
  watchPresences(
    listener: (presence: { readonly host: string; readonly replica: string | undefined }) => void,
  ): () => void;
}
