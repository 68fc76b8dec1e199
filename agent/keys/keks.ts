// The tenants' key encryption keys in the token, by version. Invariant: a KEK's row is on the disk before the
// token makes it and until the token has destroyed it; only KEKs of a row are ever used or destroyed, so a KEK that
// another host made on a shared token is left alone.
import { TENANT_PATTERN } from '../../proto/documents/key-record.ts';
import { AgentError } from '../errors.ts';
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
  /** `idle`: being made or being destroyed, never to be used. `destroyed`: its number is taken for ever. */
  readonly state: 'live' | 'idle' | 'destroyed';
  /** In the catalogue of all hosts: plus one with each change. */
  readonly revision: number;
  /** Another host makes or destroys it: not this one's to end. */
  readonly foreign?: true;
}

const STATES: readonly string[] = ['live', 'idle', 'destroyed'];

const isOwnIdle = ({ state, foreign }: Kek): boolean => state === 'idle' && foreign !== true;

const parseKeks = ({ value }: StoredRow): readonly Kek[] | undefined => {
  if (value === undefined) return undefined;
  const rows: unknown = JSON.parse(value.toString()); // our own bytes, authenticated
  if (!Array.isArray(rows)) return undefined;
  const isKek = (row: Kek): boolean =>
    Number.isSafeInteger(row.version) && typeof row.tokenId === 'string' && STATES.includes(row.state);
  // Rows of an agent that stood alone have no revision.
  return rows.every(isKek) ? rows.map((row: Kek) => ({ ...row, revision: row.revision ?? 1 })) : undefined;
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
        const idle = keks.filter(isOwnIdle);
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

  /** Whether KEKs before the newest are kept when all blobs have moved to it. */
  get keepsOlder(): boolean {
    return false;
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
    const kek: Kek = { version, tokenId: this.#token.wrappingKeyId({ tenant }), state: 'idle', revision: 1 };
    await this.change(tenant, kek);
    const label = `${this.#labelPrefix}:${tenant}:v${version}`;
    const what = { label, tokenId: kek.tokenId };
    return this.#leavingIdle(tenant, async () => {
      const { tokenId } = await this.#token.generateWrappingKey(what, uncancelled(call));
      const made: Kek = { version, tokenId, state: 'live', revision: 2 };
      await this.change(tenant, made);
      this.#events.kekCreated({ tenant, version });
      return made;
    });
  }

  /** Destroys a version for ever. The caller has made sure that no blob is under it. */
  async destroy(tenant: string, version: number, call: TokenCall): Promise<void> {
    const kek = this.#all(tenant).find((row) => row.version === version);
    if (kek !== undefined) await this.change(tenant, { ...kek, state: 'idle', revision: kek.revision + 1 });
    await this.#leavingIdle(tenant, () => this.#destroyIdle(tenant, call));
  }

  /** Stores what a KEK is now, where the change is allowed; in the same turn of the event loop where nobody is asked. */
  protected async change(tenant: string, kek: Kek): Promise<void> {
    this.put(tenant, kek);
  }

  /** Ends a KEK that nothing is under: its object by `destroy`, and its row. */
  protected async end(tenant: string, kek: Kek, destroy: () => Promise<void>): Promise<void> {
    await destroy();
    this.drop(tenant, kek);
  }

  protected drop(tenant: string, kek: Kek): void {
    this.#save(
      tenant,
      this.#all(tenant).filter((row) => row.tokenId !== kek.tokenId),
    );
  }

  protected put(tenant: string, kek: Kek): void {
    const others = this.#all(tenant).filter((row) => row.version !== kek.version);
    this.#save(
      tenant,
      [...others, kek].sort((a, b) => a.version - b.version),
    );
  }

  /** All of a tenant, whatever their state. */
  protected rows(tenant: string): readonly Kek[] {
    return this.#all(tenant);
  }

  /** Ends what an earlier process began to make or to destroy. Resolves with the number that stays. */
  async sweep(call: TokenCall): Promise<number> {
    const away = new Set<string>(); // tenants whose token did not answer: their others wait for it too
    for (const left of this.#leftOver.splice(0)) {
      const { tenant, tokenId } = left;
      if (away.has(tenant)) {
        this.#leftOver.push(left);
        continue;
      }
      const kek = this.#all(tenant).find((row) => row.tokenId === tokenId && isOwnIdle(row));
      if (kek === undefined) continue;
      try {
        await this.#destroyOne(tenant, kek, call);
      } catch (cause) {
        this.#leftOver.push(left);
        away.add(tenant);
        this.#events.kekDestructionDelayed({ tenant, version: kek.version, cause });
      }
    }
    return this.#leftOver.length;
  }

  /** Where `act` fails, what is idle is left to the sweep. */
  async #leavingIdle<T>(tenant: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      const idle = this.#all(tenant).filter(isOwnIdle);
      this.#leftOver.push(...idle.map(({ tokenId }) => ({ tenant, tokenId })));
      throw error;
    }
  }

  async #destroyIdle(tenant: string, call: TokenCall): Promise<void> {
    for (const kek of this.#all(tenant)) if (isOwnIdle(kek)) await this.#destroyOne(tenant, kek, call);
  }

  async #destroyOne(tenant: string, kek: Kek, call: TokenCall): Promise<void> {
    await this.end(tenant, kek, () => this.#token.destroy(kek.tokenId, { ...call, owner: tenant }));
    this.#events.kekDestroyed({ tenant, version: kek.version });
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
