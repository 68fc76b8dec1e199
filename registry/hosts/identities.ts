// From a verified certificate to a caller. Invariant: nobody is a caller but by the row of his name as it is now: active,
// with this certificate's serial number in it (or another CA's, where the host brings its own).
import type { Clock } from '../../agent/clock.ts';
import { RegistryError } from '../errors.ts';
import type { AdminRow, Certificates, HostRow, HostsStore } from './store.ts';

/** What a client's certificate says, once TLS has verified it. */
export interface Claims {
  readonly kind: 'host' | 'admin';
  readonly name: string;
  readonly serial: string;
  /** Issued by a CA other than the registry's. */
  readonly brought: boolean;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

export interface HostCaller {
  readonly kind: 'host';
  readonly name: string;
  readonly serial: string;
  readonly tenants: readonly string[];
}

export interface AdministratorCaller {
  readonly kind: 'admin';
  readonly name: string;
  readonly serial: string;
  readonly scopes: readonly string[];
  readonly tenants: readonly string[];
}

export type Caller = HostCaller | AdministratorCaller;

/** A change that was not told, because a store's notifications were interrupted, is seen after this time. */
const TRUSTED_MS = 5_000;
const MAX_CACHED = 20_000;

type Row =
  | { readonly kind: 'host'; readonly row: HostRow | undefined }
  | { readonly kind: 'admin'; readonly row: AdminRow | undefined };

export class Identities implements Disposable {
  readonly #store: HostsStore;
  readonly #clock: Clock;
  readonly #rows = new Map<string, { readonly readAt: number; readonly row: Promise<Row> }>();
  readonly #listeners = new Set<(kind: 'host' | 'admin', name: string) => void>();
  readonly #stop: () => void;

  constructor({ store, clock }: { readonly store: HostsStore; readonly clock: Clock }) {
    this.#store = store;
    this.#clock = clock;
    this.#stop = store.watchHosts(({ kind, name }) => {
      this.#rows.delete(`${kind}/${name}`);
      for (const listener of this.#listeners) listener(kind, name);
    });
  }

  /** Calls the listener when a host or administrator was changed; his connections are to be judged anew. */
  onChange(listener: (kind: 'host' | 'admin', name: string) => void): void {
    this.#listeners.add(listener);
  }

  /** UNAUTHENTICATED, or HOST_REVOKED where the name is known and was cut off. */
  async caller(claims: Claims): Promise<Caller> {
    const found = await this.#row(claims.kind, claims.name);
    const now = this.#clock.now();
    return found.kind === 'host' ? hostCaller(claims, found.row, now) : adminCaller(claims, found.row, now);
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  #row(kind: 'host' | 'admin', name: string): Promise<Row> {
    const key = `${kind}/${name}`;
    const now = this.#clock.now();
    const known = this.#rows.get(key);
    if (known !== undefined && now - known.readAt < TRUSTED_MS && now >= known.readAt) return known.row;
    if (this.#rows.size >= MAX_CACHED) this.#rows.clear();
    const row = this.#read(kind, name);
    this.#rows.set(key, { readAt: now, row });
    row.catch(() => {
      if (this.#rows.get(key)?.row === row) this.#rows.delete(key);
    });
    return row;
  }

  async #read(kind: 'host' | 'admin', name: string): Promise<Row> {
    if (kind === 'host') return { kind, row: await this.#store.host(name) };
    return { kind, row: await this.#store.admin(name) };
  }
}

/** In the row, and the newest not ended: a connection outlives the certificate it began with where that was renewed. */
const isGood = ({ serial }: Claims, certificates: Certificates | undefined, now: number): boolean =>
  certificates?.serials.includes(serial) === true && certificates.expiresAt > now;

const hostCaller = (claims: Claims, row: HostRow | undefined, now: number): HostCaller => {
  const { name, serial, brought, expiresAt } = claims;
  if (row?.state === 'REVOKED') {
    throw new RegistryError('HOST_REVOKED', { metadata: { reason: row.revokeReason ?? '' } });
  }
  const comes = brought ? row?.bringsCertificate === true && expiresAt > now : isGood(claims, row?.certificates, now);
  if (row?.state !== 'ACTIVE' || !comes) throw new RegistryError('UNAUTHENTICATED');
  return { kind: 'host', name, serial, tenants: row.tenants };
};

const adminCaller = (claims: Claims, row: AdminRow | undefined, now: number): AdministratorCaller => {
  const { name, serial, brought } = claims;
  if (row?.revoked === true) throw new RegistryError('HOST_REVOKED');
  // Administrators come with the registry's own certificates alone.
  if (row === undefined || brought || !isGood(claims, row.certificates, now))
    throw new RegistryError('UNAUTHENTICATED');
  const { scopes, tenants } = row;
  return { kind: 'admin', name, serial, scopes, tenants };
};
