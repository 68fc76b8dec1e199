// Tenants and hosts: who may come, with what certificate, for which tenants, until revoked. Invariants: a host's tenants
// come from the token it was enrolled with and from nothing that it says; of its certificates the newest two are good.

import type { Clock } from '../../agent/clock.ts';
import { HOST_PATTERN } from '../../proto/documents/audit-record.ts';
import { TENANT_PATTERN } from '../../proto/documents/key-record.ts';
import { invalid, RegistryError } from '../errors.ts';
import type { Authority } from './authority.ts';
import { isPlatform, type Rights, reaches, requirePlatform, requireReach } from './scopes.ts';
import type { HostRow, HostState, HostsStore, Page, TenantRow } from './store.ts';
import { makeToken } from './tokens.ts';

export interface HostEvents {
  tenantCreated(event: { tenant: string; admin: string }): void;
  tokenMade(event: { kind: 'host' | 'admin'; name: string; admin: string; expiresAt: number }): void;
  revoked(event: { kind: 'host' | 'admin'; name: string; admin: string; reason: string }): void;
  certificateIssued(event: {
    kind: 'host' | 'admin';
    name: string;
    serial: string;
    expiresAt: number;
    why: 'enrolment' | 'renewal';
  }): void;
}

export interface AdminCaller extends Rights {
  readonly name: string;
}

export interface HandedOut {
  readonly text: string;
  readonly expiresAt: number;
}

const RESERVED = 'registry.'; // its own audit logs are under such names
const MAX_TENANTS = 10_000;
const MAX_DISPLAY_NAME_BYTES = 255;
const MAX_REASON_BYTES = 255;
const TOKEN_SECONDS = { least: 60, most: 86_400, usual: 3600 } as const;
const ATTEMPTS = 8; // of a change that others interfere with

export const tokenLife = (asked: number): number => {
  if (asked === 0) return TOKEN_SECONDS.usual;
  if (asked < TOKEN_SECONDS.least || asked > TOKEN_SECONDS.most) {
    throw invalid('token_seconds', `must be from ${TOKEN_SECONDS.least} to ${TOKEN_SECONDS.most}`);
  }
  return asked;
};

/** Repeats a change that lost against another one, on what is there then. */
export const withRetries = async <T>(attempt: () => Promise<T | undefined>): Promise<T> => {
  for (let left = ATTEMPTS; left > 0; left -= 1) {
    const done = await attempt();
    if (done !== undefined) return done;
  }
  throw new RegistryError('OVERLOADED', { message: 'too many changes of the same entry at once' });
};

export class Hosts {
  readonly #store: HostsStore;
  readonly #authority: Authority;
  readonly #clock: Clock;
  readonly #events: HostEvents;

  constructor(parts: {
    readonly store: HostsStore;
    readonly authority: Authority;
    readonly clock: Clock;
    readonly events: HostEvents;
  }) {
    this.#store = parts.store;
    this.#authority = parts.authority;
    this.#clock = parts.clock;
    this.#events = parts.events;
  }

  async createTenant(admin: AdminCaller, input: { tenant: string; displayName: string }): Promise<TenantRow> {
    requirePlatform(admin);
    const { tenant, displayName } = input;
    if (!TENANT_PATTERN.test(tenant)) throw invalid('tenant', 'must be [a-z0-9] then up to 62 of [a-z0-9-]');
    if (Buffer.byteLength(displayName) > MAX_DISPLAY_NAME_BYTES) throw invalid('display_name', 'too long');
    const row = { tenant, displayName, createdAt: this.#clock.now() };
    const stored = await this.#store.insertTenant(row);
    if (stored.createdAt === row.createdAt) this.#events.tenantCreated({ tenant, admin: admin.name });
    return stored;
  }

  async listTenants(admin: AdminCaller, page: Page): Promise<readonly TenantRow[]> {
    if (isPlatform(admin)) return this.#store.tenants(page);
    const own = admin.tenants.filter((tenant) => page.after === undefined || tenant > page.after).slice(0, page.limit);
    const rows = await Promise.all(own.map((tenant) => this.#store.tenant(tenant)));
    return rows.filter((row) => row !== undefined);
  }

  /** Makes or renews the entry of a host, and its token unless it brings its own certificate. */
  async createHost(
    admin: AdminCaller,
    input: {
      readonly host: string;
      readonly tenants: readonly string[];
      readonly tokenSeconds: number;
      readonly bringsCertificate: boolean;
      readonly reinstate: boolean;
    },
  ): Promise<{ readonly row: HostRow; readonly token: HandedOut | undefined }> {
    const { host, bringsCertificate, reinstate } = input;
    if (!HOST_PATTERN.test(host)) throw invalid('host', 'must be [A-Za-z0-9] then up to 252 of [A-Za-z0-9._-]');
    if (host.startsWith(RESERVED)) throw invalid('host', `names that begin with "${RESERVED}" are the registry's own`);
    const tenants = [...new Set(input.tenants)].sort();
    if (tenants.length === 0 || tenants.length > MAX_TENANTS) throw invalid('tenants', `must be 1 to ${MAX_TENANTS}`);
    requireReach(admin, tenants);
    const seconds = tokenLife(input.tokenSeconds);
    for (const tenant of tenants) {
      if ((await this.#store.tenant(tenant)) === undefined) {
        throw new RegistryError('TENANT_UNKNOWN', {
          message: `there is no tenant ${JSON.stringify(tenant.slice(0, 63))}`,
        });
      }
    }
    const expiresAt = this.#clock.now() + seconds * 1000;
    const { rootHash } = this.#authority;
    const made = bringsCertificate ? undefined : makeToken({ kind: 'host', name: host, tenants, expiresAt, rootHash });
    const row = await withRetries(async () => {
      const before = await this.#store.host(host);
      if (before !== undefined) requireReach(admin, before.tenants); // nobody takes a host of other tenants over
      if (before?.state === 'REVOKED' && !reinstate) throw new RegistryError('HOST_REVOKED');
      const next = entryOf(host, tenants, before, made?.row.id, this.#clock.now());
      const change = { host: next, ...(made !== undefined && { token: made.row }) };
      return (await this.#store.change(change)) ? next : undefined;
    });
    if (made === undefined) return { row, token: undefined };
    this.#events.tokenMade({ kind: 'host', name: host, admin: admin.name, expiresAt });
    return { row, token: { text: made.text, expiresAt } };
  }

  /** Hosts that serve a tenant of the administrator; `next` is the name of one of them, for it leaves in a page token. */
  async listHosts(
    admin: AdminCaller,
    query: Page & { readonly tenant?: string; readonly state?: HostState },
  ): Promise<{ readonly rows: readonly HostRow[]; readonly next: string | undefined }> {
    if (query.tenant !== undefined) requireReach(admin, [query.tenant]);
    const { limit } = query;
    const rows: HostRow[] = [];
    let { after } = query;
    for (;;) {
      const page = await this.#store.hosts({ ...query, ...(after !== undefined && { after }) });
      rows.push(...page.filter((row) => row.tenants.some((tenant) => reaches(admin, tenant))));
      after = page.at(-1)?.host;
      if (rows.length >= limit) return { rows: rows.slice(0, limit), next: rows[limit - 1]?.host };
      if (page.length < limit) return { rows, next: undefined };
    }
  }

  async host(name: string): Promise<HostRow | undefined> {
    return this.#store.host(name);
  }

  async revokeHost(admin: AdminCaller, input: { readonly host: string; readonly reason: string }): Promise<HostRow> {
    const { host, reason } = input;
    if (Buffer.byteLength(reason) > MAX_REASON_BYTES) throw invalid('reason', 'too long');
    return withRetries(async () => {
      const before = await this.#store.host(host);
      if (before === undefined || !before.tenants.some((tenant) => reaches(admin, tenant))) {
        throw new RegistryError(isPlatform(admin) ? 'HOST_UNKNOWN' : 'PERMISSION_DENIED');
      }
      requireReach(admin, before.tenants);
      if (before.state === 'REVOKED') return before;
      const { certificates: _, tokenId: __, ...kept } = before;
      const revokedAt = this.#clock.now();
      const next: HostRow = {
        ...kept,
        state: 'REVOKED',
        revokedAt,
        revokeReason: reason,
        revision: before.revision + 1,
      };
      if (!(await this.#store.change({ host: next }))) return undefined;
      this.#events.revoked({ kind: 'host', name: host, admin: admin.name, reason });
      return next;
    });
  }
}

/** The entry before its token is used: an enrolled host goes on with what it has until then. */
const entryOf = (
  host: string,
  tenants: readonly string[],
  before: HostRow | undefined,
  tokenId: string | undefined,
  now: number,
): HostRow => {
  const revision = (before?.revision ?? 0) + 1;
  if (tokenId === undefined)
    return { host, state: 'ACTIVE', tenants, bringsCertificate: true, enrolledAt: now, revision };
  if (before?.state === 'ACTIVE') return { ...before, tokenId, revision };
  return { host, state: 'PENDING', tenants, bringsCertificate: false, tokenId, revision };
};
