// Tenants, hosts, administrators, tokens, presences, policies and MAC keys in PostgreSQL: rows as JSON beside the columns
// that are searched or that access is judged by.
import { RegistryError } from '../../errors.ts';
import type {
  AdminRow,
  HostRow,
  HostsChange,
  HostsStore,
  PresenceRow,
  TenantRow,
  TokenRow,
} from '../../hosts/store.ts';
import type { MacKeyStore } from '../../ledger/store.ts';
import type { PoliciesStore, PolicyHead, PolicyRow } from '../../policies/store.ts';
import { type Notices, presenceNames, presencesOf } from '../notices.ts';
import { PLATFORM } from '../store.ts';
import type { Connections, Session } from './connections.ts';
import { jsonOf } from './json.ts';
import { POLICY_LOCK } from './migrations.ts';
import { notify, notifyAll } from './notifications.ts';

type Stored<T> = { readonly row: T };

/** Ends the transaction with nothing changed. */
class Unchanged extends RegistryError {
  constructor() {
    super('INTERNAL', { message: 'a row was changed meanwhile' });
  }
}

const unlessChanged = async (work: Promise<unknown>): Promise<boolean> => {
  try {
    await work;
    return true;
  } catch (thrown) {
    if (thrown instanceof Unchanged) return false;
    throw thrown;
  }
};

/** Inserts revision 1, or replaces the revision before. */
const put = async (session: Session, table: string, columns: Readonly<Record<string, unknown>>): Promise<void> => {
  const names = Object.keys(columns);
  const values = Object.values(columns);
  const revision = columns['revision'] as number;
  const [key, ...rest] = names;
  const { count } =
    revision === 1
      ? await session.query(
          `INSERT INTO mortise.${table} (${names}) VALUES (${names.map((_, i) => `$${i + 1}`)}) ON CONFLICT DO NOTHING`,
          values,
        )
      : await session.query(
          `UPDATE mortise.${table} SET ${rest.map((name, i) => `${name} = $${i + 2}`)}
           WHERE ${key} = $1 AND revision = $${names.indexOf('revision') + 1}::bigint - 1`,
          values,
        );
  if (count !== 1) throw new Unchanged();
};

const change = async (session: Session, { host, admin, token }: HostsChange): Promise<void> => {
  if (host !== undefined) {
    const { revision, state, tenants } = host;
    await put(session, 'hosts', { host: host.host, revision, state, tenants, row: JSON.stringify(host) });
    await notify(session, 'host', host.host);
  }
  if (admin !== undefined) {
    const { name, revision, revoked, tenants, scopes } = admin;
    await put(session, 'admins', { name, revision, revoked, tenants, scopes, row: JSON.stringify(admin) });
    await notify(session, 'admin', name);
  }
  if (token !== undefined) {
    await put(session, 'tokens', { id: token.id, revision: token.revision, row: JSON.stringify(token) });
  }
};

export const hostsStore = (db: Connections, notices: Notices): HostsStore => {
  const rows = async <T>(text: string, values: readonly unknown[] = []): Promise<T[]> =>
    (await db.asPlatform((session) => session.query<Stored<T>>(text, values))).rows.map(({ row }) => row);
  const one = async <T>(text: string, key: string): Promise<T | undefined> => (await rows<T>(text, [key]))[0];
  const tenant = (id: string) => one<TenantRow>('SELECT row FROM mortise.tenants WHERE tenant = $1', id);
  return {
    tenant,
    tenants: ({ after = '', limit }) =>
      rows('SELECT row FROM mortise.tenants WHERE tenant > $1 ORDER BY tenant LIMIT $2', [after, limit]),
    insertTenant: async (row) => {
      const text = 'INSERT INTO mortise.tenants VALUES ($1, $2) ON CONFLICT DO NOTHING';
      await db.asPlatform((session) => session.query(text, [row.tenant, JSON.stringify(row)]));
      return (await tenant(row.tenant)) ?? row;
    },
    host: (host) => one<HostRow>('SELECT row FROM mortise.hosts WHERE host = $1', host),
    hosts: ({ after = '', limit, tenant: of, state }) =>
      rows(
        `SELECT row FROM mortise.hosts WHERE host > $1 AND ($3::text IS NULL OR tenants @> ARRAY[$3::text])
         AND ($4::text IS NULL OR state = $4) ORDER BY host LIMIT $2`,
        [after, limit, of ?? null, state ?? null],
      ),
    admin: (name) => one<AdminRow>('SELECT row FROM mortise.admins WHERE name = $1', name),
    admins: () => rows('SELECT row FROM mortise.admins ORDER BY name'),
    token: (id) => one<TokenRow>('SELECT row FROM mortise.tokens WHERE id = $1', id),
    change: (changes) => unlessChanged(db.asPlatform((session) => change(session, changes))),
    presence: (host) => one<PresenceRow>('SELECT row FROM mortise.presences WHERE host = $1', host),
    presences: (hosts) => rows('SELECT row FROM mortise.presences WHERE host = ANY ($1)', [hosts]),
    putPresences: (rows) =>
      db.asPlatform(async (session) => {
        // In order of host: two replicas that write some of the same hosts do not wait for each other.
        const text = `INSERT INTO mortise.presences
          SELECT host, row FROM unnest($1::text[], $2::jsonb[]) AS said (host, row) ORDER BY host COLLATE "C"
          ON CONFLICT (host) DO UPDATE SET row = excluded.row`;
        await session.query(text, [rows.map(({ host }) => host), rows.map(jsonOf)]);
        await notifyAll(session, 'presence', presenceNames(rows));
      }),
    watchHosts: (listener) => {
      const stops = (['host', 'admin'] as const).map((kind) => notices.on(kind, (name) => listener({ kind, name })));
      return () => stops.forEach((stop) => void stop());
    },
    watchPresences: (listener) => notices.on('presence', (name) => presencesOf(name).forEach(listener)),
  };
};

const POLICY = 'SELECT row, jws FROM mortise.policies WHERE tenant_id = $1';
const HEADS = `SELECT DISTINCT ON (tenant_id) tenant_id AS tenant, version, row->>'digest' AS digest
  FROM mortise.policies ORDER BY tenant_id, version DESC`;

export const policiesStore = (db: Connections, notices: Notices): PoliciesStore => {
  const policies = async (text: string, values: readonly unknown[]): Promise<PolicyRow[]> => {
    const { rows } = await db.asPlatform((session) =>
      session.query<{ row: Omit<PolicyRow, 'jws'>; jws: Buffer }>(text, values),
    );
    return rows.map(({ row, jws }) => ({ ...row, jws }));
  };
  return {
    newestPolicy: async (tenant) => (await policies(`${POLICY} ORDER BY version DESC LIMIT 1`, [tenant]))[0],
    policyHeads: async () => (await db.asPlatform((session) => session.query<PolicyHead>(HEADS))).rows,
    policy: async (tenant, version) => (await policies(`${POLICY} AND version = $2`, [tenant, version]))[0],
    policyVersions: ({ tenant, below, limit }) =>
      policies(`${POLICY} AND ($2::bigint IS NULL OR version < $2) ORDER BY version DESC LIMIT $3`, [
        tenant,
        below ?? null,
        limit,
      ]),
    insertPolicy: (row, judged) =>
      unlessChanged(
        db.asPlatform(async (session) => {
          await session.query('SELECT pg_advisory_xact_lock($1)', [POLICY_LOCK]);
          const { rows } = await session.query<PolicyHead>(HEADS);
          const version = (tenant: string): number => rows.find((head) => head.tenant === tenant)?.version ?? 0;
          if (version(row.tenant) !== judged.newest || version(PLATFORM) !== judged.platform) throw new Unchanged();
          const { jws, ...rest } = row;
          const values = [row.tenant, row.version, JSON.stringify(rest), jws];
          await session.query('INSERT INTO mortise.policies VALUES ($1, $2, $3, $4)', values);
          await notify(session, 'policy', row.tenant);
        }),
      ),
    watchPolicies: (listener) => notices.on('policy', listener),
  };
};

export const macKeyStore = (db: Connections): MacKeyStore => {
  const text = 'SELECT jwe FROM mortise.mac_keys WHERE host = $1 AND epoch = $2';
  const macKey = async (host: string, epoch: number): Promise<string | undefined> =>
    (await db.asPlatform((session) => session.query<{ jwe: string }>(text, [host, epoch]))).rows[0]?.jwe;
  return {
    macKey,
    insertMacKey: async (host, epoch, jwe) => {
      const insert = 'INSERT INTO mortise.mac_keys VALUES ($1, $2, $3) ON CONFLICT DO NOTHING';
      await db.asPlatform((session) => session.query(insert, [host, epoch, jwe]));
      return (await macKey(host, epoch)) ?? jwe;
    },
  };
};
