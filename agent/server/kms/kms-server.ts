// The second socket, on which the Kubernetes API server finds its KMS v2 plugin. Invariant: nothing but the three calls of
// that service is reachable there, and nobody but the configured peers.
import type { ServiceDefinition } from '@grpc/grpc-js';
import { KeyManagementServiceService } from '../../../proto/gen/kubernetes/kms/v2/api.ts';
import type { Clock } from '../../clock.ts';
import type { Peer } from '../../operations/ports/call.ts';
import { Authentication, type Refuse } from '../authentication.ts';
import { bindService } from '../bind.ts';
import { createDoor, type DoorEvents } from '../door.ts';
import { DEFAULT_LIMITS, type ServerLimits } from '../limits.ts';
import { service } from '../rpc.ts';
import type { SocketOptions } from '../socket.ts';
import { type KmsHandlerParts, kmsHandlers } from './handlers.ts';
import { authenticateKms, type KmsPeers } from './peers.ts';

export interface KmsServerParts extends KmsHandlerParts {
  readonly socket: SocketOptions;
  readonly tenant: string;
  readonly peers: KmsPeers;
  readonly refuse: Refuse;
  readonly events: DoorEvents & { refused(event: { code: string; reason: string; peer: Peer }): void };
  readonly clock: Clock;
  readonly limits: Pick<ServerLimits, 'defaultDeadlineMs' | 'maxDeadlineMs'>;
}

export interface KmsServer {
  /** Stops accepting, finishes what is under way, then closes. Safe to repeat. */
  close(graceMs: number): Promise<void>;
}

const LIMITS = {
  maxConnections: 64, // an API server has one, and one more while it is restarted
  maxConnectionsPerUid: 64,
  maxRequestBytes: 128 * 1024, // annotations of 32 kB, a key_id and a ciphertext of 1 kB each, and room to be told why not
};

/** Resolves when the API server can connect. */
export const createKmsServer = async (parts: KmsServerParts): Promise<KmsServer> => {
  const { tenant, peers, events, clock, ports, refuse } = parts;
  const authenticate = authenticateKms({ tenant, peers, refused: (event) => events.refused(event) });
  const authentication = new Authentication({ authenticate, refuse });
  const door = createDoor({ authentication, events, clock, limits: { ...DEFAULT_LIMITS, ...LIMITS, ...parts.limits } });
  const handlers = service(KeyManagementServiceService, kmsHandlers(parts));
  const bound = bindService({ ports, take: (metadata) => door.take(metadata) }, handlers);
  door.server.addService(bound.definition as unknown as ServiceDefinition, bound.implementation);
  await door.open(parts.socket);
  return { close: (graceMs) => door.close(graceMs) };
};
