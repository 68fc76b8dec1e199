// One Unix socket with a gRPC server behind it: peers, admission, drain. Invariants: a connection's peer is known before
// its first byte is parsed; every call goes through the admission; a drain answers what is under way before anything
// is closed.
import type { Socket } from 'node:net';
import { type Metadata, Server, ServerCredentials } from '@grpc/grpc-js';
import type { Clock } from '../clock.ts';
import { Admission } from './admission.ts';
import type { Authentication } from './authentication.ts';
import type { CallContext, CallEvents } from './call-context.ts';
import { type ConnectionEvents, Connections } from './connections.ts';
import { loadLibc } from './libc.ts';
import type { ServerLimits } from './limits.ts';
import { peerOf } from './peer-credentials.ts';
import { type Listening, listenOnFd, listenOnPath, type SocketOptions } from './socket.ts';

export interface DoorEvents extends ConnectionEvents, CallEvents {
  listening(event: { socket: string }): void;
  drained(event: { callsCutOff: boolean }): void;
}

export interface DoorParts {
  readonly authentication: Authentication;
  readonly events: DoorEvents;
  readonly clock: Clock;
  readonly limits: ServerLimits;
}

export interface Door {
  /** Takes services until it is opened. */
  readonly server: Server;
  /** The context of an admitted call. */
  take(metadata: Metadata): CallContext;
  /** Resolves when the socket accepts. */
  open(socket: SocketOptions | { readonly fd: number }): Promise<void>;
  /** Stops accepting, refuses new calls with SHUTTING_DOWN, waits for those under way, then closes. Safe to repeat. */
  close(graceMs: number): Promise<void>;
}

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

export const createDoor = ({ authentication, events, clock, limits }: DoorParts): Door => {
  const libc = loadLibc();
  const connections = new Connections({ limits, events, peerOf: (socket) => peerOf(libc, socket) });
  const admission = new Admission({ connections, limits, clock, events, authentication });
  const server = new Server({ ...grpcOptions(limits), interceptors: [admission.interceptor] });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const accept = (socket: Socket): void => {
    if (!connections.accept(socket)) return;
    injector.injectConnection(socket);
    socket.resume();
  };
  let listening: Listening | undefined;

  const shutDown = async (graceMs: number): Promise<void> => {
    const drained = admission.drain(); // from this turn on new calls are refused
    await listening?.close();
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
    events.drained({ callsCutOff: !inTime });
  };
  let closing: Promise<void> | undefined;
  return {
    server,
    take: (metadata) => admission.take(metadata),
    open: async (socket) => {
      listening = 'fd' in socket ? await listenOnFd(socket.fd, accept) : await listenOnPath(libc, socket, accept);
      events.listening({ socket: 'fd' in socket ? `fd ${socket.fd}` : socket.path });
    },
    close: (graceMs) => {
      closing ??= shutDown(graceMs);
      return closing;
    },
  };
};
