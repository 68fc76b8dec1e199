// Rebuilds of a tenant's catalogue from what its hosts know. Invariant: nothing goes backwards by it: of two states of an
// entry the later is kept, no revocation or destruction is lost, and counts of uses only rise.
import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../agent/clock.ts';
import { successionFault } from '../../agent/keys/succession.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import type { Actor } from '../actor.ts';
import { invalid, RegistryError } from '../errors.ts';
import { allEntries, placeFound } from './find-in-token.ts';
import { type Finding, type FoundObject, isMadeOfToken, isNamed } from './found-objects.ts';
import { type CatalogItem, type Entry, readItem } from './rules.ts';
import type { CatalogStore, Conflict, EntryName, EntryRow, OfferRow, RebuildRow, UseCount } from './store.ts';
import { byName, knownUses, TOKEN, textOf, toldWith } from './told.ts';

export interface RebuildOptions {
  readonly store: { forTenant(tenant: string, actor: Actor): CatalogStore };
  readonly clock: Clock;
  readonly events: {
    /** Opened, ended, or a host has told everything. */
    rebuild(event: { tenant: string; step: 'opened' | 'told' | 'ended'; by: string; conflicts: number }): void;
  };
  decode(entry: Buffer): CatalogItem;
  encode(tenant: string, item: CatalogItem): Buffer;
  /** Hosts of the tenant that are neither revoked nor expired. */
  hostsOf(tenant: string): Promise<readonly string[]>;
}

export interface RebuildState {
  readonly row: RebuildRow;
  readonly state: 'OPEN' | 'EXPIRED' | 'ENDED';
  readonly offers: readonly OfferRow[];
  readonly missing: readonly string[];
  /** What became of objects of the token that no host knew, and what is gone; empty before the end. */
  readonly findings: readonly Finding[];
}

export interface OfferPage {
  readonly host: string;
  readonly rebuild: string;
  readonly entries: readonly { readonly item: CatalogItem; readonly entry: Buffer }[];
  readonly uses: OfferRow['uses'];
  readonly complete: boolean;
  readonly objects?: readonly FoundObject[];
  readonly tokenUnread?: string;
}

const MIN_SECONDS = 60;
const MAX_SECONDS = 86_400;
const DEFAULT_SECONDS = 3600;
const MAX_ENTRIES = 500;
const MAX_USES = 1000;
const MAX_OBJECTS = 500;
const REGISTRY: Actor = { kind: 'registry' };

const isGone = (entry: Entry): boolean =>
  entry.kind === 'key' &&
  (['REVOKED', 'DESTROYED'].includes(entry.record.state) || entry.record.stateBefore === 'REVOKED');

const faultOf = (lower: Entry, higher: Entry): string | undefined => {
  if (lower.kind === 'key' && higher.kind === 'key') return successionFault(lower.record, higher.record);
  if (lower.kind !== 'kek' || higher.kind !== 'kek') return 'they are of different kinds';
  return lower.kek.tokenId.equals(higher.kek.tokenId) ? undefined : 'they are different key encryption keys';
};

/** Which of both is to be stored, and why they do not fit each other where they do not. */
export const judge = (stored: Entry, offered: Entry): { readonly take: boolean; readonly reason?: string } => {
  const isHigher = offered.revision > stored.revision;
  const fault =
    offered.revision === stored.revision
      ? `both have revision ${offered.revision} and differ`
      : faultOf(isHigher ? stored : offered, isHigher ? offered : stored);
  if (fault === undefined) return { take: isHigher };
  if (offered.kind === 'kek') return { take: false, reason: fault };
  const [here, there] = [isGone(stored), isGone(offered)];
  return { take: here === there ? isHigher : there, reason: fault };
};

export class Rebuilds {
  readonly #options: RebuildOptions;

  constructor(options: RebuildOptions) {
    this.#options = options;
  }

  async begin(tenant: string, admin: string, seconds: number): Promise<RebuildState> {
    const wanted = seconds === 0 ? DEFAULT_SECONDS : seconds;
    if (wanted < MIN_SECONDS || wanted > MAX_SECONDS) {
      throw invalid('seconds', `must be from ${MIN_SECONDS} to ${MAX_SECONDS}`);
    }
    const now = this.#options.clock.now();
    const expiresAt = now + wanted * 1000;
    await this.#store(tenant).changeRebuild((stored) => {
      const isNew = stored === undefined || stored.endedAt !== undefined;
      const row = isNew
        ? { id: randomBytes(16).toString('hex'), openedBy: admin, openedAt: now, expiresAt }
        : { ...stored, expiresAt: Math.max(stored.expiresAt, expiresAt) };
      return { row, uses: [] };
    });
    this.#options.events.rebuild({ tenant, step: 'opened', by: admin, conflicts: 0 });
    return this.state(tenant, REGISTRY);
  }

  /** As `reader` may see it. */
  async state(tenant: string, reader: Actor): Promise<RebuildState> {
    const store = this.#options.store.forTenant(tenant, reader);
    const row = await store.rebuild();
    if (row === undefined) throw new RegistryError('REBUILD_UNKNOWN');
    const all = await store.offers(row.id);
    const offers = all.filter(({ host }) => host !== TOKEN);
    const findings = all.find(({ host }) => host === TOKEN)?.findings ?? [];
    const told = new Set(offers.filter(({ complete }) => complete).map(({ host }) => host));
    const missing = (await this.#options.hostsOf(tenant)).filter((host) => !told.has(host)).sort();
    return { row, state: this.#stateOf(row), offers, missing, findings };
  }

  async end(tenant: string, admin: string, acceptMissing: boolean): Promise<RebuildState> {
    const stands = await this.state(tenant, REGISTRY);
    const { row } = stands;
    if (stands.state === 'ENDED') return stands;
    if (stands.missing.length > 0 && !acceptMissing) {
      const named = stands.missing.slice(0, 32).join(', ');
      throw new RegistryError('HOSTS_MISSING', { message: `these hosts have not told everything: ${named}` });
    }
    await this.#hearNoMore(tenant, row.id);
    const { offers, missing } = await this.state(tenant, REGISTRY);
    const known = knownUses(offers);
    const uses = missing.length === 0 ? known : [...known, ...(await this.#usedUp(tenant))];
    await placeFound({ ...this.#options, store: this.#store(tenant), tenant, rebuild: row.id, offers });
    const endedAt = this.#options.clock.now();
    await this.#store(tenant).changeRebuild((stored) => {
      if (stored?.id !== row.id) throw new RegistryError('REBUILD_CLOSED');
      return { row: stored.endedAt === undefined ? { ...stored, endedAt } : stored, uses };
    });
    const conflicts = offers.reduce((sum, offer) => sum + offer.conflicts.length, 0);
    this.#options.events.rebuild({ tenant, step: 'ended', by: admin, conflicts });
    return this.state(tenant, REGISTRY);
  }

  /** One page of what a host knows. */
  async offer(
    tenant: string,
    page: OfferPage,
  ): Promise<{ readonly stored: number; readonly conflicts: readonly Conflict[] }> {
    const { host, rebuild } = page;
    if (page.entries.length > MAX_ENTRIES) throw invalid('entries', `at most ${MAX_ENTRIES}`);
    if (page.uses.length > MAX_USES) throw invalid('uses', `at most ${MAX_USES}`);
    const offered = page.entries.map(({ item, entry }) => ({ entry: readItem(tenant, item), bytes: entry }));
    const names: EntryName[] = offered.map(({ entry }) => entry.name);
    if (new Set(names.map(textOf)).size < names.length) throw invalid('entries', 'a name stands there twice');
    const { objects = [] } = page;
    if (objects.length > MAX_OBJECTS) throw invalid('objects', `at most ${MAX_OBJECTS}`);
    names.push(...[...byName(objects).values()].map(([{ kind, name }]) => ({ kind, name })));
    if (new Set(names.map(textOf)).size < names.length) throw invalid('objects', 'of entries of the same page');
    let answer: { readonly stored: number; readonly conflicts: readonly Conflict[] } = { stored: 0, conflicts: [] };
    const store = this.#options.store.forTenant(tenant, { kind: 'host', name: host });
    await store.offer({ rebuild, host, names }, (row, told, rows) => {
      if (row?.id !== rebuild || this.#stateOf(row) !== 'OPEN') throw new RegistryError('REBUILD_CLOSED');
      const judged = offered.map((one, at) => this.#judge(tenant, one, rows[at], page));
      const conflicts = judged.flatMap(({ conflict }) => conflict ?? []);
      const changes = judged.map(({ change }) => change);
      answer = { stored: changes.filter((change) => change !== undefined).length, conflicts };
      const entryOf = new Map(names.map((name, at) => [textOf(name), rows[at]]));
      const unnamed = objects.filter((object) => !this.#names(tenant, entryOf.get(textOf(object)), object));
      const keks = objects.flatMap(({ kind, tokenId, fault }) =>
        kind === 'kek' && fault === undefined ? [tokenId] : [],
      );
      return { changes, told: toldWith(told, { ...page, objects: unnamed, keks }, answer) };
    });
    if (page.complete) {
      this.#options.events.rebuild({ tenant, step: 'told', by: host, conflicts: answer.conflicts.length });
    }
    return answer;
  }

  #names(tenant: string, row: EntryRow | undefined, object: FoundObject): boolean {
    return row !== undefined && isNamed(this.#read(tenant, row), object);
  }

  #judge(
    tenant: string,
    { entry, bytes }: { readonly entry: Entry; readonly bytes: Buffer },
    row: EntryRow | undefined,
    { host, rebuild }: Pick<OfferPage, 'host' | 'rebuild'>,
  ) {
    const change = { revision: entry.revision, entry: bytes, host, changedAt: this.#options.clock.now() };
    if (row === undefined) return { change };
    const stored = this.#read(tenant, row);
    // Hosts write one record in different orders of its members.
    if (isDeepStrictEqual(stored, entry)) return {};
    const ofToken = row.host === TOKEN;
    if (ofToken && isMadeOfToken(stored, rebuild)) return { change };
    const { take: isLater, reason } = judge(stored, entry);
    // The step that the token's word made of a host's record gives way to the same step of a host.
    const isSameStep = ofToken && entry.revision === stored.revision && (isGone(entry) || !isGone(stored));
    const take = isLater || isSameStep;
    const conflict = reason === undefined ? undefined : { ...entry.name, reason };
    return { ...(take && { change }), ...(conflict && { conflict }) };
  }

  #read(tenant: string, { entry }: EntryRow): Entry {
    return readItem(tenant, this.#options.decode(entry));
  }

  #stateOf({ endedAt, expiresAt }: RebuildRow): RebuildState['state'] {
    if (endedAt !== undefined) return 'ENDED';
    return this.#options.clock.now() < expiresAt ? 'OPEN' : 'EXPIRED';
  }

  #store(tenant: string): CatalogStore {
    return this.#options.store.forTenant(tenant, REGISTRY);
  }

  /** What is told from here on would not count any more: it is refused, on every replica, whatever its clock says. */
  #hearNoMore(tenant: string, id: string): Promise<void> {
    return this.#store(tenant).changeRebuild((stored) => {
      if (stored?.id !== id) throw new RegistryError('REBUILD_CLOSED');
      return { row: { ...stored, expiresAt: stored.openedAt }, uses: [] };
    });
  }

  /** Every use of every hard limit: nobody knows what the hosts that are missing have made. */
  async #usedUp(tenant: string): Promise<UseCount[]> {
    const counts: UseCount[] = [];
    for await (const entry of allEntries(this.#store(tenant), (row) => this.#read(tenant, row))) {
      if (entry.kind !== 'key') continue;
      const { hardUses } = entry.record.limits;
      const version = primaryVersion(entry.record)?.version;
      if (hardUses !== undefined && version !== undefined) {
        counts.push({ keyId: entry.record.keyId, version, count: hardUses });
      }
    }
    return counts;
  }
}
