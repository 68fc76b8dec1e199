// The gRPC server behind TLS. Invariants: a connection's peer is known before its first call; every call goes through the
// admission; who is cut off loses his streams at once; a drain answers what is under way before anything is closed.
import type { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { Server, ServerCredentials, type ServiceDefinition } from '@grpc/grpc-js';
import { addHealth } from '../../agent/server/health.ts';
import { addReflection } from '../../agent/server/reflection.ts';
import { asRegistryError } from '../errors.ts';
import { Admission, type AdmissionEvents, type AdmissionParts } from './admission.ts';
import { type ConnectionEvents, Connections } from './connections.ts';
import { DEFAULT_LIMITS, type ServerLimits } from './limits.ts';
import { peerOf } from './peer.ts';
import { bindService, type Service } from './rpc.ts';
import { listenTls, type TlsOptions } from './tls.ts';

const DESCRIPTORS = join(import.meta.dirname, '../../proto/gen/registry-descriptors.binpb');
const HEALTH_SERVICES = {
  store: 'mortise.registry.store',
  policies: 'mortise.registry.policies',
  catalog: 'mortise.registry.catalog',
  ledger: 'mortise.registry.ledger',
} as const;
/** What can be broken by itself. */
export type Part = keyof typeof HEALTH_SERVICES;

export interface ServerEvents extends ConnectionEvents, AdmissionEvents {
  listening(event: { address: string }): void;
  drained(event: { callsCutOff: boolean }): void;
}

export interface ServerParts extends Pick<AdmissionParts, 'callerOf' | 'recordRefusal'> {
  readonly listen: { readonly host: string; readonly port: number };
  readonly requireHybrid: boolean;
  readonly certificate: TlsOptions['certificate'];
  readonly trustDomain: string;
  readonly root: X509Certificate;
  /** PEM of other CAs whose certificates hosts may bring. */
  readonly clientRoots: readonly string[];
  readonly services: readonly Service[];
  readonly events: ServerEvents;
  readonly limits?: Partial<ServerLimits>;
  readonly reflection: boolean;
}

export interface RegistryServer {
  readonly address: { readonly host: string; readonly port: number };
  setHealth(part: Part, healthy: boolean): void;
  setCertificate(certificate: TlsOptions['certificate']): void;
  /** Judges the connections of a host or administrator anew, and cuts those that are no longer good. */
  rejudge(kind: 'host' | 'admin', name: string): Promise<void>;
  /** Refuses new calls with SHUTTING_DOWN, ends streams, waits for what is under way, then closes. Safe to repeat. */
  close(graceMs: number): Promise<void>;
}

const LAST_BYTES_MS = 1_000;

const grpcOptions = (limits: ServerLimits) => ({
  'grpc.enable_channelz': 0,
  'grpc.max_concurrent_streams': limits.maxStreams,
  'grpc.max_receive_message_length': limits.maxMessageBytes,
  'grpc.max_send_message_length': limits.maxMessageBytes,
  'grpc.keepalive_time_ms': limits.keepaliveMs,
  'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
});

const endsWithin = async (work: Promise<void>, ms: number): Promise<boolean> => {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(late.resolve, ms, false);
  try {
    return await Promise.race([work.then(() => true), late.promise]);
  } finally {
    clearTimeout(timer);
  }
};

/** Resolves when the registry can be reached. */
export const createServer = async (parts: ServerParts): Promise<RegistryServer> => {
  const limits = { ...DEFAULT_LIMITS, ...parts.limits };
  const { events, callerOf, recordRefusal } = parts;
  const connections = new Connections({ limits, events });
  const admission = new Admission({ connections, limits, events, callerOf, recordRefusal });
  const server = new Server(grpcOptions(limits));
  for (const service of parts.services) {
    const bound = bindService(service, (rpc) => admission.handle(rpc));
    server.addService(bound.definition as unknown as ServiceDefinition, bound.implementation);
  }
  const health = addHealth(server, HEALTH_SERVICES);
  if (parts.reflection) addReflection(server, DESCRIPTORS);
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const accept = (socket: TLSSocket): void => {
    if (!connections.accept(socket, peerOf(socket, parts))) return;
    injector.injectConnection(socket);
  };
  const listener = await listenTls({
    listen: parts.listen,
    requireHybrid: parts.requireHybrid,
    certificate: parts.certificate,
    roots: [parts.root, ...parts.clientRoots],
    handshakeMs: limits.handshakeMs,
    accept,
    failed: (address, cause) => events.connectionCut({ reason: 'HANDSHAKE', client: address, cause }),
  });
  const { host, port } = listener.address;
  events.listening({ address: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}` });

  const rejudge = async (isMeant: (kind: string, name: string) => boolean): Promise<void> => {
    const judged = connections.all().map(async (connection) => {
      const { claims } = connection.peer;
      if (claims === undefined || !isMeant(claims.kind, claims.name)) return;
      try {
        await callerOf(claims);
      } catch (thrown) {
        const error = asRegistryError(thrown);
        // A store that is away cuts nobody off: what was good stays so until it says otherwise.
        if (error.code === 'UNAUTHENTICATED' || error.code === 'HOST_REVOKED') await connection.cut(error);
      }
    });
    await Promise.all(judged);
  };
  const sweep = setInterval(() => void rejudge(() => true), limits.sweepMs);
  sweep.unref();

  const shutDown = async (graceMs: number): Promise<void> => {
    clearInterval(sweep);
    health.drain();
    const drained = admission.drain(); // from this turn on new calls are refused
    listener.close();
    const inTime = await endsWithin(drained, graceMs);
    if (!inTime) {
      admission.abortAll();
      await endsWithin(drained, LAST_BYTES_MS);
    }
    // GOAWAY tells clients to connect anew, and each session ends once its last answer was written.
    injector.destroy();
    await endsWithin(connections.closed(), LAST_BYTES_MS);
    connections.destroyAll();
    events.drained({ callsCutOff: !inTime });
  };
  let closing: Promise<void> | undefined;
  return {
    address: listener.address,
    setHealth: (part, healthy) => health.set(part, healthy),
    setCertificate: (certificate) => listener.setCertificate(certificate),
    rejudge: (kind, name) => rejudge((otherKind, otherName) => otherKind === kind && otherName === name),
    close: (graceMs) => {
      closing ??= shutDown(graceMs);
      return closing;
    },
  };
};
