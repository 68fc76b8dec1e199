// Who a TLS client is by its certificate. Invariant: a name comes from exactly one URI SAN, of our trust domain, in a
// certificate that TLS has verified; anything else is nobody.
import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

export interface Claims {
  readonly kind: 'host' | 'admin';
  readonly name: string;
  /** Lower-case hex. */
  readonly serial: string;
  /** Issued by a CA other than the registry's. */
  readonly brought: boolean;
  readonly expiresAt: number;
}

export interface Peer {
  readonly address: string;
  /** Undefined where there is no certificate, or none that says who it is. */
  readonly claims: Claims | undefined;
  /** Why a certificate that was shown says nothing; for the log. */
  readonly problem: string | undefined;
}

const SPIFFE = /^URI:spiffe:\/\/([a-z0-9.-]+)\/mortise\/(host|admin)\/([A-Za-z0-9][A-Za-z0-9._@-]{0,252})$/;

interface Ours {
  readonly trustDomain: string;
  readonly root: X509Certificate;
  /** Other CAs that TLS takes certificates of. */
  readonly clientRoots: readonly string[];
}

export const claimsOf = (
  certificate: X509Certificate,
  { trustDomain, root, clientRoots }: Ours,
): Claims | undefined => {
  // Node quotes a name that holds a comma or a quote, so it cannot be taken for two.
  const uris = (certificate.subjectAltName ?? '').split(', ').filter((name) => name.startsWith('URI:'));
  const [, domain, kind, name] = SPIFFE.exec(uris.length === 1 ? (uris[0] as string) : '') ?? [];
  if (domain !== trustDomain || name === undefined) return undefined;
  return {
    kind: kind as Claims['kind'],
    name,
    serial: certificate.serialNumber.toLowerCase(),
    // Where there is no other CA, TLS has verified by ours: a millisecond per connection.
    brought: clientRoots.length > 0 && !certificate.verify(root.publicKey),
    expiresAt: Date.parse(certificate.validTo),
  };
};

export const peerOf = (socket: TLSSocket, ours: Ours): Peer => {
  const address = socket.remoteAddress ?? '';
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return { address, claims: undefined, problem: undefined };
  if (!socket.authorized) return { address, claims: undefined, problem: String(socket.authorizationError) };
  const claims = claimsOf(certificate, ours);
  return { address, claims, problem: claims === undefined ? 'no SPIFFE id of this trust domain' : undefined };
};
