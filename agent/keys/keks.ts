// The tenants' key encryption keys: AES-256 in the token, by version. Invariant: a KEK's row is on the disk before the
// token makes it and until the token has destroyed it; only KEKs of a row are ever used or destroyed, so a KEK that
// another host made on a shared token is left alone.
import { TENANT_PATTERN } from '../../proto/documents/key-record.ts';
import { AgentError } from '../errors.ts';
import { newTokenId } from './objects.ts';
import type { KeyStore, StoredRow } from './store.ts';
import { type KeysToken, type TokenCall, uncancelled } from './token.ts';

export interface KekEvents {
  corruptKeks(event: { tenant: string }): void;
  kekCreated(event: { tenant: string; version: number }): void;
  kekDestroyed(event: { tenant: string; version: number }): void;
  kekDestructionDelayed(event: { tenant: string; version: number; cause: unknown }): void;
}

export interface Kek {
  readonly version: number;
  readonly tokenId: string;
  /** `idle`: being made or being destroyed, never to be used. */
  readonly state: 'live' | 'idle';
}

const parseKeks = ({ value }: StoredRow): readonly Kek[] | undefined => {
  if (value === undefined) return undefined;
  const rows: unknown = JSON.parse(value.toString()); // our own bytes, authenticated
  if (!Array.isArray(rows)) return undefined;
  const isKek = (row: Kek): boolean =>
    Number.isSafeInteger(row.version) && typeof row.tokenId === 'string' && ['live', 'idle'].includes(row.state);
  return rows.every(isKek) ? rows : undefined;
};

export class TenantKeks {
  readonly #store: KeyStore;
  readonly #token: KeysToken;
  readonly #labelPrefix: string;
  readonly #events: KekEvents;
  readonly #rows = new Map<string, readonly Kek[]>();
  readonly #corrupt = new Set<string>();
  /** First needs of a tenant that are under way: all share one KEK. */
  readonly #making = new Map<string, Promise<Kek>>();
  /** Idle KEKs of an earlier process or a call that failed: nothing of theirs is under way. */
  readonly #leftOver: { readonly tenant: string; readonly tokenId: string }[] = [];

  constructor(options: {
    readonly store: KeyStore;
    readonly token: KeysToken;
    readonly labelPrefix: string;
    readonly events: KekEvents;
  }) {
    this.#store = options.store;
    this.#token = options.token;
    this.#labelPrefix = options.labelPrefix;
    this.#events = options.events;
  }

  /** Reads the store; once, before anything else. */
  load(): void {
    for (const row of this.#store.rows('keks')) {
      const tenant = row.key;
      const keks = TENANT_PATTERN.test(tenant) ? parseKeks(row) : undefined;
      if (keks !== undefined) {
        this.#rows.set(tenant, keks);
        const idle = keks.filter((kek) => kek.state === 'idle');
        this.#leftOver.push(...idle.map(({ tokenId }) => ({ tenant, tokenId })));
      } else {
        this.#corrupt.add(tenant);
        this.#events.corruptKeks({ tenant });
      }
    }
  }

  /** Tenants whose list cannot be used. */
  get damaged(): number {
    return this.#corrupt.size;
  }

  /** Live KEKs of a tenant, oldest first; the last one wraps. */
  live(tenant: string): readonly Kek[] {
    return this.#all(tenant).filter((kek) => kek.state === 'live');
  }

  /** The KEK of a version, to unwrap with. */
  byVersion(tenant: string, version: number): Kek | undefined {
    return this.live(tenant).find((kek) => kek.version === version);
  }

  /** The KEK to wrap with, made where the tenant has none. */
  async current(tenant: string, call: TokenCall): Promise<Kek> {
    return this.live(tenant).at(-1) ?? (await this.#makeOnce(tenant, call));
  }

  /** Makes the next version, which wraps from now on. */
  async next(tenant: string, call: TokenCall): Promise<Kek> {
    await this.#destroyIdle(tenant, call);
    const all = this.#all(tenant);
    const version = Math.max(0, ...all.map((kek) => kek.version)) + 1;
    const kek: Kek = { version, tokenId: newTokenId(), state: 'idle' };
    this.#save(tenant, [...all, kek]);
    const label = `${this.#labelPrefix}:${tenant}:v${version}`;
    const what = { algorithm: 'AES-256', purpose: 'encrypt', label, tokenId: kek.tokenId } as const;
    const { tokenId } = await this.#leavingIdle(tenant, () => this.#token.generate(what, uncancelled(call)));
    const made: Kek = { version, tokenId, state: 'live' };
    this.#save(tenant, [...this.#all(tenant).filter((row) => row.tokenId !== kek.tokenId), made]);
    this.#events.kekCreated({ tenant, version });
    return made;
  }

  /** Destroys a version for ever. The caller has made sure that no blob is under it. */
  async destroy(tenant: string, version: number, call: TokenCall): Promise<void> {
    const idle = this.#all(tenant).map((kek): Kek => (kek.version === version ? { ...kek, state: 'idle' } : kek));
    this.#save(tenant, idle);
    await this.#leavingIdle(tenant, () => this.#destroyIdle(tenant, call));
  }

  /** Ends what an earlier process began to make or to destroy. Resolves with the number that stays. */
  async sweep(call: TokenCall): Promise<number> {
    for (const left of this.#leftOver.splice(0)) {
      const { tenant, tokenId } = left;
      const kek = this.#all(tenant).find((row) => row.tokenId === tokenId && row.state === 'idle');
      if (kek === undefined) continue;
      try {
        await this.#destroyOne(tenant, kek, call);
      } catch (cause) {
        this.#leftOver.push(left);
        this.#events.kekDestructionDelayed({ tenant, version: kek.version, cause });
        break; // the others wait for the same token
      }
    }
    return this.#leftOver.length;
  }

  /** Where `act` fails, what is idle is left to the sweep. */
  async #leavingIdle<T>(tenant: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      const idle = this.#all(tenant).filter((kek) => kek.state === 'idle');
      this.#leftOver.push(...idle.map(({ tokenId }) => ({ tenant, tokenId })));
      throw error;
    }
  }

  async #destroyIdle(tenant: string, call: TokenCall): Promise<void> {
    for (const kek of this.#all(tenant)) if (kek.state === 'idle') await this.#destroyOne(tenant, kek, call);
  }

  async #destroyOne(tenant: string, { tokenId, version }: Kek, call: TokenCall): Promise<void> {
    await this.#token.destroy(tokenId, call);
    const rest = this.#all(tenant).filter((row) => row.tokenId !== tokenId);
    this.#save(tenant, rest);
    this.#events.kekDestroyed({ tenant, version });
  }

  #makeOnce(tenant: string, call: TokenCall): Promise<Kek> {
    const underWay = this.#making.get(tenant);
    if (underWay !== undefined) return underWay;
    const making = this.next(tenant, call).finally(() => this.#making.delete(tenant));
    this.#making.set(tenant, making);
    return making;
  }

  #all(tenant: string): readonly Kek[] {
    if (this.#corrupt.has(tenant)) {
      throw new AgentError('STORE_UNAVAILABLE', { message: 'the list of the tenant KEKs is damaged' });
    }
    return this.#rows.get(tenant) ?? [];
  }

  #save(tenant: string, keks: readonly Kek[]): void {
    this.#store.write((writer) => writer.put('keks', tenant, Buffer.from(JSON.stringify(keks))));
    this.#rows.set(tenant, keks);
  }
}
