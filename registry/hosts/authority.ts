// The registry's own keys: the CA, the key that MAC keys are sealed to, the key that countersigns checkpoints, and the
// pinned trust anchor. Invariant: a certificate that the CA issues names one host or administrator, or the registry.
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, type X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { Clock } from '../../agent/clock.ts';
import { cosignerText } from '../../proto/documents/cosignature.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { parseTrustAnchor, type TrustAnchor } from '../../proto/documents/trust-anchor.ts';
import { type AlternativeName, issueCertificate, serialOf } from './certificate.ts';

export const BACKDATE_MS = 60_000; // for hosts whose clock is a little behind
export const TRUST_DOMAIN_PATTERN = /^[a-z0-9]([a-z0-9.-]{0,253}[a-z0-9])?$/;

export interface Subject {
  readonly kind: 'host' | 'admin';
  readonly name: string;
}

/** `spiffe://<trust domain>/mortise/<kind>/<name>`. */
export const spiffeId = (trustDomain: string, { kind, name }: Subject): string =>
  `spiffe://${trustDomain}/mortise/${kind}/${name}`;

export interface Issued {
  readonly certificate: X509Certificate;
  /** Lower-case hex. */
  readonly serial: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface ServerCertificate {
  /** PEM: the certificate, then the root. */
  readonly chain: string;
  /** PEM. */
  readonly key: string;
  readonly notAfter: number;
}

export class Authority {
  readonly trustDomain: string;
  readonly root: X509Certificate;
  readonly trustAnchor: TrustAnchor;
  /** Exactly as pinned. */
  readonly trustAnchorBytes: Buffer;
  readonly sealingKey: KeyObject;
  readonly cosignerKey: KeyObject;
  readonly #rootKey: KeyObject;
  readonly #clock: Clock;

  constructor(parts: {
    readonly trustDomain: string;
    readonly root: X509Certificate;
    readonly rootKey: KeyObject;
    readonly trustAnchorBytes: Buffer;
    readonly sealingKey: KeyObject;
    readonly cosignerKey: KeyObject;
    readonly clock: Clock;
  }) {
    this.trustDomain = parts.trustDomain;
    this.root = parts.root;
    this.trustAnchorBytes = parts.trustAnchorBytes;
    this.trustAnchor = parseTrustAnchor(parts.trustAnchorBytes);
    this.sealingKey = parts.sealingKey;
    this.cosignerKey = parts.cosignerKey;
    this.#rootKey = parts.rootKey;
    this.#clock = parts.clock;
  }

  /** SHA-256 of the root's DER. */
  get rootHash(): Buffer {
    return createHash('sha256').update(this.root.raw).digest();
  }

  /** What MAC keys are sealed to. */
  get sealingJwk(): PublicJwk {
    return createPublicKey(this.sealingKey).export({ format: 'jwk' }) as PublicJwk;
  }

  /** Name of the registry in countersignatures. */
  get cosignerName(): string {
    return `${this.trustDomain}/mortise/registry`;
  }

  get cosigner(): string {
    return cosignerText(this.cosignerName, createPublicKey(this.cosignerKey));
  }

  /** A certificate for a host's or administrator's key. */
  issueClient(subject: Subject, spki: Uint8Array, seconds: number): Issued {
    const uri = spiffeId(this.trustDomain, subject);
    return this.#issue({ commonName: subject.name, spki, usage: 'client', names: [{ uri }] }, seconds * 1000);
  }

  /** A fresh key and certificate for the registry's own end of TLS. */
  issueServer(names: readonly string[], seconds: number): ServerCertificate {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const spki = publicKey.export({ format: 'der', type: 'spki' });
    const sans: AlternativeName[] = names.map((name) => (isIP(name) > 0 ? { ip: name } : { dns: name }));
    const profile = { commonName: 'mortise registry', spki, usage: 'server', names: sans } as const;
    const { certificate, notAfter } = this.#issue(profile, seconds * 1000);
    const key = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
    return { chain: `${certificate}${this.root}`, key, notAfter };
  }

  #issue(
    profile: {
      readonly commonName: string;
      readonly spki: Uint8Array;
      readonly usage: 'client' | 'server';
      readonly names: readonly AlternativeName[];
    },
    lifeMs: number,
  ): Issued {
    const now = this.#clock.now();
    const [notBefore, notAfter] = [now - BACKDATE_MS, Math.min(now + lifeMs, Date.parse(this.root.validTo))];
    const spki = this.root.publicKey.export({ format: 'der', type: 'spki' });
    const issuer = { commonName: rootName(this.trustDomain), spki, key: this.#rootKey };
    const certificate = issueCertificate({ ...profile, notBefore, notAfter }, issuer);
    return { certificate, serial: serialOf(certificate), notBefore, notAfter };
  }
}

export const rootName = (trustDomain: string): string => `mortise registry of ${trustDomain}`;
