// Follows the catalogue of all hosts: what it says is stored here, with the position up to which everything is. Invariant:
// nothing goes backwards. A catalogue that was taken back is noticed by its position, its head or a record's revision;
// then the tenant's keys stay as they are here, and are not changed until an operator has put it right.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { parseKeyRecord } from '../../proto/documents/key-record-parse.ts';
import { AgentError } from '../errors.ts';
import type { Change, Position } from './central.ts';
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

export class Replica {
  readonly #store: KeyStore;
  readonly #catalog: ReplicatedCatalog;
  readonly #keks: ReplicatedKeks;
  readonly #events: ReplicaEvents;
  readonly #positions = new Map<string, Position>();
  /** Key ids of a snapshot under way. */
  readonly #seen = new Map<string, Set<string>>();
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
    readonly events: ReplicaEvents;
  }) {
    this.#store = options.store;
    this.#catalog = options.catalog;
    this.#keks = options.keks;
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
    return [...this.#positions].map(([tenant, { position }]) => ({ tenant, position }));
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
    if (isFirst) this.#seen.set(tenant, new Set());
    const records = changes.flatMap((change) => (change.kind === 'key' ? [parseRecord(tenant, change.bytes)] : []));
    for (const { keyId } of records) this.#seen.get(tenant)?.add(keyId);
    const keks = changes.flatMap((change) => (change.kind === 'kek' ? [change.kek] : []));
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
    const moved = at !== undefined && at.position !== this.position(tenant).position;
    if (newest.length > 0 || moved) {
      this.#catalog.apply(newest, (writer) => {
        if (at !== undefined) writer.put('positions', tenant, Buffer.from(JSON.stringify(at)));
      });
    }
    if (at !== undefined) this.#positions.set(tenant, at);
  }

  #complete(tenant: string): void {
    this.#current.add(tenant);
    this.#frozen.delete(tenant);
    this.#seen.delete(tenant);
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
    if (!isComplete) return undefined;
    const seen = this.#seen.get(tenant) ?? new Set();
    const missing = this.#catalog.records(tenant).filter(({ keyId }) => !seen.has(keyId));
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
