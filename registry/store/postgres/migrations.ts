// The schema in PostgreSQL, as steps that are made once each, by the owner's role. Invariant: several replicas may start at
// the same time (an advisory lock lets one at a time), and a step that was made is never changed.
// Every table of tenants has row-level security, forced for its owner too: without a tenant set, no row is there.

/** Locks of `pg_advisory_xact_lock`. */
export const MIGRATION_LOCK = 7_238_110_001;
export const POLICY_LOCK = 7_238_110_002;
export const LEDGER_PARTITIONS = 16;

const TENANT_TABLES = [
  'entries',
  'changes',
  'positions',
  'leases',
  'uses',
  'logs',
  'records',
  'nodes',
  'checkpoints',
  'spans',
];

const secure = (table: string): string => `
  ALTER TABLE mortise.${table} ENABLE ROW LEVEL SECURITY;
  ALTER TABLE mortise.${table} FORCE ROW LEVEL SECURITY;
  CREATE POLICY tenant ON mortise.${table}
    USING (tenant_id = current_setting('mortise.tenant', true))
    WITH CHECK (tenant_id = current_setting('mortise.tenant', true));`;

const platform = `
  CREATE TABLE mortise.tenants (tenant text COLLATE "C" PRIMARY KEY, row jsonb NOT NULL);
  CREATE TABLE mortise.hosts (
    host text COLLATE "C" PRIMARY KEY, revision bigint NOT NULL, state text NOT NULL, tenants text[] NOT NULL,
    row jsonb NOT NULL);
  CREATE INDEX hosts_by_tenant ON mortise.hosts USING gin (tenants);
  CREATE TABLE mortise.admins (
    name text COLLATE "C" PRIMARY KEY, revision bigint NOT NULL, revoked boolean NOT NULL, tenants text[] NOT NULL,
    scopes text[] NOT NULL, row jsonb NOT NULL);
  CREATE TABLE mortise.tokens (id text COLLATE "C" PRIMARY KEY, revision bigint NOT NULL, row jsonb NOT NULL);
  CREATE TABLE mortise.presences (host text COLLATE "C" PRIMARY KEY, row jsonb NOT NULL);
  CREATE TABLE mortise.mac_keys (
    host text COLLATE "C", epoch bigint, jwe text NOT NULL, PRIMARY KEY (host, epoch));
  CREATE TABLE mortise.policies (
    tenant_id text COLLATE "C", version bigint, row jsonb NOT NULL, jws bytea NOT NULL,
    PRIMARY KEY (tenant_id, version));
  ALTER TABLE mortise.policies ENABLE ROW LEVEL SECURITY;
  ALTER TABLE mortise.policies FORCE ROW LEVEL SECURITY;
  CREATE POLICY tenant ON mortise.policies
    USING (current_setting('mortise.tenant', true) IN (tenant_id, '*'))
    WITH CHECK (current_setting('mortise.tenant', true) IN (tenant_id, '*'));`;

const catalog = `
  CREATE TABLE mortise.entries (
    tenant_id text COLLATE "C", kind text COLLATE "C", name text COLLATE "C", revision bigint NOT NULL,
    entry bytea NOT NULL, position bigint NOT NULL, head bytea NOT NULL, host text NOT NULL, changed_at bigint NOT NULL,
    PRIMARY KEY (tenant_id, kind, name));
  CREATE TABLE mortise.changes (
    tenant_id text COLLATE "C", position bigint, head bytea NOT NULL, kind text NOT NULL, name text NOT NULL,
    revision bigint NOT NULL, entry bytea, host text NOT NULL, changed_at bigint NOT NULL,
    PRIMARY KEY (tenant_id, position));
  CREATE TABLE mortise.positions (
    tenant_id text COLLATE "C" PRIMARY KEY, position bigint NOT NULL, head bytea NOT NULL);
  CREATE TABLE mortise.leases (
    tenant_id text COLLATE "C", id text, row jsonb NOT NULL, PRIMARY KEY (tenant_id, id));
  CREATE TABLE mortise.uses (
    tenant_id text COLLATE "C", key_id text, version bigint, leased bigint NOT NULL,
    PRIMARY KEY (tenant_id, key_id, version));
  CREATE TABLE mortise.lease_tenants (id text PRIMARY KEY, tenant text NOT NULL);`;

const ledger = `
  CREATE TABLE mortise.logs (
    tenant_id text COLLATE "C", origin text COLLATE "C", host text COLLATE "C" NOT NULL, revision bigint NOT NULL,
    row jsonb NOT NULL, PRIMARY KEY (tenant_id, origin));
  CREATE TABLE mortise.records (
    tenant_id text COLLATE "C", origin text COLLATE "C", idx bigint, record bytea NOT NULL, mac bytea NOT NULL,
    ingested_at bigint NOT NULL, host text COLLATE "C" NOT NULL, event text COLLATE "C" NOT NULL,
    time text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, key_id text COLLATE "C" NOT NULL,
    principal text COLLATE "C" NOT NULL, operation text COLLATE "C" NOT NULL, outcome text COLLATE "C" NOT NULL,
    correlation_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, origin, idx)) PARTITION BY HASH (tenant_id);
  ${Array.from(
    { length: LEDGER_PARTITIONS },
    (_, part) =>
      `CREATE TABLE mortise.records_${part} PARTITION OF mortise.records
         FOR VALUES WITH (MODULUS ${LEDGER_PARTITIONS}, REMAINDER ${part});`,
  ).join('\n')}
  CREATE INDEX records_by_event ON mortise.records (tenant_id, host, event);
  CREATE INDEX records_by_key ON mortise.records (tenant_id, key_id, origin, idx);
  CREATE INDEX records_by_principal ON mortise.records (tenant_id, principal, origin, idx);
  CREATE INDEX records_by_operation ON mortise.records (tenant_id, operation, origin, idx);
  CREATE INDEX records_by_outcome ON mortise.records (tenant_id, outcome, origin, idx) WHERE outcome <> 'ok';
  CREATE INDEX records_by_correlation ON mortise.records (tenant_id, correlation_id, origin, idx);
  CREATE TABLE mortise.nodes (
    tenant_id text COLLATE "C", origin text COLLATE "C", level int, idx bigint, hash bytea NOT NULL,
    PRIMARY KEY (tenant_id, origin, level, idx));
  CREATE TABLE mortise.checkpoints (
    tenant_id text COLLATE "C", origin text COLLATE "C", size bigint, note text NOT NULL,
    PRIMARY KEY (tenant_id, origin, size));
  CREATE TABLE mortise.spans (
    tenant_id text COLLATE "C", origin text COLLATE "C", level int, at bigint, least text COLLATE "C" NOT NULL,
    greatest text COLLATE "C" NOT NULL, PRIMARY KEY (tenant_id, origin, level, at));`;

/** Sets the tenant for the transaction, if the actor's row says that it may act for it. */
const enter = `
  CREATE FUNCTION mortise.enter(tenant text, actor text, actor_name text) RETURNS boolean LANGUAGE plpgsql AS $$
  DECLARE allowed boolean;
  BEGIN
    allowed := CASE actor
      WHEN 'registry' THEN true
      WHEN 'host' THEN EXISTS (SELECT 1 FROM mortise.hosts h WHERE h.host = actor_name AND h.state = 'ACTIVE'
        AND (tenant = '_platform' OR tenant = ANY (h.tenants)))
      WHEN 'admin' THEN EXISTS (SELECT 1 FROM mortise.admins a WHERE a.name = actor_name AND NOT a.revoked
        AND (cardinality(a.tenants) = 0 OR tenant = ANY (a.tenants)))
      WHEN 'auditor' THEN EXISTS (SELECT 1 FROM mortise.admins a WHERE a.name = actor_name AND NOT a.revoked
        AND 'audit.read-any' = ANY (a.scopes))
      ELSE false END;
    PERFORM set_config('mortise.tenant', CASE WHEN allowed THEN tenant ELSE '' END, true);
    RETURN allowed;
  END $$;`;

/** What the role of the running registry may do: of what is evidence, nothing but read and add. */
export const grants = (role: string): string => `
  GRANT USAGE ON SCHEMA mortise TO ${role};
  GRANT SELECT ON mortise.schema_version TO ${role};
  GRANT SELECT, INSERT, UPDATE ON mortise.hosts, mortise.admins, mortise.tokens, mortise.presences, mortise.entries,
    mortise.changes, mortise.positions, mortise.leases, mortise.uses, mortise.logs,
    mortise.spans, mortise.rebuilds, mortise.rebuild_offers, mortise.session_budgets,
    mortise.lease_order TO ${role};
  GRANT DELETE ON mortise.leases, mortise.lease_tenants TO ${role};
  GRANT SELECT, INSERT ON mortise.tenants, mortise.policies, mortise.mac_keys, mortise.lease_tenants, mortise.records, mortise.nodes,
    mortise.checkpoints TO ${role};
  GRANT EXECUTE ON FUNCTION mortise.enter TO ${role};`;

const rebuilds = `
  CREATE TABLE mortise.rebuilds (tenant_id text COLLATE "C" PRIMARY KEY, row jsonb NOT NULL);
  CREATE TABLE mortise.rebuild_offers (
    tenant_id text COLLATE "C", rebuild text, host text COLLATE "C", row jsonb NOT NULL,
    PRIMARY KEY (tenant_id, rebuild, host));
  ${['rebuilds', 'rebuild_offers'].map(secure).join('')}`;

const sessions = `
  CREATE TABLE mortise.session_budgets (
    label text COLLATE "C", serial text COLLATE "C", row jsonb, PRIMARY KEY (label, serial));`;

const leaseOrder = `
  CREATE TABLE mortise.lease_order (
    tenant_id text COLLATE "C", key_id text, host text COLLATE "C", ids text[] NOT NULL,
    PRIMARY KEY (tenant_id, key_id, host));
  ${secure('lease_order')}`;

/** In order; the version of the schema is their number. */
export const MIGRATIONS: readonly string[] = [
  `${platform}${catalog}${ledger}${TENANT_TABLES.map(secure).join('')}${enter}`,
  rebuilds,
  sessions,
  leaseOrder,
];
