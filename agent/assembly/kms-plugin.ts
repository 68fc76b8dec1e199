// Joins the plugin for the Kubernetes API server to the rest of the agent. Invariant: what its Status says comes from
// memory alone; the token is asked beside it, in the queue of the tenant whose key it is.
import type { Clock } from '../clock.ts';
import type { KmsConfig } from '../config/kms.ts';
import type { Ports } from '../operations/perform.ts';
import { createKmsServer, type KmsServerParts } from '../server/kms/kms-server.ts';
import { Pulse } from '../server/kms/pulse.ts';
import type { Gate } from './gate.ts';
import type { HealthParts } from './health.ts';

const PULSE_BYTES = 16;

export interface KmsPluginParts extends Pick<KmsServerParts, 'refuse' | 'events' | 'limits'> {
  readonly config: KmsConfig;
  readonly ports: Ports;
  readonly gate: Gate;
  readonly health: Pick<HealthParts, 'token' | 'audit' | 'policy'>;
  readonly clock: Clock;
}

export interface KmsPlugin {
  /** To be called once the agent serves: asks the token for the first time. */
  opened(): void;
  close(graceMs: number): Promise<void>;
}

const problemOf = ({ token, audit, policy }: KmsPluginParts['health'], tenant: string, pulse: Pulse) => {
  const { healthy, detail } = token.health(tenant);
  if (!healthy) return `token: ${detail}`;
  if (pulse.problem !== undefined) {
    void pulse.beat(); // the next poll may be told better
    return `token: ${pulse.problem}`;
  }
  const log = audit.log?.health();
  if (log?.writable !== true || log.corrupt.includes(tenant)) return 'audit: records cannot be written';
  return policy.serves(tenant) ? undefined : 'policy: this host was not enrolled for the tenant';
};

/** Resolves when the API server can connect. */
export const openKmsPlugin = async (parts: KmsPluginParts): Promise<KmsPlugin> => {
  const { config, ports, gate, health, clock, events, refuse, limits } = parts;
  const { socket, tenant, key, peers } = config;
  const pulse = new Pulse({
    ask: ({ deadlineInMs, signal }) =>
      gate.isOpen
        ? ports.token.random(PULSE_BYTES, { tenant, deadline: clock.now() + deadlineInMs, signal })
        : Promise.resolve(),
  });
  const server = await createKmsServer({
    ports,
    key,
    tenant,
    peers,
    refuse,
    events,
    clock,
    limits,
    socket: { path: socket.path, mode: socket.mode, ...(socket.group !== undefined && { group: socket.group }) },
    opened: () => gate.pass(),
    notOpen: () => (gate.isOpen ? undefined : `starting: ${gate.blockedBy?.message ?? 'the agent opens its stores'}`),
    problem: () => problemOf(health, tenant, pulse),
    suspect: () => void pulse.beat(),
  });
  return {
    opened: () => void pulse.beat(),
    close: async (graceMs) => {
      await server.close(graceMs);
      await pulse[Symbol.asyncDispose]();
    },
  };
};
