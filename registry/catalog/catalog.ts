// The catalogue of many hosts: entries by compare-and-set, and their changes in order. Invariant: of concurrent changes
// of one revision one is stored, and what is stored obeys the rules of records, whoever sent it.

import type { Clock } from '../../agent/clock.ts';
import type { Actor } from '../actor.ts';
import { asRegistryError, RegistryError } from '../errors.ts';
import { checkBlobs, keksOf } from './blobs.ts';
import { Feed } from './feed.ts';
import { type FollowStep, follow } from './follow.ts';
import { endLease, type LeaseRequest, lease } from './leases.ts';
import { type CatalogItem, checkChange, type Entry, readItem } from './rules.ts';
import type { CatalogStore, EntryKind, EntryName, EntryRow, LeaseRow, Position } from './store.ts';

/** Called as things happen; never throw. */
export interface CatalogEvents {
  /** An entry was offered: `outcome` is ok or an error code. */
  offered(event: { tenant: string; host: string; kind: EntryKind; name: string; outcome: string }): void;
  leased(event: { tenant: string; host: string; keyId: string; granted: number; forgotten: number }): void;
  /** A caller knows another catalogue than the one that is here: one of both was taken back. */
  rewound(event: { tenant: string; caller: string; asked: number; position: number }): void;
}

export interface CatalogOptions {
  readonly store: {
    forTenant(tenant: string, actor: Actor): CatalogStore;
    leaseTenant(id: string): Promise<string | undefined>;
    watchCatalog(listener: (tenant: string) => void): () => void;
    watchRebuilds(listener: (tenant: string) => void): () => void;
    watchHosts(listener: (changed: { readonly kind: 'host' | 'admin'; readonly name: string }) => void): () => void;
  };
  readonly clock: Clock;
  readonly events: CatalogEvents;
  /** Bytes of an entry as stored, taken apart. */
  decode(entry: Buffer): CatalogItem;
}

export interface Offer {
  readonly tenant: string;
  readonly host: string;
  readonly item: CatalogItem;
  /** The same, serialized: what is stored, and what heads are over. */
  readonly entry: Buffer;
  readonly expectedRevision: number;
}

export class Catalog {
  readonly #options: CatalogOptions;
  /** Of the tenants that somebody follows. */
  readonly #feeds = new Map<string, Feed>();

  constructor(options: CatalogOptions) {
    this.#options = options;
  }

  /** Where the change stands. The same bytes once more are answered as the first time. */
  async put(offer: Offer): Promise<Position> {
    const { tenant, host } = offer;
    let name: EntryName = { kind: offer.item.kind, name: '' };
    let outcome = 'ok';
    try {
      const entry = readItem(tenant, offer.item);
      name = entry.name;
      const store = this.#options.store.forTenant(tenant, { kind: 'host', name: host });
      const row = await store.change(name, (stored, keks) => this.#decide(offer, entry, stored, keks), keksOf(entry));
      return { position: (row as EntryRow).position, head: (row as EntryRow).head };
    } catch (thrown) {
      outcome = asRegistryError(thrown).code;
      throw thrown;
    } finally {
      this.#options.events.offered({ tenant, host, kind: name.kind, name: name.name, outcome });
    }
  }

  async get(actor: Actor, tenant: string, name: EntryName): Promise<EntryRow> {
    const row = await this.#options.store.forTenant(tenant, actor).entry(name);
    if (row === undefined) throw new RegistryError('KEY_UNKNOWN');
    return row;
  }

  async list(
    actor: Actor,
    tenant: string,
    query: { readonly kind?: EntryKind; readonly after?: EntryName; readonly limit: number },
  ): Promise<{ readonly rows: readonly EntryRow[]; readonly at: Position }> {
    const store = this.#options.store.forTenant(tenant, actor);
    // The position first: entries that change meanwhile are newer than it says, which a watch from it repairs.
    const at = await store.position();
    return { rows: await store.entries(query), at };
  }

  position(actor: Actor, tenant: string): Promise<Position> {
    return this.#options.store.forTenant(tenant, actor).position();
  }

  /**
   * Everything from a position on, then each change, until the signal aborts. After a `rewound` nothing but a rebuild
   * follows; it ends where the position is one of this catalogue again.
   */
  async *follow(
    actor: Actor,
    tenant: string,
    from: Position & { readonly rebuild?: string },
    signal: AbortSignal,
  ): AsyncGenerator<FollowStep, void, undefined> {
    const { store, events } = this.#options;
    const feed = this.#feedOf(tenant);
    const seat = await feed.join(actor);
    try {
      const reading = { store: store.forTenant(tenant, actor), feed, seat };
      for await (const step of follow({ ...reading, from, rebuild: from.rebuild, signal })) {
        if (step.kind === 'rewound') {
          const caller = actor.kind === 'registry' ? 'registry' : actor.name;
          events.rewound({ tenant, caller, asked: from.position, position: step.at.position });
        }
        yield step;
      }
    } finally {
      feed.leave(seat);
    }
  }

  async lease(tenant: string, request: LeaseRequest): Promise<LeaseRow> {
    const store = this.#options.store.forTenant(tenant, { kind: 'host', name: request.host });
    const row = await lease({
      store,
      request,
      clock: this.#options.clock,
      readEntry: (key) => this.#read(tenant, key),
    });
    const { host, keyId } = request;
    this.#options.events.leased({ tenant, host, keyId, granted: row.granted, forgotten: row.forgotten });
    return row;
  }

  async endLease(end: { readonly id: string; readonly host: string; readonly unused: number }): Promise<void> {
    const tenant = await this.#options.store.leaseTenant(end.id);
    if (tenant === undefined) throw new RegistryError('LEASE_UNKNOWN');
    await endLease(this.#options.store.forTenant(tenant, { kind: 'host', name: end.host }), end);
  }

  #feedOf(tenant: string): Feed {
    const known = this.#feeds.get(tenant);
    if (known !== undefined) return known;
    const { store } = this.#options;
    const of =
      (watch: (listener: (tenant: string) => void) => () => void) =>
      (listener: () => void): (() => void) =>
        watch((changed) => changed === tenant && listener());
    const feed = new Feed({
      store: store.forTenant(tenant, { kind: 'registry' }),
      watch: of((listener) => store.watchCatalog(listener)),
      watchRebuilds: of((listener) => store.watchRebuilds(listener)),
      watchReaders: (listener) => store.watchHosts(listener),
      emptied: () => this.#feeds.delete(tenant),
    });
    this.#feeds.set(tenant, feed);
    return feed;
  }

  #decide(
    { tenant, entry: bytes, expectedRevision, host }: Offer,
    entry: Entry,
    stored: EntryRow | undefined,
    keks: readonly (EntryRow | undefined)[],
  ) {
    if (stored?.entry.equals(bytes)) return undefined;
    if (stored === undefined && expectedRevision > 0) throw new RegistryError('KEY_UNKNOWN');
    if (stored !== undefined && expectedRevision === 0) throw new RegistryError('KEY_EXISTS');
    if (stored !== undefined && stored.revision !== expectedRevision) {
      throw new RegistryError('KEY_CONFLICT', { metadata: { revision: String(stored.revision) } });
    }
    if (entry.revision !== expectedRevision + 1) {
      throw new RegistryError('RECORD_INVALID', { message: 'the revision does not follow the expected one' });
    }
    const before = stored && this.#read(tenant, stored);
    checkChange(before, entry);
    checkBlobs(
      before,
      entry,
      keks.flatMap((row) => (row === undefined ? [] : [this.#read(tenant, row)])),
    );
    return { revision: entry.revision, entry: bytes, host, changedAt: this.#options.clock.now() };
  }

  #read(tenant: string, row: EntryRow): Entry {
    return readItem(tenant, this.#options.decode(row.entry));
  }
}
