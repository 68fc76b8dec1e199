// The TLS end of the registry: 1.3 alone, X25519MLKEM768 first or only, every client asked for a certificate and none
// turned away without one, since enrolment comes before it. Invariant: whoever has no good certificate is told apart
// from the others before the first byte of HTTP/2.
import { constants, type X509Certificate } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { createServer, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls';

const HYBRID = 'X25519MLKEM768';
const GROUPS = `${HYBRID}:X25519:P-256:P-384`;

export interface TlsOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly requireHybrid: boolean;
  /** PEM. */
  readonly certificate: { readonly chain: string; readonly key: string };
  /** Whose certificates clients may show. */
  readonly roots: readonly (X509Certificate | string)[];
  readonly handshakeMs: number;
  accept(socket: TLSSocket): void;
  /** A handshake that failed. */
  failed(address: string, cause: Error): void;
}

export interface TlsListener {
  readonly address: { readonly host: string; readonly port: number };
  /** For connections from now on. */
  setCertificate(certificate: { readonly chain: string; readonly key: string }): void;
  /** Stops accepting. Connections live on. */
  close(): void;
}

const contextOf = (
  { requireHybrid, roots }: Pick<TlsOptions, 'requireHybrid' | 'roots'>,
  { chain, key }: TlsOptions['certificate'],
): SecureContextOptions => ({
  cert: chain,
  key,
  ca: roots.map(String),
  minVersion: 'TLSv1.3',
  ecdhCurve: requireHybrid ? HYBRID : GROUPS,
  // Every connection shows its certificate anew: no resumption of what was good once.
  secureOptions: constants.SSL_OP_NO_TICKET,
});

const listen = (server: Server, { host, port }: TlsOptions['listen']): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: 4096 }, () => {
      server.off('error', reject);
      resolve();
    });
  });

export const listenTls = async (options: TlsOptions): Promise<TlsListener> => {
  const server = createServer(
    {
      ...contextOf(options, options.certificate),
      ALPNProtocols: ['h2'],
      requestCert: true,
      rejectUnauthorized: false, // judged by `peerOf`: enrolment has no certificate yet
      handshakeTimeout: options.handshakeMs,
    },
    (socket) => options.accept(socket),
  );
  server.on('tlsClientError', (cause, socket) => options.failed(socket.remoteAddress ?? '', cause));
  await listen(server, options.listen);
  const { address, port } = server.address() as AddressInfo;
  return {
    address: { host: address, port },
    setCertificate: (certificate) => server.setSecureContext(contextOf(options, certificate)),
    close: () => void server.close(),
  };
};
