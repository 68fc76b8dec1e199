// The composition root: builds every part in start order, joins them, and gives back one AsyncDisposable that ends them
// in reverse. Invariant: what can fail for good (folders, stores, socket) comes before the PIN is handed over, so that
// a supervisor that starts the agent again and again never tries a wrong PIN again and again.
import { join } from 'node:path';
import { CryptoServiceService } from '../proto/gen/mortise/agent/v1/crypto.ts';
import { KeysServiceService } from '../proto/gen/mortise/agent/v1/keys.ts';
import { AuditSlot } from './assembly/audit-slot.ts';
import { prepareDataFolder } from './assembly/data-folder.ts';
import { Gate } from './assembly/gate.ts';
import { createStatus, type HealthParts, partStates, watchHealth } from './assembly/health.ts';
import { type KmsPlugin, openKmsPlugin } from './assembly/kms-plugin.ts';
import { openAll } from './assembly/opening.ts';
import { createPolicyMac } from './assembly/policy-mac.ts';
import { Recorder } from './assembly/recorder.ts';
import { openRegistryLink, publishedPolicies } from './assembly/registry-link.ts';
import { routeTokens } from './assembly/token-opening.ts';
import { certificatesOf } from './assembly/token-states.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Config } from './config/config.ts';
import { PostQuantum } from './crypto/post-quantum/post-quantum.ts';
import { RandomPool } from './crypto/random.ts';
import { PublicKeyCache } from './crypto/software-verify.ts';
import { createAuthenticator } from './identity/authenticate.ts';
import { createOpenings } from './identity/openings.ts';
import { createRateLimiter } from './identity/rate-limit.ts';
import { createRefusalRecorder } from './identity/refusals.ts';
import { openReplayMemory } from './identity/replay.ts';
import { createStreamSlots } from './identity/stream-slots.ts';
import { openKeys } from './keys/keys.ts';
import type { Ports } from './operations/perform.ts';
import type { StreamPorts } from './operations/streams/stream-ports.ts';
import { Policy } from './policy/policy.ts';
import { service } from './server/rpc.ts';
import { type AgentServer, createServer } from './server/server.ts';
import { cryptoHandlers } from './server/services/crypto.ts';
import { keysHandlers } from './server/services/keys.ts';
import { streamRpcs } from './server/services/streams.ts';
import type { Events } from './telemetry/events.ts';

export interface AgentOptions {
  readonly config: Config;
  readonly version: string;
  /** The agent's environment; the token process gets the variables of vendors' libraries out of it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly events: Events;
  readonly clock?: Clock;
}

export interface Agent extends AsyncDisposable {
  /** Resolves when calls are answered. May take as long as the token is away. */
  readonly ready: Promise<void>;
  /** Resolves when it is known whether calls are answered or what they wait for. */
  readonly settled: Promise<{ readonly waitingFor: string | undefined }>;
  /** Milliseconds since the start of the process at the end of each stage. */
  readonly stages: Readonly<Record<string, number>>;
  /** What is in the way of serving: parts by name, or that it starts or stops; undefined where nothing is. */
  notReady(): string | undefined;
  /** SIGHUP: reads the policy folder again, and tries a token that is away. */
  reload(): Promise<void>;
  /** Before an exit by force: kills the token process, which may hang in the vendor's library and outlive the agent. */
  abandon(): void;
}

/** The parts that can be built without the token. */
const buildParts = async (options: AgentOptions, stack: AsyncDisposableStack, changed: () => void) => {
  const { config, events, environment, version, clock = systemClock } = options;
  const startedAt = clock.now();
  await prepareDataFolder(config.dataDir);
  const published = await publishedPolicies(config, clock);
  const audit = new AuditSlot();
  const recorder = new Recorder({ append: (event) => audit.append(event), failed: events.agent.recordFailed });
  const token = routeTokens({ config, environment, clock, events, recorder, changed });
  stack.defer(() => token.close());
  stack.defer(async () => {
    if (audit.log !== undefined) await recorder.record('agent-stop', { pid: process.pid });
    await audit.close();
  });
  const path = join(config.dataDir, 'keys');
  const postQuantum = new PostQuantum({ clock });
  stack.defer(() => postQuantum.close());
  const shares = token.all.flatMap(({ slot }) => slot.share ?? []);
  const linked = { config, clock, version, startedAt, events: events.uplink, recorder, shares, changed };
  const registry = openRegistryLink(linked, published);
  const keys = openKeys({
    ...(registry !== undefined && { central: registry.central }),
    path,
    kekLabelPrefix: config.kekLabelPrefix,
    clock,
    token,
    audit,
    events: events.keys,
    dataKeyRules: (tenant) => policy.caches(tenant).dataKeys,
    unwrappedKeyRules: (tenant) => policy.caches(tenant).unwrappedKeys,
    derive: (algorithm, seed, call) => postQuantum.derive(algorithm, seed, call),
  });
  stack.defer(() => keys.close());
  const replay = openReplayMemory({ folder: join(config.dataDir, 'identity'), clock });
  stack.defer(() => replay.close());
  const random = new RandomPool({ token, clock, events: events.operations });
  stack.defer(() => random.close());
  const policy = new Policy({
    ...(published !== undefined && { source: published }),
    dir: config.policy.dir,
    trustAnchor: config.policy.trustAnchor,
    dataDir: config.dataDir,
    mac: createPolicyMac({ token, hostId: config.hostId, clock }),
    record: async (record) => void (await audit.appendOnceOpen(record)),
    clock,
    events: events.policy,
    reloadIntervalMs: config.policy.pollMs,
  });
  stack.defer(() => policy.close());
  policy.onChange(() => keys.policyChanged());
  stack.defer(async () => registry?.close());
  return { startedAt, clock, audit, recorder, token, keys, postQuantum, replay, random, policy, registry };
};
type Parts = Awaited<ReturnType<typeof buildParts>>;

const portsOf = (parts: Parts, events: Events): Ports => ({
  policy: parts.policy,
  keys: parts.keys.catalog,
  objects: parts.keys.objects,
  vault: parts.keys.vault,
  dataKeys: parts.keys.dataKeys,
  importKeys: parts.keys.importKeys,
  token: parts.token,
  audit: parts.audit,
  rateLimit: createRateLimiter({ clock: parts.clock, limits: (tenant) => parts.policy.rateLimits(tenant) }),
  random: parts.random,
  publicKeys: new PublicKeyCache(),
  postQuantum: parts.postQuantum,
  clock: parts.clock,
  events: events.operations,
});

const streamPortsOf = (ports: Ports, { replay, clock }: Parts, { limits }: Config): StreamPorts => ({
  ...ports,
  openings: createOpenings({ replay, clock }),
  streamSlots: createStreamSlots({ perTenant: limits.streamsPerTenant }),
  streamLimits: { maxBytes: limits.maxStreamBytes, idleMs: limits.streamIdleMs },
});

const authenticatorOf = ({ policy, replay, clock }: Parts, events: Events) => {
  const authenticator = createAuthenticator({
    policy: {
      issuers: () => policy.issuers(),
      workloads: () => policy.workloads(),
      revokedTokens: (tenant?: string) => policy.revokedTokens(tenant),
      serves: (tenant: string) => policy.serves(tenant),
      tokenCacheSeconds: () => policy.caches().tokenSeconds,
    },
    replay,
    clock,
    events: events.server,
  });
  policy.onChange(() => authenticator.policyChanged());
  return authenticator;
};

interface Serving {
  readonly server: AgentServer;
  /** Undefined where no API server is served. */
  readonly kms: KmsPlugin | undefined;
}

const serve = async (options: AgentOptions, parts: Parts, gate: Gate, health: HealthParts): Promise<Serving> => {
  const { config, events } = options;
  const { path, mode, group } = config.socket;
  const ports = portsOf(parts, events);
  const authenticator = authenticatorOf(parts, events);
  const record = createRefusalRecorder({ audit: parts.audit, clock: parts.clock });
  // Before the log is open nobody is judged, so there is nothing to record but that the agent was not ready.
  const refuse = async (refusal: Parameters<typeof record>[0]) => (gate.isOpen ? record(refusal) : undefined);
  const { defaultDeadlineMs, maxDeadlineMs } = config.limits;
  const shared = { ports, refuse, clock: parts.clock, events: events.server };
  const kms =
    config.kms &&
    (await openKmsPlugin({
      ...shared,
      config: config.kms,
      gate,
      health,
      limits: { defaultDeadlineMs, maxDeadlineMs },
    }));
  const server = await createServer({
    ...shared,
    status: createStatus(health),
    auditLog: parts.audit,
    services: [service(CryptoServiceService, cryptoHandlers(ports)), service(KeysServiceService, keysHandlers(ports))],
    streams: streamRpcs(streamPortsOf(ports, parts, config)),
    socket:
      config.listenFd === undefined ? { path, mode, ...(group !== undefined && { group }) } : { fd: config.listenFd },
    authenticate: (credentials) =>
      gate.isOpen
        ? authenticator.authenticate(credentials)
        : gate.pass().then(() => authenticator.authenticate(credentials)),
    reflection: config.reflection,
    limits: {
      maxConnections: config.limits.connections,
      maxConnectionsPerUid: config.limits.connectionsPerUid,
      maxStreams: config.limits.streams,
      pipelineWindow: config.limits.pipelineWindow,
      defaultDeadlineMs,
      maxDeadlineMs,
      maxStreamDeadlineMs: config.limits.maxStreamMs,
    },
  });
  return { server, kms };
};

/** Resolves when the socket accepts; `ready` tells when calls are answered. Rejects where the agent cannot live here. */
export const startAgent = async (options: AgentOptions): Promise<Agent> => {
  const { config, events, version } = options;
  const stages: Record<string, number> = { loaded: Math.round(performance.now()) };
  const passed = (stage: string): void => {
    stages[stage] = Math.round(performance.now());
  };
  await using stack = new AsyncDisposableStack();
  const gate = new Gate();
  let refresh = (): void => undefined;
  const parts = await buildParts(options, stack, () => refresh());
  const { token, audit, policy, recorder, keys, clock, registry, startedAt } = parts;
  const healthParts = {
    token,
    audit,
    policy,
    keys,
    registry,
    recorder,
    clock,
    version,
    hostId: config.hostId,
    startedAt,
  };
  const { server, kms } = await serve(options, parts, gate, healthParts);
  passed('listening');
  const broken = new Set<string>();
  const health = watchHealth(healthParts, ({ part, healthy, serving, detail }) => {
    if (serving) broken.delete(part);
    else broken.add(part);
    if (part !== 'registry') server.setHealth(part, serving && gate.isOpen);
    if (gate.isOpen) events.agent.healthChanged({ part, healthy, detail });
  });
  refresh = () => health.refresh();
  const ending = new AbortController();
  const { signal } = ending;
  const told = { auditEvents: events.audit, keysEvents: events.keys, waiting: events.agent.waiting };
  const opening = { config, clock, token, policy, audit, keys, gate, ...told, signal, passed };
  const ready = openAll(opening).then(async () => {
    await recorder.record('agent-start', {
      version,
      pid: process.pid,
      node: process.versions.node,
      ...certificatesOf(token),
    });
    gate.open();
    keys.reaper.start();
    kms?.opened();
    await registry?.open({ log: await audit.opened, policy, keys, parts: () => partStates(healthParts) });
    passed('ready');
    refresh();
  });
  ready.catch(() => undefined); // it rejects only where the agent ends first
  stack.defer(async () => {
    ending.abort();
    audit.giveUp();
    await health.close();
    await Promise.all([kms?.close(config.drainMs), server.close(config.drainMs)]);
  });
  const owned = stack.move();
  return {
    ready,
    settled: gate.settled.then(() => ({ waitingFor: gate.blockedBy?.message })),
    stages,
    notReady: () => {
      if (signal.aborted) return 'stopping';
      if (!gate.isOpen) return 'starting';
      return broken.size === 0 ? undefined : [...broken].join(', ');
    },
    reload: async () => {
      void token.retry();
      if (gate.isOpen) await policy.reload(); // before that the start reads it
    },
    abandon: () => token.kill(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
};
