// Secrets that policy lets the agent keep in memory, by tenant and name. Invariant: each serves within its age, uses and
// bytes, goes when its key or any policy changes, and is wiped when it goes; a tenant never pushes out another's.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';

export interface KeptBounds {
  readonly maxAgeSeconds: number;
  /** The one that brought it here included. */
  readonly maxUses: number;
  /** Absent: as many as it likes. */
  readonly maxBytes?: number;
  /** Of the tenant; absent: as many as there is room for. */
  readonly maxKept?: number;
}

/** What is asked for, and how many bytes this use of it is for. */
export interface KeptUse {
  readonly tenant: string;
  readonly keyId: string;
  readonly name: string;
  readonly bytes?: number;
}

interface Entry<T> {
  readonly secret: T;
  readonly keyId: string;
  readonly expiresAt: number;
  usesLeft: number;
  bytesLeft: number;
}

const MAX_OF_TENANT = 1024;
const MAX_ENTRIES = 16_384; // of all tenants; an entry takes some KiB at most
const SWEEP_MS = 1000;

export class KeptSecrets<T> {
  readonly #clock: Clock;
  readonly #wipe: (secret: T) => void;
  readonly #tenants = new Map<string, Map<string, Entry<T>>>();
  #size = 0;
  /** Counts the times that something went for a reason other than age: what was begun before is not kept after. */
  #generation = 0;
  #sweeper: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: { readonly clock: Clock; wipe(secret: T): void }) {
    this.#clock = options.clock;
    this.#wipe = options.wipe;
  }

  get size(): number {
    return this.#size;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** What `copy` makes of the secret, for one use of it; undefined where there is none that serves. */
  take<C>({ tenant, name, bytes = 0 }: KeptUse, copy: (secret: T) => C): C | undefined {
    const entry = this.#tenants.get(tenant)?.get(name);
    if (entry === undefined) return undefined;
    if (this.#clock.now() >= entry.expiresAt || entry.bytesLeft < bytes) {
      this.#drop(tenant, name);
      return undefined;
    }
    entry.usesLeft -= 1;
    entry.bytesLeft -= bytes;
    const copied = copy(entry.secret);
    if (entry.usesLeft === 0) this.#drop(tenant, name);
    return copied;
  }

  /** Begins a use that may end in a secret to keep: its age counts from now. The answer says whether it was kept. */
  keeper({ tenant, keyId, name, bytes = 0 }: KeptUse, bounds: KeptBounds): (make: () => T) => boolean {
    const generation = this.#generation;
    const expiresAt = this.#clock.now() + bounds.maxAgeSeconds * 1000;
    return (make) => {
      if (generation !== this.#generation || this.#closed || bounds.maxUses < 2) return false;
      this.#drop(tenant, name);
      const entries = this.#roomFor(tenant, Math.min(bounds.maxKept ?? MAX_OF_TENANT, MAX_OF_TENANT));
      if (entries === undefined) return false;
      const bytesLeft = (bounds.maxBytes ?? Number.POSITIVE_INFINITY) - bytes;
      entries.set(name, { secret: make(), keyId, expiresAt, usesLeft: bounds.maxUses - 1, bytesLeft });
      this.#size += 1;
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref();
      return true;
    };
  }

  /** Drops what was kept for a key, whatever changed of it: revocation, suspension, rotation, grants, limits. */
  keyChanged({ tenant, keyId }: Pick<KeyRecord, 'tenant' | 'keyId'>): void {
    this.#generation += 1;
    const entries = this.#tenants.get(tenant);
    for (const [name, entry] of entries ?? []) if (entry.keyId === keyId) this.#drop(tenant, name);
  }

  /** Drops everything of a tenant. */
  tenantChanged(tenant: string): void {
    this.#generation += 1;
    for (const name of this.#tenants.get(tenant)?.keys() ?? []) this.#drop(tenant, name);
  }

  /** Drops everything: another policy may allow less. */
  policyChanged(): void {
    for (const tenant of this.#tenants.keys()) this.tenantChanged(tenant);
    this.#generation += 1;
  }

  close(): void {
    this.#closed = true;
    this.policyChanged();
    clearInterval(this.#sweeper);
  }

  /** The tenant's entries with room for one more. */
  #roomFor(tenant: string, most: number): Map<string, Entry<T>> | undefined {
    const entries = this.#tenants.get(tenant) ?? new Map<string, Entry<T>>();
    this.#tenants.set(tenant, entries);
    if (entries.size < most && this.#size < MAX_ENTRIES) return entries;
    const oldest = entries.keys().next();
    if (oldest.done === true) return undefined;
    this.#drop(tenant, oldest.value);
    this.#tenants.set(tenant, entries);
    return entries;
  }

  #drop(tenant: string, name: string): void {
    const entries = this.#tenants.get(tenant);
    const entry = entries?.get(name);
    if (entries === undefined || entry === undefined) return;
    this.#wipe(entry.secret);
    entries.delete(name);
    if (entries.size === 0) this.#tenants.delete(tenant);
    this.#size -= 1;
  }

  #sweep(): void {
    const now = this.#clock.now();
    for (const [tenant, entries] of this.#tenants) {
      for (const [name, { expiresAt }] of entries) if (now >= expiresAt) this.#drop(tenant, name);
    }
    if (this.#size > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }
}
