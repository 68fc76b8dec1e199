// The composition root: builds every part in start order, joins them, and gives back one AsyncDisposable that ends them in
// reverse.
import { createPublicKey } from 'node:crypto';
import { type Clock, systemClock } from '../agent/clock.ts';
import { parseCosigner } from '../proto/documents/cosignature.ts';
import { AdminServiceService } from '../proto/gen/mortise/registry/v1/admin.ts';
import { CatalogServiceService } from '../proto/gen/mortise/registry/v1/catalog.ts';
import { HostsServiceService } from '../proto/gen/mortise/registry/v1/hosts.ts';
import { LedgerServiceService } from '../proto/gen/mortise/registry/v1/ledger.ts';
import { PoliciesServiceService } from '../proto/gen/mortise/registry/v1/policies.ts';
import { SessionsServiceService } from '../proto/gen/mortise/registry/v1/sessions.ts';
import { type HealthPart, registryStatus, watchHealth } from './assembly/health.ts';
import { OwnLog } from './assembly/own-log.ts';
import { readClientRoots, readServerCertificate, watchExpiry } from './assembly/server-certificate.ts';
import { Catalog } from './catalog/catalog.ts';
import { Rebuilds } from './catalog/rebuild.ts';
import type { Config } from './config/config.ts';
import { Admins } from './hosts/admins.ts';
import type { Authority } from './hosts/authority.ts';
import { readAuthority } from './hosts/authority-folder.ts';
import { Enrolment } from './hosts/enrolment.ts';
import { Heartbeats } from './hosts/heartbeats.ts';
import { Hosts } from './hosts/hosts.ts';
import { Identities } from './hosts/identities.ts';
import type { PresenceRow } from './hosts/store.ts';
import { servingHosts, waitForHosts } from './hosts/wait.ts';
import { Ingest } from './ledger/ingest.ts';
import { Ledger } from './ledger/ledger.ts';
import { Policies } from './policies/policies.ts';
import { PolicyWatch } from './policies/watch.ts';
import type { RecordRefusal } from './server/admission.ts';
import { principalOf } from './server/audit-trail.ts';
import { type Service, service } from './server/rpc.ts';
import { createServer, type RegistryServer } from './server/server.ts';
import { adminHandlers } from './server/services/admin.ts';
import { catalogHandlers } from './server/services/catalog.ts';
import { decodeEntry, encodeEntry } from './server/services/catalog-entry.ts';
import { hostsHandlers } from './server/services/hosts.ts';
import { ledgerHandlers } from './server/services/ledger.ts';
import { policiesHandlers } from './server/services/policies.ts';
import { sessionsHandlers } from './server/services/sessions.ts';
import { SessionBudgets } from './sessions/budgets.ts';
import type { RegistryStore } from './store/store.ts';
import type { Events } from './telemetry/events.ts';

const PLATFORM = '_platform';

export interface RegistryOptions {
  readonly config: Config;
  readonly version: string;
  readonly events: Events;
  readonly clock?: Clock;
  readonly store: RegistryStore;
}

export interface Registry extends AsyncDisposable {
  readonly address: { readonly host: string; readonly port: number };
  /** The parts that do not do their work, by name, or that it stops; undefined where all do. */
  notReady(): string | undefined;
  /** SIGHUP: reads the certificate files again. */
  reload(): Promise<void>;
}

const buildRooms = (options: RegistryOptions, authority: Authority, stack: AsyncDisposableStack) => {
  const { config, events, store, clock = systemClock } = options;
  const { replica } = config;
  const told = { clock, events: events.hosts };
  const seconds = { host: config.certificates.hostSeconds, admin: config.certificates.adminSeconds };
  const heartbeats = stack.use(new Heartbeats({ store, replica, intervalSeconds: config.heartbeatSeconds, ...told }));
  const policies = new Policies({ store, anchor: authority.trustAnchor, clock, events: events.policies });
  const watch = stack.use(
    new PolicyWatch({ store, clock, events: events.policies, refreshSeconds: config.refreshSeconds }),
  );
  events.gauges.hostsConnected(() => heartbeats.size);
  events.gauges.policyWatchers(() => watch.size);
  return {
    identities: stack.use(new Identities({ store, clock })),
    hosts: new Hosts({ store, authority, ...told }),
    admins: new Admins({ store, authority, ...told }),
    enrolment: new Enrolment({ store, authority, seconds, ...told }),
    heartbeats,
    policies,
    watch,
    catalog: new Catalog({ store, clock, events: events.catalog, decode: decodeEntry }),
    rebuilds: new Rebuilds({
      ...{ store, clock, events: events.catalog, decode: decodeEntry, encode: encodeEntry },
      hostsOf: (tenant) => servingHosts(store, tenant, clock),
    }),
    sessions: new SessionBudgets({ store, clock, events: events.sessions }),
    ...ledgerRooms(options, authority),
  };
};
type Rooms = ReturnType<typeof buildRooms>;

/** The ledger, and the registry's own logs in it. */
const ledgerRooms = (options: RegistryOptions, authority: Authority) => {
  const { config, events, store, clock = systemClock } = options;
  const records = new OwnLog({ store, authority, replica: config.replica, clock });
  const { sealingKey, cosignerKey: privateKey, cosignerName: name } = authority;
  const ingest = new Ingest({
    store,
    clock,
    events: events.ledger,
    sealingKey,
    cosigner: { name, privateKey, publicKey: createPublicKey(privateKey) },
    recordRefusal: async ({ tenant, host, origin, code, index, reason }) => {
      const about = { principal: `host/${host}`, operation: 'append', outcome: code, correlationId: '-' };
      const detail = { origin: origin.slice(0, 400), index, reason: reason.slice(0, 400) };
      const tenants = tenant === PLATFORM ? [PLATFORM] : [PLATFORM, tenant];
      for (const each of tenants) await records.record({ tenant: each, ...about, detail });
    },
  });
  const cosigner = { ...parseCosigner(authority.cosigner), text: authority.cosigner };
  const ledger = new Ledger({ store, macKeys: ingest.macKeys, cosigner });
  return { records, ingest, ledger };
};

const servicesOf = (options: RegistryOptions, rooms: Rooms, authority: Authority): Service[] => {
  const { config, version, store, clock = systemClock } = options;
  const { replica, heartbeatSeconds, refreshSeconds } = config;
  const pinned = {
    registryRoots: [authority.root.raw],
    trustDomain: authority.trustDomain,
    trustAnchor: authority.trustAnchorBytes,
    sealingJwk: JSON.stringify(authority.sealingJwk),
    cosigner: authority.cosigner,
  };
  const {
    enrolment,
    heartbeats,
    hosts,
    admins,
    policies,
    watch,
    records,
    catalog,
    rebuilds,
    ingest,
    ledger,
    sessions,
  } = rooms;
  const now = (): number => clock.now();
  const presence = {
    presences: (names: readonly string[]) => store.presences(names),
    isConnected: (row: PresenceRow) => heartbeats.isConnected(row),
  };
  const startedAt = now();
  const status = () =>
    registryStatus({ config, version, startedAt, store, authority, heartbeats, parts: healthParts(options, rooms) });
  return [
    service(
      HostsServiceService,
      hostsHandlers({ enrolment, heartbeats, records, pinned, replica, heartbeatSeconds, now }),
    ),
    service(PoliciesServiceService, policiesHandlers({ policies, watch, records, refreshSeconds })),
    service(AdminServiceService, adminHandlers({ hosts, admins, presence, policies, records, status })),
    service(
      CatalogServiceService,
      catalogHandlers({
        catalog,
        rebuilds,
        records,
        waitForHosts: (target, signal) => waitForHosts({ store, heartbeats, clock }, target, signal),
      }),
    ),
    service(SessionsServiceService, sessionsHandlers({ sessions, records })),
    service(LedgerServiceService, ledgerHandlers({ ingest, ledger, records })),
  ];
};

const healthParts = ({ store }: RegistryOptions, { watch }: Rooms): readonly HealthPart[] => [
  { part: 'store', check: () => store.check() },
  {
    part: 'policies',
    check: async () => {
      if (!watch.isCurrent) throw new Error('the store has not said lately which policies are the newest');
    },
  },
  // Catalogue and ledger have nothing that could be broken by itself: they are as well as the store.
  { part: 'catalog', check: () => store.check() },
  { part: 'ledger', check: () => store.check() },
];

/** Refusals of callers that are known, in the registry's own log; one that cannot be written is an event. */
const refusalRecorder = ({ events }: RegistryOptions, { records }: Rooms): RecordRefusal => {
  return async ({ method, caller, code, correlationId }) => {
    const operation = method.slice(method.lastIndexOf('/') + 1);
    const principal = principalOf(caller);
    const about = { principal, operation, outcome: code, correlationId, detail: {} };
    const [first, ...others] = caller.tenants;
    // Of several tenants none is the one that the caller stood for.
    const tenants = first !== undefined && others.length === 0 ? [PLATFORM, first] : [PLATFORM];
    try {
      for (const tenant of tenants) await records.record({ tenant, ...about });
    } catch (cause) {
      events.registry.recordFailed({ operation, cause });
    }
  };
};

const serve = async (
  options: RegistryOptions,
  rooms: Rooms,
  authority: Authority,
): Promise<RegistryServer & AsyncDisposable & { reload(): Promise<void> }> => {
  const { config, events, clock = systemClock } = options;
  let certificate = await readServerCertificate(config, authority);
  const server = await createServer({
    listen: config.listen,
    requireHybrid: config.tls.requireHybrid,
    certificate,
    trustDomain: authority.trustDomain,
    root: authority.root,
    clientRoots: await readClientRoots(config.tls.clientRootsFile),
    services: servicesOf(options, rooms, authority),
    callerOf: (claims) => rooms.identities.caller(claims),
    recordRefusal: refusalRecorder(options, rooms),
    events: events.server,
    limits: {
      maxConnections: config.limits.connections,
      maxConnectionsPerClient: config.limits.connectionsPerClient,
    },
    reflection: config.reflection,
  });
  events.registry.serverCertificate({ expiresAt: certificate.notAfter });
  rooms.identities.onChange((kind, name) => void server.rejudge(kind, name));
  const replace = async (): Promise<void> => {
    try {
      certificate = await readServerCertificate(config, authority);
      server.setCertificate(certificate);
      events.registry.serverCertificate({ expiresAt: certificate.notAfter });
    } catch (error) {
      events.registry.reloadFailed({ error });
    }
  };
  const stopWatching = watchExpiry(() => certificate.notAfter, { now: () => clock.now(), replace });
  return {
    ...server,
    reload: replace,
    [Symbol.asyncDispose]: async () => {
      stopWatching();
      await server.close(config.drainMs);
    },
  };
};

/** Resolves when the registry can be reached. Rejects where it cannot live here. */
export const startRegistry = async (options: RegistryOptions): Promise<Registry> => {
  const { config, events, clock = systemClock } = options;
  await using stack = new AsyncDisposableStack();
  const authority = await readAuthority(config.authorityDir, clock);
  const rooms = buildRooms(options, authority, stack);
  await rooms.watch.load();
  const server = await serve(options, rooms, authority);
  const broken = new Set<string>();
  let stopping = false;
  const health = watchHealth(healthParts(options, rooms), ({ part, healthy, detail }) => {
    if (healthy) broken.delete(part);
    else broken.add(part);
    server.setHealth(part, healthy);
    events.registry.healthChanged({ part, healthy, detail });
  });
  await health.look();
  stack.defer(async () => {
    stopping = true;
    await health.close();
    await server[Symbol.asyncDispose](); // the rooms end after their last call
  });
  const owned = stack.move();
  return {
    address: server.address,
    notReady: () => (stopping ? 'stopping' : broken.size === 0 ? undefined : [...broken].join(', ')),
    reload: () => server.reload(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
};
