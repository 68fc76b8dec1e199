// Content keys that policy lets the agent keep in memory, to spare visits to the token: wrapped ones for Encrypt,
// unwrapped ones for Decrypt. Invariant: each serves within the age, uses and bytes of the policy in force, goes when
// its key or any policy changes, and is zeroed when it goes. The caller is authorised before it asks here, every time.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';

/** As in the policy payload, `caches.dataKeys`. */
export interface DataKeyRules {
  readonly maxAgeSeconds: number;
  readonly maxUses: number;
  readonly maxBytes: number;
}

export interface DataKeyEvents {
  /** Looked for one; counted only where policy allows the cache. */
  dataKeyLookedUp(event: { use: 'encrypt' | 'decrypt'; found: boolean }): void;
}

interface Use {
  readonly tenant: string;
  readonly keyId: string;
  readonly version: number;
  readonly bytes: number;
}

interface Wrapped {
  readonly cek: Buffer;
  readonly encryptedKey: Buffer;
  readonly members: Readonly<Record<string, unknown>>;
}

type Slot<T> = { readonly found: T } | { keep(value: T): void };

interface Entry {
  readonly cek: Buffer;
  readonly encryptedKey: Buffer;
  readonly members: Readonly<Record<string, unknown>>;
  readonly keyId: string;
  readonly expiresAt: number;
  usesLeft: number;
  bytesLeft: number;
}

const MAX_OF_TENANT = 1024;
const MAX_ENTRIES = 16_384; // of all tenants; an entry takes about half a KiB
const SWEEP_MS = 1000;
const NONE = Buffer.alloc(0);

export class DataKeys {
  readonly #clock: Clock;
  readonly #rules: (tenant: string) => DataKeyRules | undefined;
  readonly #events: DataKeyEvents;
  readonly #tenants = new Map<string, Map<string, Entry>>();
  #size = 0;
  /** Counts the times that something went for a reason other than age: what was begun before is not kept after. */
  #generation = 0;
  #sweeper: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: {
    readonly clock: Clock;
    /** Undefined where the tenant's policy allows no cache. */
    readonly rules: (tenant: string) => DataKeyRules | undefined;
    readonly events: DataKeyEvents;
  }) {
    this.#clock = options.clock;
    this.#rules = options.rules;
    this.#events = options.events;
  }

  get size(): number {
    return this.#size;
  }

  toEncrypt(use: Use): Slot<Wrapped> | undefined {
    const rules = this.#rulesOf(use);
    if (rules === undefined) return undefined;
    const name = `encrypt ${use.keyId}/${use.version}`;
    const entry = this.#take(use, name, 'encrypt');
    if (entry === undefined) return { keep: this.#keeper(use, name, rules) };
    const { cek, encryptedKey, members } = entry;
    return { found: { cek, encryptedKey, members } };
  }

  toDecrypt(use: Use & { wrap(): string }): Slot<Buffer> | undefined {
    const rules = this.#rulesOf(use);
    if (rules === undefined) return undefined;
    const name = `decrypt ${use.keyId}/${use.version} ${use.wrap()}`;
    const entry = this.#take(use, name, 'decrypt');
    if (entry !== undefined) return { found: entry.cek };
    const keep = this.#keeper(use, name, rules);
    return { keep: (cek) => keep({ cek, encryptedKey: NONE, members: {} }) };
  }

  /** Drops what was kept for a key, whatever changed of it: revocation, suspension, rotation, grants, limits. */
  keyChanged({ tenant, keyId }: Pick<KeyRecord, 'tenant' | 'keyId'>): void {
    this.#generation += 1;
    const entries = this.#tenants.get(tenant);
    for (const [name, entry] of entries ?? []) if (entry.keyId === keyId) this.#drop(tenant, name);
  }

  /** Drops everything: another policy may allow less. */
  policyChanged(): void {
    this.#generation += 1;
    for (const [tenant, entries] of this.#tenants) for (const name of entries.keys()) this.#drop(tenant, name);
  }

  close(): void {
    this.#closed = true;
    this.policyChanged();
    clearInterval(this.#sweeper);
  }

  #rulesOf({ tenant, bytes }: Use): DataKeyRules | undefined {
    const rules = this.#closed ? undefined : this.#rules(tenant);
    return rules === undefined || bytes > rules.maxBytes ? undefined : rules;
  }

  /** The entry with a copy of its content key, which is the caller's to wipe. */
  #take({ tenant, bytes }: Use, name: string, use: 'encrypt' | 'decrypt'): Entry | undefined {
    const entry = this.#tenants.get(tenant)?.get(name);
    const good = entry !== undefined && this.#clock.now() < entry.expiresAt && entry.bytesLeft >= bytes;
    this.#events.dataKeyLookedUp({ use, found: good });
    if (entry === undefined) return undefined;
    if (!good) {
      this.#drop(tenant, name);
      return undefined;
    }
    entry.usesLeft -= 1;
    entry.bytesLeft -= bytes;
    const taken = { ...entry, cek: Buffer.from(entry.cek) };
    if (entry.usesLeft === 0) this.#drop(tenant, name);
    return taken;
  }

  #keeper({ tenant, keyId, bytes }: Use, name: string, rules: DataKeyRules): (value: Wrapped) => void {
    const generation = this.#generation;
    const expiresAt = this.#clock.now() + rules.maxAgeSeconds * 1000;
    return ({ cek, encryptedKey, members }) => {
      if (generation !== this.#generation || this.#closed || rules.maxUses < 2) return;
      this.#drop(tenant, name);
      const entries = this.#roomFor(tenant);
      if (entries === undefined) return;
      entries.set(name, {
        cek: Buffer.from(cek),
        encryptedKey: Buffer.from(encryptedKey),
        members,
        keyId,
        expiresAt,
        usesLeft: rules.maxUses - 1,
        bytesLeft: rules.maxBytes - bytes,
      });
      this.#size += 1;
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref();
    };
  }

  /** The tenant's entries with room for one more; a tenant never pushes out another's. */
  #roomFor(tenant: string): Map<string, Entry> | undefined {
    const entries = this.#tenants.get(tenant) ?? new Map<string, Entry>();
    this.#tenants.set(tenant, entries);
    if (entries.size < MAX_OF_TENANT && this.#size < MAX_ENTRIES) return entries;
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
    entry.cek.fill(0);
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
