// What this room needs of the store: the entries of one tenant, their change log with heads, and leased uses. Invariant:
// the changes of a tenant are in one order, on all replicas; a decision sees what is stored while nobody else changes it.

import type { Actor } from '../actor.ts';
import type { Finding, FoundObject } from './found-objects.ts';

export type EntryKind = 'key' | 'kek';

export interface EntryName {
  readonly kind: EntryKind;
  readonly name: string;
}

/** Where a tenant's changes stand: 0 and an empty head before the first. */
export interface Position {
  readonly position: number;
  readonly head: Buffer;
}

/** An entry with its last change. */
export interface EntryRow extends EntryName, Position {
  readonly revision: number;
  /** The serialized CatalogEntry. */
  readonly entry: Buffer;
  readonly host: string;
  /** Milliseconds since 1970, UTC; so are all times of rows. */
  readonly changedAt: number;
}

export type EntryChange = Pick<EntryRow, 'revision' | 'entry' | 'host' | 'changedAt'>;

export interface LeaseRow {
  /** 32 lower-case hex digits. */
  readonly id: string;
  readonly host: string;
  readonly keyId: string;
  readonly version: number;
  readonly wanted: number;
  readonly granted: number;
  /** Uses leased to all hosts, this lease included, when it was granted. */
  readonly leased: number;
  readonly hardUses: number;
  /** Set when it has ended. */
  readonly unused?: number;
}

/** Of each host and key the newest so many are kept: a host has one slice of a key at a time, and asks for the next. */
export const LEASES_KEPT = 16;

export interface GrantedLease extends LeaseRow {
  /** Leases of this host and key that were forgotten for it; what was left of them is forfeited. */
  readonly forgotten: number;
}

/** A rebuild of the catalogue; unless `endedAt` is set nothing but what hosts offer changes the catalogue. */
export interface RebuildRow {
  /** 32 lower-case hex digits. */
  readonly id: string;
  readonly openedBy: string;
  readonly openedAt: number;
  readonly expiresAt: number;
  readonly endedAt?: number;
}

export interface Conflict extends EntryName {
  readonly reason: string;
}

export interface UseCount {
  readonly keyId: string;
  readonly version: number;
  readonly count: number;
}

/** What one host has told in one rebuild. */
export interface OfferRow {
  readonly host: string;
  readonly complete: boolean;
  readonly entries: number;
  readonly stored: number;
  readonly conflicts: readonly Conflict[];
  readonly uses: readonly {
    readonly keyId: string;
    readonly version: number;
    readonly made: number;
    readonly leased: number;
  }[];
  /** Of the token, as far as no entry named them when they were told. */
  readonly objects?: readonly FoundObject[];
  /** CKA_IDs of the KEKs that it saw in the token. */
  readonly keks?: readonly string[];
  /** Why it could not look into the token. */
  readonly tokenUnread?: string;
  /** Of the registry's own row: what became of the objects. */
  readonly findings?: readonly Finding[];
}

/** What stands behind a position, read at once for all who follow the tenant. */
export interface Look {
  /** Where the changes stand now. */
  readonly position: Position;
  /** Whether the position asked from is one of this catalogue. */
  readonly known: boolean;
  /** Changes behind it, in order; undefined where some of them are no longer kept. */
  readonly rows: readonly EntryRow[] | undefined;
  /** The last rebuild, as it was no earlier than the rows. */
  readonly rebuild: RebuildRow | undefined;
  /** Of those judged, who may not act for the tenant, as it was no earlier than the rows. */
  readonly refused: readonly Actor[];
}

/** Of one tenant. Fails with PERMISSION_DENIED where the handle's actor may not act for the tenant, or STORE_UNAVAILABLE. */
export interface CatalogStore {
  position(): Promise<Position>;
  /** The position as it was, or undefined where there is no such one. */
  positionAt(position: number): Promise<Position | undefined>;
  entry(name: EntryName): Promise<EntryRow | undefined>;
  /** In order of kind and name. */
  entries(query: {
    readonly kind?: EntryKind;
    readonly after?: EntryName;
    readonly limit: number;
  }): Promise<readonly EntryRow[]>;
  /** Changes behind a position, in order; undefined where some of them are no longer kept. */
  changes(query: { readonly after: number; readonly limit: number }): Promise<readonly EntryRow[] | undefined>;
  /**
   * One read for many: each of `readers` is judged by its own row where there are changes, each of `joining` in any case.
   * Without `after` there are none: the position alone is asked.
   */
  look(query: {
    readonly after: Position | undefined;
    readonly limit: number;
    readonly readers: readonly Actor[];
    readonly joining: readonly Actor[];
  }): Promise<Look>;
  /**
   * Stores what `decide` makes of the stored entry, and the change. Undefined: the entry stays, and is answered as it is.
   * What `decide` throws comes out, and nothing is changed. Durable when it resolves, and told to every replica.
   * `decide` also sees the entries of `beside` as they are then, in order. REBUILDING while a rebuild is not ended; so do
   * `lease` and `endLease`.
   */
  change(
    name: EntryName,
    decide: (stored: EntryRow | undefined, beside: readonly (EntryRow | undefined)[]) => EntryChange | undefined,
    beside?: readonly EntryName[],
  ): Promise<EntryRow | undefined>;
  /** Stores the lease that `decide` makes of the uses leased so far and the stored key. A lease that is there is answered. */
  lease(
    request: { readonly id: string; readonly keyId: string; readonly version: number },
    decide: (leased: number, key: EntryRow | undefined) => Pick<LeaseRow, 'host' | 'wanted' | 'granted' | 'hardUses'>,
  ): Promise<GrantedLease>;
  /** Ends a lease; `decide` sees it and answers the unused rest, or undefined where there is nothing to do. */
  endLease(id: string, decide: (lease: LeaseRow | undefined) => number | undefined): Promise<void>;
  /** The last rebuild. */
  rebuild(): Promise<RebuildRow | undefined>;
  /** What hosts have told in it, in order of host. */
  offers(rebuild: string): Promise<readonly OfferRow[]>;
  /** Stores what `decide` makes of the last rebuild, and raises counts of leased uses to at least these. */
  changeRebuild(
    decide: (stored: RebuildRow | undefined) => { readonly row: RebuildRow; readonly uses: readonly UseCount[] },
  ): Promise<void>;
  /**
   * One page of a host's offer, as one change: `decide` sees the last rebuild, what the host has told in `rebuild` so far,
   * and the entries of these names as they are, and answers what is stored, in order of the names.
   */
  offer(
    at: { readonly rebuild: string; readonly host: string; readonly names: readonly EntryName[] },
    decide: (
      rebuild: RebuildRow | undefined,
      told: OfferRow | undefined,
      stored: readonly (EntryRow | undefined)[],
    ) => { readonly told: OfferRow; readonly changes: readonly (EntryChange | undefined)[] },
  ): Promise<void>;
}
