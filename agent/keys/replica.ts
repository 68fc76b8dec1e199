// Follows the catalogue of all hosts: what it says is stored here, with the position up to which everything is. Invariant:
// nothing goes backwards. A catalogue that was taken back is noticed by its position, its head or a record's revision;
// then the tenant's keys stay as they are here, and are not changed until an operator has put it right.
import { isDeepStrictEqual } from 'node:util';
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { encodeKeyRecord, parseKeyRecord } from '../../proto/documents/key-record-parse.ts';
import { AgentError } from '../errors.ts';
import type { Change, KnownUses, Position } from './central.ts';
import type { UseLeases } from './leases.ts';
import type { ReplicatedCatalog } from './replicated-catalog.ts';
import type { ReplicatedKeks } from './replicated-keks.ts';
import type { KeyStore } from './store.ts';
import { successionFault } from './succession.ts';

export interface ReplicaEvents {
  /** Changes of the catalogue of all hosts are in force here. */
  replicated(event: { tenant: string; changes: number; position: number }): void;
  /** A key that this host made while it stood alone is one of all hosts now. */
  shared(event: { tenant: string; keyId: string }): void;
  /** It could not be: the catalogue of all hosts has another key of this id, or its uses are counted here. */
  unshared(event: { tenant: string; keyId: string; cause: unknown }): void;
}

export interface ReplicaUpdate {
  readonly changes: readonly Change[];
  /** Undefined inside of a snapshot. */
  readonly at: Position | undefined;
  readonly inSnapshot: boolean;
  readonly isFirst: boolean;
  /** Everything that the catalogue has is here now. */
  readonly isComplete: boolean;
}

const START: Position = { position: 0, head: '' };

/** Keys and KEKs of a snapshot under way, by name. */
interface Seen {
  readonly keys: Set<string>;
  readonly keks: Map<number, string>;
}
const nothingSeen = (): Seen => ({ keys: new Set(), keks: new Map() });

export class Replica {
  readonly #store: KeyStore;
  readonly #catalog: ReplicatedCatalog;
  readonly #keks: ReplicatedKeks;
  readonly #leases: UseLeases;
  readonly #events: ReplicaEvents;
  readonly #positions = new Map<string, Position>();
  readonly #seen = new Map<string, Seen>();
  /** Rebuilds whose catalogue is about to be judged; it is in force here once that is positions' rebuild. */
  readonly #rebuilt = new Map<string, string>();
  readonly #frozen = new Map<string, string>();
  /** Tenants of which nothing more is taken on the stream of now. */
  readonly #stopped = new Set<string>();
  /** Tenants that were followed to the end on the stream of now. */
  readonly #current = new Set<string>();
  /** Tenants with a lost answer, and the stream of then. */
  readonly #doubts = new Map<string, number>();
  #stream = 0;
  #joining: Promise<void> = Promise.resolve();

  constructor(options: {
    readonly store: KeyStore;
    readonly catalog: ReplicatedCatalog;
    readonly keks: ReplicatedKeks;
    readonly leases: UseLeases;
    readonly events: ReplicaEvents;
  }) {
    this.#store = options.store;
    this.#catalog = options.catalog;
    this.#keks = options.keks;
    this.#leases = options.leases;
    this.#events = options.events;
  }

  /** Reads the store; once, after the catalogue. */
  load(): void {
    for (const { key: tenant, value } of this.#store.rows('positions')) {
      // One that does not verify is none: a snapshot follows, and no record goes backwards by it.
      if (value !== undefined) this.#positions.set(tenant, JSON.parse(value.toString()) as Position);
    }
  }

  position(tenant: string): Position {
    return this.#positions.get(tenant) ?? START;
  }

  positions(): readonly { readonly tenant: string; readonly position: number }[] {
    // Of a catalogue that does not fit, nothing is applied here.
    return [...this.#positions].map(([tenant, { position }]) => ({
      tenant,
      position: this.#frozen.has(tenant) ? 0 : position,
    }));
  }

  /** Why the tenant's keys must not be changed, or undefined. */
  frozen(tenant: string): string | undefined {
    return this.#frozen.get(tenant);
  }

  get frozenTenants(): readonly string[] {
    return [...this.#frozen.keys()];
  }

  /** Every record that this host has sent is stored here, if it was taken. */
  isSettled(tenant: string): boolean {
    return this.#current.has(tenant) && !this.#doubts.has(tenant);
  }

  doubt(tenant: string): void {
    this.#doubts.set(tenant, this.#stream);
  }

  /** A stream begins; it shows what became of answers that were lost before. */
  opened(): void {
    this.#stream += 1;
    this.#current.clear();
    this.#stopped.clear();
    this.#seen.clear();
    this.#rebuilt.clear();
  }

  /** Everything that this host knows of the catalogue of all hosts, for a registry that rebuilds it. */
  known(tenant: string): { readonly changes: readonly Change[]; readonly uses: readonly KnownUses[] } {
    if (this.position(tenant).position === 0) return { changes: [], uses: [] }; // what it has, it has alone
    const records = this.#catalog.records(tenant);
    const keys = records.map((record): Change => ({ kind: 'key', bytes: encodeKeyRecord(record) }));
    const keks = this.#keks.known(tenant).map((kek): Change => ({ kind: 'kek', kek }));
    const uses = records
      .filter(({ limits }) => limits.hardUses !== undefined)
      .flatMap(({ keyId, versions }) =>
        versions.map(({ version }) => {
          const { left, leased } = this.#leases.known(tenant, keyId, version);
          return { keyId, version, made: this.#catalog.usage(tenant, keyId, version).made + left, leased };
        }),
      );
    return { changes: [...keks, ...keys], uses };
  }

  /** The registry's catalogue was rebuilt; the snapshot that follows is judged by all that is known here. */
  rebuilt(tenant: string, rebuild: string): void {
    this.#stopped.delete(tenant);
    this.#rebuilt.set(tenant, rebuild);
  }

  rewound(tenant: string): void {
    this.#frozen.set(
      tenant,
      'the catalogue of the registry does not fit that of this host; keys of the tenant can be used, not changed',
    );
    this.#stopped.add(tenant);
    this.#current.delete(tenant);
  }

  /** Answers why the tenant's catalogue does not follow from what is here; then nothing of it is applied, on this stream. */
  apply(tenant: string, update: ReplicaUpdate): string | undefined {
    if (this.#stopped.has(tenant)) return undefined;
    const { changes, at, inSnapshot, isFirst, isComplete } = update;
    if (isFirst) this.#seen.set(tenant, nothingSeen());
    const records = changes.flatMap((change) => (change.kind === 'key' ? [parseRecord(tenant, change.bytes)] : []));
    const keks = changes.flatMap((change) => (change.kind === 'kek' ? [change.kek] : []));
    const seen = this.#seen.get(tenant);
    for (const { keyId } of records) seen?.keys.add(keyId);
    for (const { version, tokenId } of keks) seen?.keks.set(version, tokenId);
    const clash = keks.map((kek) => this.#keks.clash(tenant, kek)).find((why) => why !== undefined);
    const backwards =
      clash ?? this.#faultOf(records) ?? (inSnapshot ? this.#judge(tenant, records, isComplete) : undefined);
    if (backwards !== undefined) {
      this.rewound(tenant);
      return backwards;
    }
    for (const kek of keks) this.#keks.take(tenant, kek);
    this.#take(tenant, records, at);
    if (isComplete) this.#complete(tenant);
    if (changes.length > 0) {
      this.#events.replicated({ tenant, changes: changes.length, position: this.position(tenant).position });
    }
    return undefined;
  }

  #take(tenant: string, records: readonly KeyRecord[], at: Position | undefined): void {
    const news = records.filter((record) => this.#isNews(record));
    // Of several changes of one key in a message the last is what counts.
    const newest = [...new Map(news.map((record) => [record.keyId, record])).values()];
    const now = at && { position: at.position, head: at.head, ...this.#rebuildOf(tenant) };
    const before = this.position(tenant);
    const moved = now !== undefined && (now.position !== before.position || now.rebuild !== before.rebuild);
    if (newest.length > 0 || moved) {
      this.#catalog.apply(newest, (writer) => {
        if (now !== undefined) writer.put('positions', tenant, Buffer.from(JSON.stringify(now)));
      });
    }
    if (now !== undefined) this.#positions.set(tenant, now);
  }

  #rebuildOf(tenant: string): { readonly rebuild?: string } {
    const rebuild = this.#rebuilt.get(tenant) ?? this.position(tenant).rebuild;
    return rebuild === undefined ? {} : { rebuild };
  }

  #complete(tenant: string): void {
    this.#current.add(tenant);
    this.#frozen.delete(tenant);
    this.#seen.delete(tenant);
    this.#rebuilt.delete(tenant);
    if ((this.#doubts.get(tenant) ?? this.#stream) < this.#stream) this.#doubts.delete(tenant);
  }

  #stored({ tenant, keyId }: { readonly tenant: string; readonly keyId: string }): KeyRecord | undefined {
    return this.#catalog.isCorrupt(tenant, keyId) ? undefined : this.#catalog.get(tenant, keyId);
  }

  /** Not what this host has sent itself, or has heard before. */
  #isNews(record: KeyRecord): boolean {
    const stored = this.#stored(record);
    return stored === undefined || stored.revision < record.revision;
  }

  /** Of the revision that this host has, and not the same. */
  #isOther(record: KeyRecord): boolean {
    const stored = this.#stored(record);
    if (stored?.revision !== record.revision) return false;
    // Stored here is what was sent or heard, in whatever order of its members.
    return !isDeepStrictEqual(parseKeyRecord(encodeKeyRecord(stored)), record);
  }

  /** What cannot have become of a record that this host has. */
  #faultOf(records: readonly KeyRecord[]): string | undefined {
    for (const record of records) {
      const stored = this.#stored(record);
      if (stored === undefined || stored.revision > record.revision) continue;
      const fault = successionFault(stored, record);
      if (fault !== undefined) return `the key ${record.keyId} does not follow from that of this host: ${fault}`;
    }
    return undefined;
  }

  /** A snapshot is the present: what in it is older than ours, or not there, shows a catalogue that was taken back. */
  #judge(tenant: string, records: readonly KeyRecord[], isComplete: boolean): string | undefined {
    for (const record of records) {
      const stored = this.#stored(record);
      if (stored !== undefined && stored.revision > record.revision && this.position(tenant).position > 0) {
        return `the key ${record.keyId} has revision ${record.revision}, and this host has ${stored.revision}`;
      }
    }
    if (this.#rebuilt.has(tenant)) {
      const other = records.find((record) => this.#isOther(record));
      if (other !== undefined) return `the key ${other.keyId} was changed otherwise on another host`;
    }
    if (!isComplete) return undefined;
    const seen = this.#seen.get(tenant) ?? nothingSeen();
    const missing = this.#catalog.records(tenant).filter(({ keyId }) => !seen.keys.has(keyId));
    const kek = this.#keks.live(tenant).find(({ version, tokenId }) => seen.keks.get(version) !== tokenId);
    if (this.#rebuilt.has(tenant) && this.position(tenant).position > 0 && kek !== undefined) {
      return `it does not have the tenant KEK ${kek.version} of this host`;
    }
    if (this.position(tenant).position > 0 && missing.length > 0) {
      return `it does not have ${missing.length} keys of this host`;
    }
    this.#joining = this.#joining.then(() => this.#share(tenant, missing));
    return undefined;
  }

  /** Hands in what this host made while it stood alone. Never rejects; what is not taken stays as it is. */
  async #share(tenant: string, records: readonly KeyRecord[]): Promise<void> {
    const refused = (keyId: string) => (cause: unknown) => this.#events.unshared({ tenant, keyId, cause });
    const failed = await this.#keks.share(tenant).then(
      () => undefined,
      (cause: unknown) => ({ cause }),
    );
    for (const record of records) {
      const { keyId, state, limits } = record;
      if (state === 'DESTROYED') continue;
      // Uses made so far are counted here alone: taken into a limit of all hosts they could be exceeded.
      if (limits.hardUses !== undefined) refused(keyId)(new Error('it has a hard limit of uses'));
      else if (failed !== undefined) refused(keyId)(failed.cause);
      else await this.#catalog.share(record).then(() => this.#events.shared({ tenant, keyId }), refused(keyId));
    }
  }

  /** Resolves when what this host made while it stood alone was handed in, as far as it is taken. */
  get joined(): Promise<void> {
    return this.#joining;
  }
}

const parseRecord = (tenant: string, bytes: Buffer): KeyRecord => {
  const record = parseKeyRecord(bytes);
  if (record.tenant !== tenant) throw new AgentError('INTERNAL', { message: 'a record of another tenant' });
  return record;
};
