// Rows as messages of AdminService. Invariant: a tenant's administrator sees of a host only what is of his tenants.
import {
  type Admin,
  type EnrolmentToken,
  type Host,
  HostState,
  type Tenant,
} from '../../../proto/gen/mortise/registry/v1/admin.ts';
import { type AdminCaller, reaches } from '../caller.ts';
import type { PlainAdmin, PlainHost, PlainPresence, PlainTenant, PlainToken } from './admin-ports.ts';

const date = (ms: number | undefined): Date | undefined => (ms === undefined || ms === 0 ? undefined : new Date(ms));

export const tenantMessage = ({ tenant, displayName, createdAt }: PlainTenant): Tenant => ({
  tenant,
  displayName,
  createTime: date(createdAt),
});

export const tokenMessage = ({ text, expiresAt }: PlainToken): EnrolmentToken => ({
  token: text,
  expireTime: date(expiresAt),
});

export const adminMessage = ({ name, scopes, tenants, revoked, certificates }: PlainAdmin): Admin => ({
  name,
  scopes: [...scopes],
  tenants: [...tenants],
  revoked,
  certificateExpireTime: date(certificates?.expiresAt),
});

export const hostMessage = (
  row: PlainHost,
  heard: PlainPresence | undefined,
  connected: boolean,
  admin: AdminCaller,
): Host => {
  const own = <T extends { readonly tenant: string }>(rows: readonly T[]): T[] =>
    rows.filter(({ tenant }) => tenant === '_platform' || reaches(admin, tenant));
  const all = row.tenants.every((tenant) => reaches(admin, tenant));
  return {
    host: row.host,
    state: HostState[row.state],
    tenants: row.tenants.filter((tenant) => reaches(admin, tenant)),
    bringsCertificate: row.bringsCertificate,
    enrolTime: date(row.enrolledAt),
    certificateExpireTime: date(row.certificates?.expiresAt),
    connected,
    lastSeen: date(heard?.lastSeen),
    agentVersion: heard?.agentVersion ?? '',
    policies: own(heard?.policies ?? []).map(({ tenant, version, digest, since }) => ({
      tenant,
      version: BigInt(version),
      digest,
      since: date(since),
    })),
    catalogs: own(heard?.catalogs ?? []).map(({ tenant, position }) => ({ tenant, position: BigInt(position) })),
    backlogs: own(heard?.backlogs ?? []).map(({ tenant, records }) => ({ tenant, records: BigInt(records) })),
    // What is said of a part may name tenants.
    parts: (heard?.parts ?? []).map((part) => (all ? part : { ...part, detail: '' })),
    revokeReason: row.revokeReason ?? '',
    revokeTime: date(row.revokedAt),
  };
};
