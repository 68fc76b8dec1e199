// A store of hosts and policies in memory, for tests of the rooms over it. Changes are told in a later turn, as a real
// store would; two registries over one of it are two replicas.

import { RegistryError } from '../../registry/errors.ts';
import type {
  AdminRow,
  HostRow,
  HostsChange,
  HostsStore,
  PresenceRow,
  TenantRow,
  TokenRow,
} from '../../registry/hosts/store.ts';
import type { PoliciesStore, PolicyRow } from '../../registry/policies/store.ts';

type Listener<T> = (value: T) => void;

const byName = <T>(rows: Iterable<T>, nameOf: (row: T) => string): T[] =>
  [...rows].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));

export class MemoryStore implements HostsStore, PoliciesStore {
  readonly kind = 'lmdb';
  /** Set: every call fails with STORE_UNAVAILABLE. */
  isAway = false;
  readonly #tenants = new Map<string, TenantRow>();
  readonly #hosts = new Map<string, HostRow>();
  readonly #admins = new Map<string, AdminRow>();
  readonly #tokens = new Map<string, TokenRow>();
  readonly #presences = new Map<string, PresenceRow>();
  readonly #policies = new Map<string, PolicyRow[]>();
  readonly #hostListeners = new Set<Listener<{ kind: 'host' | 'admin'; name: string }>>();
  readonly #presenceListeners = new Set<Listener<string>>();
  readonly #policyListeners = new Set<Listener<string>>();

  async check(): Promise<void> {
    this.#reach();
  }

  async tenant(tenant: string) {
    this.#reach();
    return this.#tenants.get(tenant);
  }

  async tenants({ after = '', limit }: { after?: string; limit: number }) {
    this.#reach();
    return byName(this.#tenants.values(), (row) => row.tenant)
      .filter((row) => row.tenant > after)
      .slice(0, limit);
  }

  async insertTenant(row: TenantRow) {
    this.#reach();
    const stored = this.#tenants.get(row.tenant) ?? row;
    this.#tenants.set(row.tenant, stored);
    return stored;
  }

  async host(host: string) {
    this.#reach();
    return this.#hosts.get(host);
  }

  async hosts(query: { after?: string; limit: number; tenant?: string; state?: HostRow['state'] }) {
    this.#reach();
    return byName(this.#hosts.values(), (row) => row.host)
      .filter((row) => row.host > (query.after ?? ''))
      .filter((row) => query.tenant === undefined || row.tenants.includes(query.tenant))
      .filter((row) => query.state === undefined || row.state === query.state)
      .slice(0, query.limit);
  }

  async admin(name: string) {
    this.#reach();
    return this.#admins.get(name);
  }

  async admins() {
    this.#reach();
    return byName(this.#admins.values(), (row) => row.name);
  }

  async token(id: string) {
    this.#reach();
    return this.#tokens.get(id);
  }

  async change({ host, admin, token }: HostsChange) {
    this.#reach();
    const stored = [
      [host, host && this.#hosts.get(host.host)],
      [admin, admin && this.#admins.get(admin.name)],
      [token, token && this.#tokens.get(token.id)],
    ] as const;
    if (stored.some(([next, now]) => next !== undefined && next.revision !== (now?.revision ?? 0) + 1)) return false;
    if (token !== undefined) this.#tokens.set(token.id, token);
    if (host !== undefined) {
      this.#hosts.set(host.host, host);
      this.#tell(this.#hostListeners, { kind: 'host', name: host.host });
    }
    if (admin !== undefined) {
      this.#admins.set(admin.name, admin);
      this.#tell(this.#hostListeners, { kind: 'admin', name: admin.name });
    }
    return true;
  }

  async presence(host: string) {
    this.#reach();
    return this.#presences.get(host);
  }

  async presences(hosts: readonly string[]) {
    this.#reach();
    return hosts.map((host) => this.#presences.get(host)).filter((row) => row !== undefined);
  }

  async putPresence(row: PresenceRow) {
    this.#reach();
    this.#presences.set(row.host, row);
    this.#tell(this.#presenceListeners, row.host);
  }

  watchHosts(listener: Listener<{ kind: 'host' | 'admin'; name: string }>) {
    this.#hostListeners.add(listener);
    return () => void this.#hostListeners.delete(listener);
  }

  watchPresences(listener: Listener<string>) {
    this.#presenceListeners.add(listener);
    return () => void this.#presenceListeners.delete(listener);
  }

  async newestPolicy(tenant: string) {
    this.#reach();
    return this.#policies.get(tenant)?.at(-1);
  }

  async policyHeads() {
    this.#reach();
    return [...this.#policies.values()].map((rows) => rows.at(-1) as PolicyRow);
  }

  async policy(tenant: string, version: number) {
    this.#reach();
    return this.#policies.get(tenant)?.find((row) => row.version === version);
  }

  async policyVersions({
    tenant,
    below = Number.MAX_SAFE_INTEGER,
    limit,
  }: {
    tenant: string;
    below?: number;
    limit: number;
  }) {
    this.#reach();
    return (this.#policies.get(tenant) ?? [])
      .filter((row) => row.version < below)
      .reverse()
      .slice(0, limit);
  }

  async insertPolicy(row: PolicyRow, judged: { newest: number; platform: number }) {
    this.#reach();
    const newest = (tenant: string): number => this.#policies.get(tenant)?.at(-1)?.version ?? 0;
    if (newest(row.tenant) !== judged.newest || newest('_platform') !== judged.platform) return false;
    this.#policies.set(row.tenant, [...(this.#policies.get(row.tenant) ?? []), row]);
    this.#tell(this.#policyListeners, row.tenant);
    return true;
  }

  watchPolicies(listener: Listener<string>) {
    this.#policyListeners.add(listener);
    return () => void this.#policyListeners.delete(listener);
  }

  #reach(): void {
    if (this.isAway) throw new RegistryError('STORE_UNAVAILABLE');
  }

  #tell<T>(listeners: ReadonlySet<Listener<T>>, value: T): void {
    for (const listener of listeners) setImmediate(listener, value);
  }
}
