// Tenants, hosts, administrators, tokens, presences, policies and MAC keys in LMDB.
import type { HostRow, HostsChange, HostsStore, PresenceRow } from '../../hosts/store.ts';
import type { MacKeyStore } from '../../ledger/store.ts';
import type { PoliciesStore, PolicyHead, PolicyRow } from '../../policies/store.ts';
import { type Notices, presenceNames, presencesOf } from '../notices.ts';
import { PLATFORM } from '../store.ts';
import type { Environment, RowRange } from './environment.ts';

const values = <T>(env: Environment, range: RowRange): T[] => [...env.rows<T>(range)].map(({ value }) => value);
const page = ({ after, limit }: { readonly after?: string; readonly limit: number }) => ({
  limit,
  ...(after !== undefined && { after: [after] }),
});

const hostPage = (env: Environment, query: Parameters<HostsStore['hosts']>[0]): HostRow[] => {
  const found: HostRow[] = [];
  const after = query.after === undefined ? {} : { after: [query.after] };
  for (const { value } of env.rows<HostRow>({ prefix: ['host'], ...after })) {
    if (query.tenant !== undefined && !value.tenants.includes(query.tenant)) continue;
    if (query.state !== undefined && value.state !== query.state) continue;
    found.push(value);
    if (found.length === query.limit) break;
  }
  return found;
};

/** Whether the stored rows are the ones that these are changes of. */
const fits = (env: Environment, { host, admin, token }: HostsChange): boolean => {
  const stored = [
    [host, host && env.get<{ revision: number }>('host', host.host)],
    [admin, admin && env.get<{ revision: number }>('admin', admin.name)],
    [token, token && env.get<{ revision: number }>('token', token.id)],
  ] as const;
  return stored.every(([next, now]) => next === undefined || next.revision === (now?.revision ?? 0) + 1);
};

export const hostsStore = (env: Environment, notices: Notices): HostsStore => ({
  tenant: async (tenant) => env.get('tenant', tenant),
  tenants: async (query) => values(env, { prefix: ['tenant'], ...page(query) }),
  insertTenant: (row) =>
    env.write(() => {
      const stored = env.get<typeof row>('tenant', row.tenant);
      if (stored === undefined) env.put(['tenant', row.tenant], row);
      return stored ?? row;
    }),
  host: async (host) => env.get('host', host),
  hosts: async (query) => hostPage(env, query),
  admin: async (name) => env.get('admin', name),
  admins: async () => values(env, { prefix: ['admin'] }),
  token: async (id) => env.get('token', id),
  change: async (rows) => {
    const { host, admin, token } = rows;
    const done = await env.write(() => {
      if (!fits(env, rows)) return false;
      if (host !== undefined) env.put(['host', host.host], host);
      if (admin !== undefined) env.put(['admin', admin.name], admin);
      if (token !== undefined) env.put(['token', token.id], token);
      return true;
    });
    if (done && host !== undefined) notices.tell('host', host.host);
    if (done && admin !== undefined) notices.tell('admin', admin.name);
    return done;
  },
  presence: async (host) => env.get('presence', host),
  presences: async (hosts) =>
    hosts.map((host) => env.get<PresenceRow>('presence', host)).filter((row) => row !== undefined),
  putPresences: async (rows) => {
    await env.write(() => {
      for (const row of rows) env.put(['presence', row.host], row);
    });
    for (const name of presenceNames(rows)) notices.tell('presence', name);
  },
  watchHosts: (listener) => {
    const stops = (['host', 'admin'] as const).map((kind) => notices.on(kind, (name) => listener({ kind, name })));
    return () => stops.forEach((stop) => void stop());
  },
  watchPresences: (listener) => notices.on('presence', (name) => presencesOf(name).forEach(listener)),
});

const newestOf = (env: Environment, tenant: string): PolicyRow | undefined =>
  values<PolicyRow>(env, { prefix: ['policy', tenant], numbers: true, reverse: true, limit: 1 })[0];

export const policiesStore = (env: Environment, notices: Notices): PoliciesStore => ({
  newestPolicy: async (tenant) => newestOf(env, tenant),
  policyHeads: async () => values<PolicyHead>(env, { prefix: ['policy-head'] }),
  policy: async (tenant, version) => env.get('policy', tenant, version),
  policyVersions: async ({ tenant, below = Number.POSITIVE_INFINITY, limit }) => {
    const found: PolicyRow[] = [];
    for (const { value } of env.rows<PolicyRow>({ prefix: ['policy', tenant], numbers: true, reverse: true })) {
      if (value.version < below) found.push(value);
      if (found.length === limit) break;
    }
    return found;
  },
  insertPolicy: async (row, judged) => {
    const done = await env.write(() => {
      const version = (tenant: string): number => newestOf(env, tenant)?.version ?? 0;
      if (version(row.tenant) !== judged.newest || version(PLATFORM) !== judged.platform) return false;
      const { tenant, digest } = row;
      env.put(['policy', tenant, row.version], row);
      env.put(['policy-head', tenant], { tenant, version: row.version, digest } satisfies PolicyHead);
      return true;
    });
    if (done) notices.tell('policy', row.tenant);
    return done;
  },
  watchPolicies: (listener) => notices.on('policy', listener),
});

export const macKeyStore = (env: Environment): MacKeyStore => ({
  macKey: async (host, epoch) => env.get('mac-key', host, epoch),
  insertMacKey: (host, epoch, jwe) =>
    env.write(() => {
      const stored = env.get<string>('mac-key', host, epoch);
      if (stored === undefined) env.put(['mac-key', host, epoch], jwe);
      return stored ?? jwe;
    }),
});
