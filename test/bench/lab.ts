// What a run measures: a whole agent process over SoftHSM, with tenants that differ only in their policy, the load
// client and the direct processes. Everything is taken down with it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TenantPolicy } from '../../proto/documents/policy-types.ts';
import { type AgentOptions, type RunningAgent, startAgent } from '../support/agent.ts';
import type { Connection, Door } from './client.ts';
import type { Load } from './loops.ts';
import { Remote } from './remote.ts';
import type { WorkName } from './work.ts';

/** All but `bench` differ from the platform policy in what their name says. */
export const TENANTS = ['bench', 'flushed', 'cached', 'unwrapped', 'quiet', 'flood'] as const;
export type Tenant = (typeof TENANTS)[number];

const DATA_KEYS = { maxAgeSeconds: 300, maxUses: 10_000, maxBytes: 2 ** 30 };
const UNWRAPPED_KEYS = { maxAgeSeconds: 300, maxUses: 100_000, maxKeys: 16 };
const NO_CACHE: Partial<TenantPolicy> = { caches: { tokenSeconds: 60, dataKeys: false, unwrappedKeys: false } };
const TENANT_POLICIES: Readonly<Record<Tenant, Partial<TenantPolicy>>> = {
  bench: NO_CACHE,
  flushed: { ...NO_CACHE, audit: { durability: 'flushed', whenUnavailable: 'refuse' } },
  cached: { caches: { tokenSeconds: 60, unwrappedKeys: false } },
  unwrapped: { caches: { tokenSeconds: 60, dataKeys: false } },
  quiet: NO_CACHE,
  flood: NO_CACHE,
};
const TOKEN_SECONDS = 3600;
export const DIRECT_PROCESSES = 4; // as in the tables that the bars come from
const TICKS_PER_SECOND = 100; // USER_HZ of /proc/pid/stat

/** CPU time of a process with all of its threads, in microseconds. */
export const cpuMicros = (pid: number): number => {
  const fields = (readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1] as string).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1e6;
};

/** An agent with its tenants' keys made. */
export class BenchAgent implements AsyncDisposable {
  readonly agent: RunningAgent;
  readonly #tokens = new Map<string, string>();

  private constructor(agent: RunningAgent) {
    this.agent = agent;
  }

  static async start({
    metrics = false,
    ...options
  }: Omit<AgentOptions, 'tenants' | 'tenantPolicies' | 'started'> & {
    readonly metrics?: boolean;
    /** Called before the agent starts, to fill its stores. */
    readonly fill?: (agent: RunningAgent) => Promise<void>;
  } = {}): Promise<BenchAgent> {
    const { fill, platform, ...rest } = options;
    const agent = await startAgent({
      ...rest,
      tenants: TENANTS,
      platform: {
        ...platform,
        streams: { localKeys: true },
        caches: { tokenSeconds: 60, dataKeys: DATA_KEYS, unwrappedKeys: UNWRAPPED_KEYS },
      },
      tenantPolicies: TENANT_POLICIES,
      started: false,
    });
    const on = new BenchAgent(agent);
    try {
      await fill?.(agent);
      await agent.start();
      await agent.end(); // an agent that was started before has its small heap and compiled code
      await agent.start(metrics ? { MORTISE_METRICS_ADDRESS: on.metricsPath } : {});
      return on;
    } catch (error) {
      await agent.stop();
      throw error;
    }
  }

  get metricsPath(): string {
    return join(this.agent.folder, 'metrics.sock');
  }

  connection(tenant: Tenant, door: Door): Connection {
    const token =
      this.#tokens.get(tenant) ?? this.agent.bearer(tenant, { lifetimeSeconds: TOKEN_SECONDS }).slice('Bearer '.length);
    this.#tokens.set(tenant, token);
    return { socket: this.agent.socket, token, door };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.agent.stop();
  }
}

export interface Cell {
  readonly load: Load;
  /** CPU per operation of agent and token process, microseconds. */
  readonly agentCpu: number;
  readonly tokenCpu: number;
}

export interface AgentLoad {
  readonly tenant?: Tenant;
  readonly door: Door;
  readonly work: WorkName;
  readonly ms: number;
  readonly inFlight?: number;
  readonly perSecond?: number;
}

export const makeKeys = async (client: Remote, on: BenchAgent, tenants: readonly Tenant[]): Promise<void> => {
  for (const tenant of tenants) await client.ask({ makeKeys: on.connection(tenant, 'unary') });
};

/** One cell through the agent. */
export const measure = async (client: Remote, on: BenchAgent, what: AgentLoad): Promise<Cell> => {
  const { tenant = 'bench', door, ...rest } = what;
  const pids = [on.agent.pid, on.agent.tokenPid()] as const;
  const before = pids.map(cpuMicros);
  const load = await client.ask<Load>({ ...rest, by: on.connection(tenant, door) });
  const warmed = load.operations * 1.25; // the warm-up is a quarter as long and counted by /proc too
  const [agentCpu = 0, tokenCpu = 0] = pids.map((pid, at) => (cpuMicros(pid) - (before[at] ?? 0)) / warmed);
  return { load, agentCpu, tokenCpu };
};

/** Processes that call the token of an agent directly. */
export class Direct implements AsyncDisposable {
  readonly #remotes: Remote[] = [];

  /** One after the other: SoftHSM processes that log in at the same moment trip over each other. */
  static async start(
    { token }: RunningAgent,
    options: {
      readonly processes?: number;
      /** A library in place of the token's own, and what it needs. */
      readonly library?: string;
      readonly env?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<Direct> {
    const { processes = DIRECT_PROCESSES, library = token.library, env = token.env } = options;
    const direct = new Direct();
    const { label, pin } = token;
    for (let index = 0; index < processes; index += 1) {
      const remote = new Remote('direct.ts', env);
      direct.#remotes.push(remote);
      await remote.ask({ open: { library, label, pin } });
    }
    return direct;
  }

  /** The same work in so many processes at once; rates add up, latencies are those of the middle one. */
  async measure(work: WorkName, label: string, ms: number, processes = DIRECT_PROCESSES): Promise<Load> {
    const remotes = this.#remotes.slice(0, processes);
    const loads = await Promise.all(remotes.map((remote) => remote.ask<Load>({ work, label, ms })));
    const middle = [...loads].sort((a, b) => a.p50 - b.p50)[loads.length >> 1] as Load;
    const sum = (of: (load: Load) => number): number => loads.reduce((total, load) => total + of(load), 0);
    return { ...middle, operations: sum((load) => load.operations), rate: sum((load) => load.rate) };
  }

  async fill(label: string, count: number): Promise<readonly string[]> {
    return (this.#remotes[0] as Remote).ask({ fill: { label, count } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const remote of this.#remotes) await remote[Symbol.asyncDispose]();
  }
}
