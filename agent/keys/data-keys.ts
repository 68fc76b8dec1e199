// Content keys that policy lets the agent keep in memory, to spare visits to the token: wrapped ones for Encrypt,
// unwrapped ones for Decrypt. Invariant: kept within the bounds of the policy in force (kept-secrets.ts), and given out as
// copies. The caller is authorised before it asks here, every time.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';
import { KeptSecrets, type KeptUse } from './kept-secrets.ts';

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

const NONE = Buffer.alloc(0);

/** The content key in a copy, which is the caller's to wipe. */
const copyOf = ({ cek, encryptedKey, members }: Wrapped): Wrapped => ({ cek: Buffer.from(cek), encryptedKey, members });

export class DataKeys {
  readonly #rules: (tenant: string) => DataKeyRules | undefined;
  readonly #events: DataKeyEvents;
  readonly #kept: KeptSecrets<Wrapped>;

  constructor(options: {
    readonly clock: Clock;
    /** Undefined where the tenant's policy allows no cache. */
    readonly rules: (tenant: string) => DataKeyRules | undefined;
    readonly events: DataKeyEvents;
  }) {
    this.#rules = options.rules;
    this.#events = options.events;
    this.#kept = new KeptSecrets({ clock: options.clock, wipe: ({ cek }) => void cek.fill(0) });
  }

  get size(): number {
    return this.#kept.size;
  }

  toEncrypt(use: Use): Slot<Wrapped> | undefined {
    const rules = this.#rulesOf(use);
    if (rules === undefined) return undefined;
    const kept = { ...use, name: `encrypt ${use.keyId}/${use.version}` };
    const found = this.#take(kept, 'encrypt');
    return found === undefined ? { keep: this.#keeper(kept, rules) } : { found };
  }

  toDecrypt(use: Use & { wrap(): string }): Slot<Buffer> | undefined {
    const rules = this.#rulesOf(use);
    if (rules === undefined) return undefined;
    const kept = { ...use, name: `decrypt ${use.keyId}/${use.version} ${use.wrap()}` };
    const found = this.#take(kept, 'decrypt');
    if (found !== undefined) return { found: found.cek };
    const keep = this.#keeper(kept, rules);
    return { keep: (cek) => keep({ cek, encryptedKey: NONE, members: {} }) };
  }

  keyChanged(key: Pick<KeyRecord, 'tenant' | 'keyId'>): void {
    this.#kept.keyChanged(key);
  }

  policyChanged(): void {
    this.#kept.policyChanged();
  }

  close(): void {
    this.#kept.close();
  }

  #rulesOf({ tenant, bytes }: Use): DataKeyRules | undefined {
    const rules = this.#kept.isClosed ? undefined : this.#rules(tenant);
    return rules === undefined || bytes > rules.maxBytes ? undefined : rules;
  }

  #take(kept: KeptUse, use: 'encrypt' | 'decrypt'): Wrapped | undefined {
    const found = this.#kept.take(kept, copyOf);
    this.#events.dataKeyLookedUp({ use, found: found !== undefined });
    return found;
  }

  #keeper(kept: KeptUse, rules: DataKeyRules): (value: Wrapped) => void {
    const keep = this.#kept.keeper(kept, rules);
    return (value) => keep(() => ({ ...copyOf(value), encryptedKey: Buffer.from(value.encryptedKey) }));
  }
}
