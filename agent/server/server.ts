// The gRPC server on the Unix socket. Invariants: a connection's peer is known before its first byte is parsed; every
// call goes through the admission; a drain answers what is under way before anything is closed.
import type { Socket } from 'node:net';
import { type Metadata, Server, ServerCredentials, type ServiceDefinition } from '@grpc/grpc-js';
import { AuditServiceService } from '../../proto/gen/mortise/agent/v1/audit.ts';
import { StatusServiceService } from '../../proto/gen/mortise/agent/v1/status.ts';
import type { Clock } from '../clock.ts';
import type { Ports } from '../operations/perform.ts';
import type { AuditReadPort, Part, StatusPort } from '../operations/ports.ts';
import { Admission } from './admission.ts';
import { type Authenticate, Authentication, type Refuse } from './authentication.ts';
import { batchService } from './batch.ts';
import { bindService } from './bind.ts';
import type { CallContext, CallEvents } from './call-context.ts';
import { type ConnectionEvents, Connections } from './connections.ts';
import { addDataStreams, type DataStreamRpc } from './data-stream.ts';
import { addHealth } from './health.ts';
import { loadLibc } from './libc.ts';
import { DEFAULT_LIMITS, type ServerLimits } from './limits.ts';
import { peerOf } from './peer-credentials.ts';
import { addPipeline } from './pipeline.ts';
import { addReflection } from './reflection.ts';
import { type Service, service, unaryRpcs } from './rpc.ts';
import { auditHandlers } from './services/audit.ts';
import { statusHandlers } from './services/status.ts';
import { type Listening, listenOnFd, listenOnPath, type SocketOptions } from './socket.ts';

export interface ServerEvents extends ConnectionEvents, CallEvents {
  listening(event: { socket: string }): void;
  drained(event: { callsCutOff: boolean }): void;
}

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
const LAST_BYTES_MS = 1_000; // for clients to take up answers that are written
const ABORT_GRACE_MS = 1_000; // for handlers to react to the signal, so that what they did is recorded

const grpcOptions = (limits: ServerLimits) => ({
  'grpc.enable_channelz': 0, // bookkeeping per call that nothing here reads
  'grpc.max_concurrent_streams': limits.maxStreams,
  'grpc.max_receive_message_length': limits.maxRequestBytes,
  'grpc.max_connection_idle_ms': limits.idleMs,
  'grpc.keepalive_time_ms': limits.keepaliveMs,
  'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
});

/** Whether the work ended within the time. */
const endsWithin = async (work: Promise<void>, ms: number): Promise<boolean> => {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(late.resolve, ms, false);
  try {
    return await Promise.race([work.then(() => true), late.promise]);
  } finally {
    clearTimeout(timer);
  }
};

/** Resolves when the agent can be reached. */
export const createServer = async (parts: ServerParts): Promise<AgentServer> => {
  const limits = { ...DEFAULT_LIMITS, ...parts.limits };
  const libc = loadLibc();
  const connections = new Connections({ limits, events: parts.events, peerOf: (socket) => peerOf(libc, socket) });
  const { ports, clock, events } = parts;
  const authentication = new Authentication(parts);
  const admission = new Admission({ connections, limits, clock, events, authentication });
  const server = new Server({ ...grpcOptions(limits), interceptors: [admission.interceptor] });
  const services = [
    service(StatusServiceService, statusHandlers({ ...ports, status: parts.status })),
    service(AuditServiceService, auditHandlers({ ...ports, auditLog: parts.auditLog })),
    ...parts.services,
  ];
  const several = { rpcs: unaryRpcs(services), ports, events, clock, limits };
  const take = (metadata: Metadata): CallContext => admission.take(metadata);
  for (const row of [...services, batchService(several)]) {
    const bound = bindService({ ports, take }, row);
    server.addService(bound.definition as unknown as ServiceDefinition, bound.implementation);
  }
  addPipeline(server, { ...several, authentication }, take);
  addDataStreams(server, parts.streams ?? [], take);
  const health = addHealth(server);
  if (parts.reflection) addReflection(server);

  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const accept = (socket: Socket): void => {
    if (!connections.accept(socket)) return;
    injector.injectConnection(socket);
    socket.resume();
  };
  const listening: Listening =
    'fd' in parts.socket ? await listenOnFd(parts.socket.fd, accept) : await listenOnPath(libc, parts.socket, accept);
  parts.events.listening({ socket: 'fd' in parts.socket ? `fd ${parts.socket.fd}` : parts.socket.path });

  const shutDown = async (graceMs: number): Promise<void> => {
    health.drain();
    const drained = admission.drain(); // from this turn on new calls are refused
    await listening.close();
    const inTime = await endsWithin(drained, graceMs);
    if (!inTime) {
      admission.abortAll();
      await endsWithin(drained, ABORT_GRACE_MS);
    }
    admission.endAll();
    // GOAWAY tells clients to connect anew, and each session ends once its last answer was written; what is still open
    // after that belongs to clients that do not read.
    injector.destroy();
    await endsWithin(connections.closed(), LAST_BYTES_MS);
    connections.destroyAll();
    parts.events.drained({ callsCutOff: !inTime });
  };
  let closing: Promise<void> | undefined;
  return {
    setHealth: (part, healthy) => health.set(part, healthy),
    close: (graceMs = DEFAULT_GRACE_MS) => {
      closing ??= shutDown(graceMs);
      return closing;
    },
  };
};
