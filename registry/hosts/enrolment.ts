// From a one-time token and a signing request to a certificate, and from a certificate to the next one. Invariants: a
// token makes certificates for one public key; every certificate that is good stands in the row of its holder.
import type { Clock } from '../../agent/clock.ts';
import { invalid, RegistryError } from '../errors.ts';
import type { Authority, Issued } from './authority.ts';
import { type RequestedKey, readCertificateRequest } from './certificate-request.ts';
import { DerError } from './der.ts';
import { type HostEvents, withRetries } from './hosts.ts';
import type { AdminRow, Certificates, HostRow, HostsStore, TokenRow } from './store.ts';
import { parseToken, secretFits } from './tokens.ts';

const GOOD_SERIALS = 2;
const RENEW_AT = 2 / 3;

export interface Credentials {
  /** DER, the holder's first, the root last. */
  readonly chain: readonly Buffer[];
  readonly renewAt: number;
  readonly expiresAt: number;
}

export interface Enrolled {
  readonly kind: 'host' | 'admin';
  readonly name: string;
  readonly tenants: readonly string[];
  readonly credentials: Credentials;
}

const readRequest = (bytes: Uint8Array): RequestedKey => {
  try {
    return readCertificateRequest(bytes);
  } catch (error) {
    if (error instanceof DerError) throw invalid('certificate_request', error.message);
    throw error;
  }
};

const certificatesAfter = (issued: Issued, before: Certificates | undefined): Certificates => ({
  serials: [issued.serial, ...(before?.serials ?? [])].slice(0, GOOD_SERIALS),
  expiresAt: issued.notAfter,
});

export class Enrolment {
  readonly #store: HostsStore;
  readonly #authority: Authority;
  readonly #seconds: { readonly host: number; readonly admin: number };
  readonly #clock: Clock;
  readonly #events: HostEvents;

  constructor(parts: {
    readonly store: HostsStore;
    readonly authority: Authority;
    /** Life of certificates. */
    readonly seconds: { readonly host: number; readonly admin: number };
    readonly clock: Clock;
    readonly events: HostEvents;
  }) {
    this.#store = parts.store;
    this.#authority = parts.authority;
    this.#seconds = parts.seconds;
    this.#clock = parts.clock;
    this.#events = parts.events;
  }

  async enrol(input: { readonly token: string; readonly certificateRequest: Uint8Array }): Promise<Enrolled> {
    const requested = readRequest(input.certificateRequest);
    const given = parseToken(input.token);
    if (given === undefined) throw new RegistryError('ENROLMENT_REFUSED');
    return withRetries(async () => {
      const token = await this.#store.token(given.id);
      if (token === undefined || !secretFits(token, given.secret)) throw refused('unknown token');
      if (token.expiresAt <= this.#clock.now()) throw refused('expired token', token);
      if (token.usedWith !== undefined && token.usedWith !== requested.fingerprint) throw refused('used token', token);
      return token.kind === 'host' ? this.#enrolHost(token, requested) : this.#enrolAdmin(token, requested);
    });
  }

  /** The next certificate of a host or administrator that has shown its present one. */
  async renew(
    holder: { readonly kind: 'host' | 'admin'; readonly name: string; readonly serial: string },
    certificateRequest: Uint8Array,
  ): Promise<Credentials> {
    const { spki } = readRequest(certificateRequest);
    const { kind, name } = holder;
    return withRetries(async () => {
      const before = kind === 'host' ? await this.#store.host(name) : await this.#store.admin(name);
      if (before?.certificates?.serials.includes(holder.serial) !== true) {
        throw new RegistryError('PERMISSION_DENIED', { message: 'only certificates of the registry are renewed' });
      }
      const issued = this.#authority.issueClient(holder, spki, this.#seconds[kind]);
      // The one that asks stays good, whichever of the two it is: its connections live on.
      const kept = { serials: [holder.serial], expiresAt: before.certificates.expiresAt };
      const next = { ...before, certificates: certificatesAfter(issued, kept), revision: before.revision + 1 };
      if (!(await this.#store.change({ [kind]: next }))) return undefined;
      this.#issued(holder, issued, 'renewal');
      return this.#credentials(issued);
    });
  }

  async #enrolHost(token: TokenRow, { spki, fingerprint }: RequestedKey): Promise<Enrolled | undefined> {
    const before = await this.#store.host(token.name);
    if (before?.tokenId !== token.id || before.state === 'REVOKED') throw refused('void token', token);
    const issued = this.#authority.issueClient(token, spki, this.#seconds.host);
    // The first use replaces what the host had; a repeated one stands beside the answer that may have been lost.
    const earlier = token.usedWith === undefined ? undefined : before.certificates;
    const { tenants, name } = token;
    const host: HostRow = {
      host: name,
      state: 'ACTIVE',
      tenants,
      bringsCertificate: false,
      certificates: certificatesAfter(issued, earlier),
      enrolledAt: this.#clock.now(),
      tokenId: token.id,
      revision: before.revision + 1,
    };
    if (!(await this.#store.change({ host, token: usedToken(token, fingerprint) }))) return undefined;
    this.#issued(token, issued, 'enrolment');
    return { kind: 'host', name, tenants, credentials: this.#credentials(issued) };
  }

  async #enrolAdmin(token: TokenRow, { spki, fingerprint }: RequestedKey): Promise<Enrolled | undefined> {
    const before = await this.#store.admin(token.name);
    if (before?.tokenId !== token.id || before.revoked) throw refused('void token', token);
    const issued = this.#authority.issueClient(token, spki, this.#seconds.admin);
    const earlier = token.usedWith === undefined ? undefined : before.certificates;
    const certificates = certificatesAfter(issued, earlier);
    const admin: AdminRow = { ...before, certificates, revision: before.revision + 1 };
    if (!(await this.#store.change({ admin, token: usedToken(token, fingerprint) }))) return undefined;
    this.#issued(token, issued, 'enrolment');
    return { kind: 'admin', name: token.name, tenants: [], credentials: this.#credentials(issued) };
  }

  #credentials({ certificate, notBefore, notAfter }: Issued): Credentials {
    return {
      chain: [certificate.raw, this.#authority.root.raw],
      renewAt: notBefore + (notAfter - notBefore) * RENEW_AT,
      expiresAt: notAfter,
    };
  }

  #issued(
    { kind, name }: { kind: 'host' | 'admin'; name: string },
    issued: Issued,
    why: 'enrolment' | 'renewal',
  ): void {
    this.#events.certificateIssued({ kind, name, serial: issued.serial, expiresAt: issued.notAfter, why });
  }
}

const usedToken = (token: TokenRow, usedWith: string): TokenRow => ({
  ...token,
  usedWith,
  revision: token.revision + 1,
});

/** One answer for all; the reason goes to the log as cause. */
const refused = (why: string, token?: TokenRow): RegistryError =>
  new RegistryError('ENROLMENT_REFUSED', { cause: new Error(token === undefined ? why : `${why} ${token.id}`) });
