// A registry in this process over an LMDB store of its own, with real TLS, and whatever it recorded and reported.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Client } from '@grpc/grpc-js';
import { systemClock } from '../../agent/clock.ts';
import { createLogger } from '../../agent/telemetry/logger.ts';
import { type AuditRecord, decodeAuditRecord } from '../../proto/documents/audit-record.ts';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { loadConfig } from '../../registry/config/config.ts';
import { RegistryError } from '../../registry/errors.ts';
import { Admins } from '../../registry/hosts/admins.ts';
import { makeAuthority, readAuthority } from '../../registry/hosts/authority-folder.ts';
import { type Registry, startRegistry } from '../../registry/registry.ts';
import { openLmdbStore } from '../../registry/store/lmdb/store.ts';
import type { RegistryStore } from '../../registry/store/store.ts';
import { createEvents } from '../../registry/telemetry/events.ts';
import { FIELDS } from '../../registry/telemetry/log-fields.ts';
import { createMetrics } from '../../registry/telemetry/metrics.ts';
import { temporaryFolder } from './folder.ts';
import { makePolicyFolder, type PolicyFolder } from './policy.ts';
import { type Certified, connectTo, enrolWith, unary } from './registry-client.ts';

export interface TestRegistryOptions {
  readonly environment?: Readonly<Record<string, string>>;
  /** Another replica of this registry. */
  readonly replicaOf?: TestRegistry;
}

/** A record of the registry's own logs. */
export type OwnRecord = Omit<AuditRecord, 'detail'> & { readonly detail: Readonly<Record<string, unknown>> };

export interface TestRegistry {
  readonly registry: Registry;
  /** All over the same store. */
  readonly replicas: Registry[];
  readonly port: number;
  readonly dir: string;
  readonly roots: readonly string[];
  readonly store: RegistryStore;
  readonly policies: PolicyFolder;
  /** The registry's own audit log, in order. */
  readonly records: OwnRecord[];
  /** The first administrator. */
  readonly admin: Certified;
  readonly adminClient: Client;
  /** From now on records cannot be written, or can again. */
  failRecords(fails: boolean): void;
  metrics(): Promise<string>;
  /** A client with this certificate, closed at the end of the test. */
  connect(who: Certified | undefined, groups?: string): Client;
  /** Enrols a host for these tenants, which are made where they are not there. */
  host(name: string, tenants: readonly string[]): Promise<Certified>;
  /** Enrols an administrator. */
  administrator(name: string, rights: { scopes: string[]; tenants?: string[] }): Promise<Certified>;
}

/** The store outlives all replicas over it. */
const openStoreIn = (t: TestContext, dir: string, replicas: readonly Registry[]): RegistryStore => {
  const store = openLmdbStore({
    path: join(dir, 'store'),
    mapSizeBytes: 64 * 1024 * 1024,
    events: { failed: () => undefined, reconnected: () => undefined },
  });
  t.after(async () => {
    await Promise.all(replicas.map((replica) => replica[Symbol.asyncDispose]()));
    await store.close();
  });
  return store;
};

/** The store, with what the registry writes into its own logs told, and failing where the test says so. */
const observed = (store: RegistryStore, records: OwnRecord[], switches: { recordsFail: boolean }): RegistryStore => ({
  ...store,
  forTenant: (tenant, actor) => {
    const inner = store.forTenant(tenant, actor);
    if (actor.kind !== 'registry') return inner;
    return {
      ...inner,
      append: async (append) => {
        if (switches.recordsFail) throw new RegistryError('STORE_UNAVAILABLE');
        const done = await inner.append(append);
        if (!done) return done;
        for (const { row } of append.records) {
          const { detail, ...record } = decodeAuditRecord(row.record).record;
          records.push({ ...record, detail: detail === '' ? {} : JSON.parse(detail) });
        }
        return done;
      },
    };
  },
});

export const startTestRegistry = async (t: TestContext, options: TestRegistryOptions = {}): Promise<TestRegistry> => {
  const { replicaOf } = options;
  const dir = replicaOf?.dir ?? temporaryFolder(t);
  const authorityDir = join(dir, 'authority');
  const policies = replicaOf?.policies ?? (await makePolicyFolder());
  if (replicaOf === undefined) {
    t.after(() => policies.remove());
    const trustAnchorBytes = await readFile(join(policies.dir, 'trust-anchor.json'));
    await makeAuthority({ dir: authorityDir, trustDomain: 'registry.test', trustAnchorBytes, clock: systemClock });
  }
  const { config } = loadConfig({
    REGISTRY_LISTEN_ADDRESS: '127.0.0.1:0',
    REGISTRY_AUTHORITY_DIR: authorityDir,
    REGISTRY_REPLICA: replicaOf === undefined ? 'one' : 'two',
    REGISTRY_LOG_LEVEL: 'silent',
    REGISTRY_DRAIN_SECONDS: '5',
    ...options.environment,
  });
  const records: OwnRecord[] = replicaOf?.records ?? [];
  const replicas = replicaOf?.replicas ?? [];
  const switches = { recordsFail: false };
  const store = replicaOf?.store ?? observed(openStoreIn(t, dir, replicas), records, switches);
  const metrics = createMetrics();
  const logger = createLogger({ level: config.logLevel, table: FIELDS, base: { replica: config.replica } });
  const events = createEvents({ logger, metrics });
  const registry = await startRegistry({
    config,
    version: '0.0.0-test',
    events,
    store,
  });
  replicas.push(registry);
  const authority = await readAuthority(authorityDir, systemClock);
  const roots = [authority.root.toString()];
  const { port } = registry.address;
  const connect = (who: Certified | undefined, groups?: string): Client => {
    const client = connectTo(port, {
      roots,
      ...(who !== undefined && { key: who.key, chain: who.chain }),
      ...(groups !== undefined && { groups }),
    });
    t.after(() => client.close());
    return client;
  };
  let admin = replicaOf?.admin;
  if (admin === undefined) {
    const first = new Admins({ store, authority, clock: systemClock, events: events.hosts });
    admin = await enrolWith(port, { token: (await first.createFirst('root')).text, roots });
  }
  const adminClient = connect(admin);
  const tokenOf = (token: { token: string } | undefined): string => {
    if (token === undefined) throw new Error('the registry gave no token');
    return token.token;
  };
  return {
    registry,
    replicas,
    port,
    dir,
    roots,
    store,
    policies,
    records,
    admin,
    adminClient,
    failRecords: (fails) => {
      switches.recordsFail = fails;
    },
    metrics: () => metrics.text(),
    connect,
    host: async (host, tenants) => {
      for (const tenant of tenants) {
        await unary(adminClient, AdminServiceService.createTenant, { tenant, displayName: '' });
      }
      const { token } = await unary(adminClient, AdminServiceService.createHost, hostRequest(host, tenants));
      return enrolWith(port, { token: tokenOf(token), roots });
    },
    administrator: async (name, { scopes, tenants = [] }) => {
      const request = { name, scopes, tenants, tokenSeconds: 0 };
      const { token } = await unary(adminClient, AdminServiceService.createAdmin, request);
      return enrolWith(port, { token: tokenOf(token), roots });
    },
  };
};

export const hostRequest = (host: string, tenants: readonly string[], change: object = {}) => ({
  host,
  tenants: [...tenants],
  tokenSeconds: 0,
  bringsCertificate: false,
  reinstate: false,
  ...change,
});
