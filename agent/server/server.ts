// The agent's own socket: every service, health and reflection behind one door. Invariant: from the start of a drain
// nothing is serving again.
import { join } from 'node:path';
import type { Metadata, ServiceDefinition } from '@grpc/grpc-js';
import { AuditServiceService } from '../../proto/gen/mortise/agent/v1/audit.ts';
import { StatusServiceService } from '../../proto/gen/mortise/agent/v1/status.ts';
import type { Clock } from '../clock.ts';
import type { Ports } from '../operations/perform.ts';
import type { AuditReadPort } from '../operations/ports/audit-log.ts';
import type { Part, StatusPort } from '../operations/ports/status.ts';
import { type Authenticate, Authentication, type Refuse } from './authentication.ts';
import { batchService } from './batch.ts';
import { bindService } from './bind.ts';
import type { CallContext } from './call-context.ts';
import { addDataStreams, type DataStreamRpc } from './data-stream.ts';
import { createDoor, type DoorEvents } from './door.ts';
import { addHealth } from './health.ts';
import { DEFAULT_LIMITS, type ServerLimits } from './limits.ts';
import { addPipeline } from './pipeline.ts';
import { addReflection } from './reflection.ts';
import { type Service, service, unaryRpcs } from './rpc.ts';
import { auditHandlers } from './services/audit.ts';
import { statusHandlers } from './services/status.ts';
import type { SocketOptions } from './socket.ts';

const DESCRIPTORS = join(import.meta.dirname, '../../proto/gen/descriptors.binpb');
const HEALTH_SERVICES: Readonly<Record<Part, string>> = {
  policy: 'mortise.policy',
  keys: 'mortise.keys',
  token: 'mortise.token',
  audit: 'mortise.audit',
};

export interface ServerEvents extends DoorEvents {}

export interface ServerParts {
  readonly ports: Ports;
  readonly status: StatusPort;
  readonly auditLog: AuditReadPort;
  /** Keys, crypto, and what comes after them. */
  readonly services: readonly Service[];
  /** Of StreamService. */
  readonly streams?: readonly DataStreamRpc[];
  readonly socket: SocketOptions | { readonly fd: number };
  readonly authenticate: Authenticate;
  readonly refuse: Refuse;
  readonly events: ServerEvents;
  readonly clock: Clock;
  readonly limits?: Partial<ServerLimits>;
  readonly reflection: boolean;
}

export interface AgentServer {
  setHealth(part: Part, healthy: boolean): void;
  /** Stops accepting, refuses new calls with SHUTTING_DOWN, waits for those under way, then closes. Safe to repeat. */
  close(graceMs?: number): Promise<void>;
}

const DEFAULT_GRACE_MS = 25_000; // below the 30 s that Kubernetes gives, systemd gives 90

/** Resolves when the agent can be reached. */
export const createServer = async (parts: ServerParts): Promise<AgentServer> => {
  const limits = { ...DEFAULT_LIMITS, ...parts.limits };
  const { ports, clock, events } = parts;
  const authentication = new Authentication(parts);
  const door = createDoor({ authentication, events, clock, limits });
  const { server } = door;
  const services = [
    service(StatusServiceService, statusHandlers({ ...ports, status: parts.status })),
    service(AuditServiceService, auditHandlers({ ...ports, auditLog: parts.auditLog })),
    ...parts.services,
  ];
  const several = { rpcs: unaryRpcs(services), ports, events, clock, limits };
  const take = (metadata: Metadata): CallContext => door.take(metadata);
  for (const row of [...services, batchService(several)]) {
    const bound = bindService({ ports, take }, row);
    server.addService(bound.definition as unknown as ServiceDefinition, bound.implementation);
  }
  addPipeline(server, { ...several, authentication }, take);
  addDataStreams(server, parts.streams ?? [], take);
  const health = addHealth(server, HEALTH_SERVICES);
  if (parts.reflection) addReflection(server, DESCRIPTORS);
  await door.open(parts.socket);
  return {
    setHealth: (part, healthy) => health.set(part, healthy),
    close: (graceMs = DEFAULT_GRACE_MS) => {
      health.drain();
      return door.close(graceMs);
    },
  };
};
