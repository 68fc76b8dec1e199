// The key catalogue: every record in memory, in order of key id within its tenant, over the store. Invariant: memory
// has exactly what the disk has; a change is compare-and-set by revision and durable when its promise resolves.

import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { encodeKeyRecord, KeyRecordError, parseKeyRecord } from '../../proto/documents/key-record-parse.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import { AgentError } from '../errors.ts';
import { faultText, type KeyStore, type StoredRow, type Writer } from './store.ts';
import type { UseCounters, VersionUsage } from './uses.ts';

export interface CatalogEvents {
  /** A stored record is not the agent's newest, or does not parse; only that key is unusable. */
  corruptRecord(event: { tenant: string; keyId: string; problem: string }): void;
  created(event: { tenant: string; keyId: string; algorithm: string; custody: string }): void;
  rotated(event: { tenant: string; keyId: string; version: number; algorithm: string; custody: string }): void;
  stateChanged(event: { tenant: string; keyId: string; from: KeyRecord['state']; to: KeyRecord['state'] }): void;
}

export interface ListQuery {
  readonly after?: string;
  readonly prefix?: string;
  readonly limit: number;
  accept(key: KeyRecord): boolean;
}

interface TenantKeys {
  readonly byId: Map<string, KeyRecord>;
  /** Sorted by code unit, which for key ids is by byte. */
  readonly ids: string[];
}

const firstAtLeast = (ids: readonly string[], least: string): number => {
  let [low, high] = [0, ids.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ids[middle] as string) < least) low = middle + 1;
    else high = middle;
  }
  return low;
};

const deepFreeze = <T>(value: T): T => {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member);
    Object.freeze(value);
  }
  return value;
};

const rowKey = (tenant: string, keyId: string): string => `${tenant}/${keyId}`;

export class Catalog {
  readonly #store: KeyStore;
  readonly #uses: UseCounters;
  readonly #events: CatalogEvents;
  /** May refuse a record before it is stored, by throwing. */
  protected readonly admit: (next: KeyRecord, previous: KeyRecord | undefined) => void;
  readonly #tenants = new Map<string, TenantKeys>();
  readonly #corrupt = new Set<string>();
  readonly #watchers: ((record: KeyRecord) => void)[] = [];

  /** `admit` may refuse a record before it is stored, by throwing. */
  constructor(options: {
    readonly store: KeyStore;
    readonly uses: UseCounters;
    readonly events: CatalogEvents;
    admit(next: KeyRecord, previous: KeyRecord | undefined): void;
  }) {
    this.#store = options.store;
    this.#uses = options.uses;
    this.#events = options.events;
    this.admit = options.admit;
  }

  /** Reads the store; once, before anything else. */
  load(): void {
    for (const row of this.#store.rows('records')) this.#load(row);
  }

  /** Records that cannot be used. */
  get damaged(): number {
    return this.#corrupt.size;
  }

  get(tenant: string, keyId: string): KeyRecord | undefined {
    if (this.#corrupt.size > 0 && this.#corrupt.has(rowKey(tenant, keyId))) {
      throw new AgentError('KEY_STATE', {
        message: 'the stored record of the key is damaged; an operator must repair it',
        metadata: { key: keyId, state: 'CORRUPT' },
      });
    }
    return this.#tenants.get(tenant)?.byId.get(keyId);
  }

  list(tenant: string, query: ListQuery): readonly KeyRecord[] {
    const { after, prefix = '', limit, accept } = query;
    const keys = this.#tenants.get(tenant);
    if (keys === undefined) return [];
    const found: KeyRecord[] = [];
    // The first id after `after` is the first one at least `after` plus the least character.
    let at = firstAtLeast(keys.ids, after === undefined || after < prefix ? prefix : `${after}\0`);
    for (; at < keys.ids.length && found.length < limit; at += 1) {
      const id = keys.ids[at] as string;
      if (!id.startsWith(prefix)) break;
      const record = keys.byId.get(id);
      if (record !== undefined && accept(record)) found.push(record);
    }
    return found;
  }

  /** Throws REGISTRY_UNAVAILABLE where a change of the tenant's keys could not be decided now. */
  requireChangeable(_tenant: string): void {}

  async insert(record: KeyRecord): Promise<void> {
    if (this.get(record.tenant, record.keyId) !== undefined) throw new AgentError('KEY_EXISTS');
    if (record.revision !== 1) throw new AgentError('INTERNAL', { cause: new Error('a new record has revision 1') });
    this.#write(record, undefined);
    this.report(record, undefined);
  }

  async replace(next: KeyRecord): Promise<void> {
    const previous = this.get(next.tenant, next.keyId);
    if (previous === undefined) throw new AgentError('KEY_UNKNOWN');
    if (previous.revision !== next.revision - 1) throw new AgentError('KEY_CONFLICT');
    this.#write(next, previous);
    this.report(next, previous);
  }

  use(record: KeyRecord): Promise<number> {
    return this.#uses.use(record);
  }

  uses(tenant: string, keyId: string): number {
    const record = this.#tenants.get(tenant)?.byId.get(keyId);
    const version = record && primaryVersion(record)?.version;
    return version === undefined ? 0 : this.#uses.made(tenant, keyId, version);
  }

  usage(tenant: string, keyId: string, version: number): VersionUsage {
    return this.#uses.usage(tenant, keyId, version);
  }

  processed(tenant: string, keyId: string, version: number): void {
    this.#uses.processed(tenant, keyId, version);
  }

  /** All records of a tenant, as they are now. */
  records(tenant: string): readonly KeyRecord[] {
    return [...(this.#tenants.get(tenant)?.byId.values() ?? [])];
  }

  tenants(): readonly string[] {
    return [...this.#tenants.keys()];
  }

  /** Whether some record of the tenant could not be read, so that nobody knows what it names. */
  hasCorrupt(tenant: string): boolean {
    return [...this.#corrupt].some((key) => key.startsWith(`${tenant}/`));
  }

  /** Whether the record of a key cannot be read. */
  isCorrupt(tenant: string, keyId: string): boolean {
    return this.#corrupt.has(rowKey(tenant, keyId));
  }

  /** Calls `watcher` with each record after it was stored. */
  watch(watcher: (record: KeyRecord) => void): void {
    this.#watchers.push(watcher);
  }

  #load({ key, value, fault }: StoredRow): void {
    const slash = key.indexOf('/');
    const [tenant, keyId] = [key.slice(0, slash), key.slice(slash + 1)];
    try {
      if (fault !== undefined) throw new KeyRecordError('', faultText[fault]);
      const record = parseKeyRecord(value);
      if (rowKey(record.tenant, record.keyId) !== key) throw new KeyRecordError('keyId', 'stored under another name');
      this.#remember(record);
    } catch (error) {
      if (!(error instanceof KeyRecordError)) throw error;
      this.#corrupt.add(key);
      this.#events.corruptRecord({ tenant, keyId, problem: error.message });
    }
  }

  #write(next: KeyRecord, previous: KeyRecord | undefined): void {
    this.admit(next, previous);
    this.apply([next]);
  }

  /**
   * Stores records that are decided, whatever is stored, in one transaction with what `also` writes; the notes of objects
   * that they name end with it.
   */
  apply(records: readonly KeyRecord[], also?: (writer: Writer) => void): void {
    const encoded = records.map((record) => ({ record, bytes: encodeKeyRecord(record) }));
    this.#store.write((writer) => {
      for (const { record, bytes } of encoded) {
        const { tenant, keyId } = record;
        writer.put('records', rowKey(tenant, keyId), bytes);
        for (const tokenId of this.#newlyNamed(record)) writer.remove('notes', tokenId);
      }
      also?.(writer);
    });
    for (const { bytes } of encoded) {
      const stored = this.#remember(parseKeyRecord(bytes)); // a copy that the caller cannot change
      this.#corrupt.delete(rowKey(stored.tenant, stored.keyId));
      for (const watcher of this.#watchers) watcher(stored);
    }
  }

  #newlyNamed({ tenant, keyId, versions }: KeyRecord): readonly string[] {
    const previous = this.#tenants.get(tenant)?.byId.get(keyId);
    const known = new Set(previous?.versions.map((row) => row.tokenId));
    return versions.flatMap(({ tokenId }) => (tokenId === undefined || known.has(tokenId) ? [] : [tokenId]));
  }

  #remember(record: KeyRecord): KeyRecord {
    let keys = this.#tenants.get(record.tenant);
    if (keys === undefined) {
      keys = { byId: new Map(), ids: [] };
      this.#tenants.set(record.tenant, keys);
    }
    if (!keys.byId.has(record.keyId)) keys.ids.splice(firstAtLeast(keys.ids, record.keyId), 0, record.keyId);
    keys.byId.set(record.keyId, deepFreeze(record));
    return record;
  }

  #reportNew(record: KeyRecord): void {
    const primary = primaryVersion(record);
    const { tenant, keyId } = record;
    this.#events.created({ tenant, keyId, algorithm: primary?.algorithm ?? '-', custody: primary?.custody ?? '-' });
  }

  protected report(next: KeyRecord, previous: KeyRecord | undefined): void {
    if (previous === undefined) {
      this.#reportNew(next);
      return;
    }
    const { tenant, keyId } = next;
    const primary = primaryVersion(next);
    if (primary !== undefined && primary.version !== primaryVersion(previous)?.version) {
      const { version, algorithm, custody } = primary;
      this.#events.rotated({ tenant, keyId, version, algorithm, custody });
    }
    if (next.state !== previous.state) {
      this.#events.stateChanged({ tenant, keyId, from: previous.state, to: next.state });
    }
  }
}
