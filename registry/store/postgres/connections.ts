// Connections to PostgreSQL: transactions with the tenant set, migrations, and the check of the run-time role. Invariant:
// the tenant is set for one transaction and no longer, so that a connection taken from the pool has none.
import { Pool, type PoolClient, type QueryResult, types } from 'pg';
import type { Actor } from '../../actor.ts';
import { RegistryError } from '../../errors.ts';
import { asStoreError } from '../rules.ts';
import type { StoreEvents } from '../store.ts';
import { grants, MIGRATION_LOCK, MIGRATIONS } from './migrations.ts';

const CONNECTIONS = 16;
const CONNECT_MS = 5_000;
const STATEMENT_MS = 30_000; // past this the database counts as away
const INT8 = 20;
const ROLE_PATTERN = /^[a-z_][a-z0-9_]{0,62}$/;

/** What a transaction runs statements with. */
export interface Session {
  /** With a `name` each connection prepares the statement once: one text for one name. */
  query<T>(
    text: string,
    values?: readonly unknown[],
    options?: { readonly name: string },
  ): Promise<{ readonly rows: T[]; readonly count: number }>;
}

// Positions and times stay below 2^53, so they come as numbers.
const typeParsers = {
  getTypeParser: (oid: number, format?: 'text' | 'binary') =>
    oid === INT8 ? Number : types.getTypeParser(oid, format as 'text'),
};

export const connectionOptions = (url: string) => ({
  connectionString: url,
  connectionTimeoutMillis: CONNECT_MS,
  statement_timeout: STATEMENT_MS,
  query_timeout: STATEMENT_MS + CONNECT_MS,
  application_name: 'mortise-registry',
  types: typeParsers as never,
});

export class Connections {
  readonly #pool: Pool;
  readonly #events: StoreEvents;

  constructor(options: { readonly url: string; readonly events: StoreEvents; readonly connections?: number }) {
    this.#events = options.events;
    this.#pool = new Pool({ ...connectionOptions(options.url), max: options.connections ?? CONNECTIONS });
    this.#pool.on('error', (cause) => this.#events.failed({ cause })); // an idle connection; the next call opens another
  }

  /** A transaction on one tenant's rows. PERMISSION_DENIED where the actor may not act for it. */
  asTenant<T>(tenant: string, actor: Actor, work: (session: Session) => Promise<T>): Promise<T> {
    const name = actor.kind === 'registry' ? '' : actor.name;
    return this.#transaction(async (client) => {
      const begin = [tenant, actor.kind, name].map((value) => client.escapeLiteral(value)).join(', ');
      const results = (await client.query(`BEGIN; SELECT mortise.enter(${begin})`)) as unknown as QueryResult[];
      if (results[1]?.rows[0]?.enter !== true) throw new RegistryError('PERMISSION_DENIED');
    }, work);
  }

  /** A transaction on the platform's tables; of tenants' tables, the policies of all. */
  asPlatform<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const begin = "BEGIN; SELECT set_config('mortise.tenant', '*', true)";
    return this.#transaction(async (client) => void (await client.query(begin)), work);
  }

  close(): Promise<void> {
    return this.#pool.end();
  }

  async #transaction<T>(begin: (client: PoolClient) => Promise<void>, work: (session: Session) => Promise<T>) {
    let client: PoolClient | undefined;
    let broken: Error | undefined;
    try {
      client = await this.#pool.connect();
      await begin(client);
      const answer = await work(sessionOf(client));
      await client.query('COMMIT');
      return answer;
    } catch (thrown) {
      if (!(thrown instanceof RegistryError)) this.#events.failed({ cause: thrown });
      try {
        await client?.query('ROLLBACK');
      } catch (cause) {
        broken = cause as Error; // the connection is gone, and its transaction with it
      }
      throw asStoreError(thrown);
    } finally {
      client?.release(broken);
    }
  }
}

const sessionOf = (client: PoolClient): Session => ({
  query: async (text, values = [], options = undefined) => {
    const { rows, rowCount } = await client.query({ ...options, text, values: [...values] });
    return { rows, count: rowCount ?? 0 };
  },
});

/** Brings the schema up to date, by the role that owns it, and gives the run-time role its rights. Safe from many at once. */
export const migrate = async (options: { readonly url: string; readonly runtimeRole: string }): Promise<void> => {
  if (!ROLE_PATTERN.test(options.runtimeRole)) {
    throw new RegistryError('INVALID_REQUEST', { message: 'the run-time role is not the name of a role' });
  }
  const pool = new Pool({ ...connectionOptions(options.url), max: 1 });
  try {
    const client = await pool.connect();
    try {
      await client.query(`BEGIN; SELECT pg_advisory_xact_lock(${MIGRATION_LOCK}); CREATE SCHEMA IF NOT EXISTS mortise;
        CREATE TABLE IF NOT EXISTS mortise.schema_version (version int PRIMARY KEY)`);
      const { rows } = await client.query('SELECT coalesce(max(version), 0) AS version FROM mortise.schema_version');
      for (const [index, step] of MIGRATIONS.entries()) {
        if (index < rows[0].version) continue;
        await client.query(step);
        await client.query('INSERT INTO mortise.schema_version VALUES ($1)', [index + 1]);
      }
      await client.query(grants(options.runtimeRole));
      await client.query('COMMIT');
    } finally {
      client.release(true); // a transaction that failed ends with its connection
    }
  } catch (cause) {
    throw new RegistryError('STORE_UNAVAILABLE', { message: 'the schema could not be brought up to date', cause });
  } finally {
    await pool.end();
  }
};

const unfit = (message: string): RegistryError => new RegistryError('STORE_UNAVAILABLE', { message });

/** Refuses another version of the schema, and a role to which row-level security would not apply. */
export const refuseUnfit = async (session: Session): Promise<void> => {
  const { rows: roles } = await session.query<{ free: boolean; owner: boolean; version: string | null }>(`
    SELECT r.rolsuper OR r.rolbypassrls AS free, to_regclass('mortise.schema_version')::text AS version,
      EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = to_regnamespace('mortise')
        AND pg_has_role(r.oid, c.relowner, 'MEMBER')) AS owner
    FROM pg_roles r WHERE r.rolname = current_user`);
  const role = roles[0];
  if (role?.free !== false) throw unfit('the role is a superuser or bypasses row-level security: take another one');
  if (role.owner) throw unfit('the role owns the tables: run the registry by another one');
  if (role.version === null) throw unfit('the database has no schema of the registry: migrate it first');
  const { rows } = await session.query<{ version: number }>(
    'SELECT max(version) AS version FROM mortise.schema_version',
  );
  if (rows[0]?.version !== MIGRATIONS.length) {
    throw unfit(`the schema has version ${rows[0]?.version}, this program needs ${MIGRATIONS.length}: migrate it`);
  }
};
