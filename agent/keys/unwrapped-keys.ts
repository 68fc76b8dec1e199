// Private bytes of wrapped keys, and of wrapped halves, that policy lets the agent keep in memory, to spare a visit to the
// token and the expansion of the key with each use. Invariant: kept within the bounds of the policy in force
// (kept-secrets.ts), of keys that are active as their newest record has it, and given out as copies.
import type { KeyObject } from 'node:crypto';
import type { KeyRecord, KeyVersionRecord } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';
import { KeptSecrets } from './kept-secrets.ts';

/** As in the policy payload, `caches.unwrappedKeys`. */
export interface UnwrappedKeyRules {
  readonly maxAgeSeconds: number;
  readonly maxUses: number;
  readonly maxKeys: number;
}

export interface UnwrappedKeyEvents {
  /** Looked for one; counted only where policy allows the cache. */
  unwrappedKeyLookedUp(event: { found: boolean }): void;
}

/** How private bytes are held while they are used. */
export interface Held {
  /** They were in memory before this use. */
  readonly isKept: boolean;
  /** The key object that `make` makes of the private bytes, kept as long as they are; `name` tells those of one key apart. */
  expand(name: string, make: () => KeyObject): KeyObject;
}

/** For one use only. */
export const HELD_ONCE: Held = { isKept: false, expand: (_, make) => make() };

interface Kept {
  readonly seed: Buffer;
  readonly expanded: Map<string, KeyObject>;
}

/** OpenSSL's memory of the key objects goes when the last reference to them has gone and garbage is collected. */
const wipe = ({ seed, expanded }: Kept): void => {
  seed.fill(0);
  expanded.clear();
};

const heldBy = ({ expanded }: Kept): Held => ({
  isKept: true,
  expand: (name, make) => {
    const known = expanded.get(name);
    if (known !== undefined) return known;
    const made = make();
    expanded.set(name, made);
    return made;
  },
});

type Slot = { readonly found: { readonly seed: Buffer; readonly held: Held } } | { keep(seed: Buffer): void };

const isActive = (record: KeyRecord | undefined, version: number): boolean => {
  const state = record?.state === 'ACTIVE' ? record.versions.find((row) => row.version === version)?.state : undefined;
  return state === 'PRIMARY' || state === 'RETIRED';
};

export class UnwrappedKeys {
  readonly #rules: (tenant: string) => UnwrappedKeyRules | undefined;
  readonly #newest: (tenant: string, keyId: string) => KeyRecord | undefined;
  readonly #events: UnwrappedKeyEvents;
  readonly #kept: KeptSecrets<Kept>;

  constructor(options: {
    readonly clock: Clock;
    /** Undefined where the tenant's policy allows no cache. */
    readonly rules: (tenant: string) => UnwrappedKeyRules | undefined;
    /** The record of a key as the catalogue has it now. */
    readonly newest: (tenant: string, keyId: string) => KeyRecord | undefined;
    readonly events: UnwrappedKeyEvents;
  }) {
    this.#rules = options.rules;
    this.#newest = options.newest;
    this.#events = options.events;
    this.#kept = new KeptSecrets({ clock: options.clock, wipe });
  }

  get size(): number {
    return this.#kept.size;
  }

  /** What is kept of the version, its bytes as a copy, or where to put them; undefined where policy keeps none. */
  of(record: KeyRecord, { version, algorithm }: KeyVersionRecord): Slot | undefined {
    const { tenant, keyId } = record;
    const rules = this.#kept.isClosed ? undefined : this.#rules(tenant);
    if (rules === undefined) return undefined;
    const use = { tenant, keyId, name: `${keyId}/${version}/${algorithm}` };
    const copy = (kept: Kept) => ({ seed: Buffer.from(kept.seed), held: heldBy(kept) });
    const found = this.#kept.take(use, copy);
    this.#events.unwrappedKeyLookedUp({ found: found !== undefined });
    if (found !== undefined) return { found };
    const keep = this.#kept.keeper(use, { ...rules, maxKept: rules.maxKeys });
    return {
      keep: (seed) => {
        // The caller may have read its record before a change that came before this use.
        const newest = this.#newest(tenant, keyId);
        if (newest?.revision !== record.revision || !isActive(newest, version)) return;
        keep(() => ({ seed: Buffer.from(seed), expanded: new Map() }));
      },
    };
  }

  keyChanged(key: Pick<KeyRecord, 'tenant' | 'keyId'>): void {
    this.#kept.keyChanged(key);
  }

  /** Another KEK: what was unwrapped by the former one goes. */
  kekRotated(tenant: string): void {
    this.#kept.tenantChanged(tenant);
  }

  policyChanged(): void {
    this.#kept.policyChanged();
  }

  close(): void {
    this.#kept.close();
  }
}
