// What AdminService needs of the rooms, as plain interfaces that they fit by structure.
import type { AdminCaller } from '../caller.ts';
import type { PlainPolicy } from './policies.ts';

interface Page {
  readonly after?: string;
  readonly limit: number;
}

interface Certificates {
  readonly serials: readonly string[];
  readonly expiresAt: number;
}

export interface PlainTenant {
  readonly tenant: string;
  readonly displayName: string;
  readonly createdAt: number;
}

export interface PlainHost {
  readonly host: string;
  readonly state: 'PENDING' | 'ACTIVE' | 'REVOKED';
  readonly tenants: readonly string[];
  readonly bringsCertificate: boolean;
  readonly certificates?: Certificates;
  readonly enrolledAt?: number;
  readonly revokedAt?: number;
  readonly revokeReason?: string;
}

export interface PlainAdmin {
  readonly name: string;
  readonly scopes: readonly string[];
  readonly tenants: readonly string[];
  readonly revoked: boolean;
  readonly certificates?: Certificates;
}

export interface PlainPresence {
  readonly host: string;
  readonly replica?: string;
  readonly lastSeen: number;
  readonly agentVersion: string;
  readonly startedAt: number;
  readonly policies: readonly { tenant: string; version: number; digest: string; since: number }[];
  readonly catalogs: readonly { tenant: string; position: number }[];
  readonly backlogs: readonly { tenant: string; records: number }[];
  readonly parts: readonly { part: string; healthy: boolean; detail: string }[];
}

export interface PlainToken {
  readonly text: string;
  readonly expiresAt: number;
}

export interface HostsPort {
  createTenant(admin: AdminCaller, input: { tenant: string; displayName: string }): Promise<PlainTenant>;
  listTenants(admin: AdminCaller, page: Page): Promise<readonly PlainTenant[]>;
  createHost(
    admin: AdminCaller,
    input: {
      readonly host: string;
      readonly tenants: readonly string[];
      readonly tokenSeconds: number;
      readonly bringsCertificate: boolean;
      readonly reinstate: boolean;
    },
  ): Promise<{ readonly row: PlainHost; readonly token: PlainToken | undefined }>;
  listHosts(
    admin: AdminCaller,
    query: Page & { readonly tenant?: string; readonly state?: PlainHost['state'] },
  ): Promise<{ readonly rows: readonly PlainHost[]; readonly next: string | undefined }>;
  host(name: string): Promise<PlainHost | undefined>;
  revokeHost(admin: AdminCaller, input: { readonly host: string; readonly reason: string }): Promise<PlainHost>;
}

export interface AdminsPort {
  create(
    admin: AdminCaller,
    input: {
      readonly name: string;
      readonly scopes: readonly string[];
      readonly tenants: readonly string[];
      readonly tokenSeconds: number;
    },
  ): Promise<{ readonly row: PlainAdmin; readonly token: PlainToken }>;
  list(admin: AdminCaller): Promise<readonly PlainAdmin[]>;
  revoke(admin: AdminCaller, name: string): Promise<PlainAdmin>;
}

export interface PresencePort {
  presences(hosts: readonly string[]): Promise<readonly PlainPresence[]>;
  isConnected(row: PlainPresence): boolean;
}

export interface PublishPort {
  /** Fails where the signatures do not hold. */
  tenantOf(jws: Buffer): string;
  publish(
    jws: Buffer,
    options: { readonly admin: string; readonly acceptConflicts: boolean },
  ): Promise<{ readonly row: PlainPolicy; readonly conflicts: readonly string[] }>;
}
