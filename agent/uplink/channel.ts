// Connections to the registry: TLS 1.3 with the host's certificate, to a server that chains to the pinned roots and
// nothing else. Invariant: where the hybrid group is required no other key agreement is offered.
import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import {
  connect,
  createSecureContext,
  type DetailedPeerCertificate,
  type SecureContext,
  type TLSSocket,
} from 'node:tls';
import { ChannelCredentials, Client } from '@grpc/grpc-js';
import { pemOf } from './identity.ts';
import { Refusal } from './refusal.ts';

export interface Address {
  readonly host: string;
  readonly port: number;
}

const HYBRID = 'X25519MLKEM768';
const ANY_GROUP = `${HYBRID}:X25519:P-256:P-384`;
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024 + 64 * 1024;
const CHANNEL_OPTIONS = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc.enable_retries': 0, // who asks knows what may be asked again
  'grpc.use_local_subchannel_pool': 1, // a certificate that was renewed must not meet the old one's connection
  // A registry that hangs, or a path that drops packets, shows within half a minute.
  'grpc.keepalive_time_ms': 15_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 1000,
} as const;

const HANDSHAKE_MS = 10_000;

export const secureContext = (options: {
  readonly key?: string;
  readonly chain?: string;
  readonly roots: readonly string[];
  readonly requireHybrid: boolean;
}): SecureContext =>
  createSecureContext({
    ...(options.key !== undefined && { key: options.key }),
    ...(options.chain !== undefined && { cert: options.chain }),
    ca: [...options.roots],
    minVersion: 'TLSv1.3',
    ecdhCurve: options.requireHybrid ? HYBRID : ANY_GROUP,
  });

export const addressText = ({ host, port }: Address): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

export const dial = (address: Address, context: SecureContext): Client =>
  new Client(addressText(address), ChannelCredentials.createFromSecureContext(context), CHANNEL_OPTIONS);

/** The certificate at the top of what the server shows, or undefined where the chain does not end in itself. */
const topOf = (certificate: DetailedPeerCertificate): Buffer | undefined => {
  let top = certificate;
  for (let depth = 0; depth < 8; depth += 1) {
    const issuer = top.issuerCertificate;
    if (issuer === undefined || issuer === null) return undefined;
    if (issuer.fingerprint256 === top.fingerprint256) return top.raw;
    top = issuer;
  }
  return undefined;
};

const handshake = async <T>(
  address: Address,
  options: { readonly context: SecureContext; readonly verified: boolean },
  read: (socket: TLSSocket) => T,
): Promise<T> => {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const fail = (message: string, cause?: unknown): void =>
    reject(new Refusal('REGISTRY_UNAVAILABLE', `${addressText(address)}: ${message}`, { cause }));
  const socket = connect({
    host: address.host,
    port: address.port,
    ...(isIP(address.host) === 0 && { servername: address.host }),
    secureContext: options.context,
    ALPNProtocols: ['h2'],
    rejectUnauthorized: options.verified,
    timeout: HANDSHAKE_MS,
  });
  socket.once('secureConnect', () => {
    try {
      resolve(read(socket));
    } catch (cause) {
      reject(cause);
    }
    socket.destroy();
  });
  socket.once('timeout', () => {
    fail('no answer');
    socket.destroy();
  });
  socket.once('error', (error) => fail(`no connection (${error.message})`, error));
  socket.once('close', () => fail('the connection was closed'));
  return promise;
};

/** Connects and says how, without a request. Rejects where either side does not take the other. */
export const shakeHands = (address: Address, context: SecureContext): Promise<string> =>
  handshake(address, { context, verified: true }, (socket) => `${socket.getProtocol()}, ${socket.getCipher().name}`);

/**
 * The registry's root as PEM, asked of the registry itself and believed only by its SHA-256. Nothing is sent to a server
 * that was not verified by that root: the connection of the enrolment is another one.
 */
export const fetchRoot = (address: Address, options: { sha256: Buffer; requireHybrid: boolean }): Promise<string> => {
  const { sha256, requireHybrid } = options;
  // Judged below, by the hash in the token.
  const unverified = { context: secureContext({ roots: [], requireHybrid }), verified: false };
  return handshake(address, unverified, (socket) => {
    const root = topOf(socket.getPeerCertificate(true));
    if (root !== undefined && createHash('sha256').update(root).digest().equals(sha256)) return pemOf(root);
    const problem = 'its root certificate is not the one that the enrolment token names; is it the right registry?';
    throw new Refusal('REGISTRY_UNAVAILABLE', `${addressText(address)}: ${problem}`);
  });
};
