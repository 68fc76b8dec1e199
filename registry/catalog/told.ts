// What a host has told in a rebuild, page by page, and what all hosts together know of uses. Invariant: a page that comes
// twice counts once.
import type { Finding, FoundObject } from './found-objects.ts';
import type { Conflict, EntryName, OfferRow, UseCount } from './store.ts';

const MAX_CONFLICTS = 100;
const MAX_OBJECTS_KEPT = 20_000;
const MAX_FINDINGS = 1000;
/** In the place of a host, where the token is what told. No host can have this name. */
export const TOKEN = '_token';

export const textOf = ({ kind, name }: EntryName): string => `${kind} ${name}`;

/** At least one object each. */
export const byName = (objects: readonly FoundObject[]): Map<string, [FoundObject, ...FoundObject[]]> => {
  const groups = new Map<string, [FoundObject, ...FoundObject[]]>();
  for (const object of objects) {
    const group = groups.get(textOf(object));
    if (group === undefined) groups.set(textOf(object), [object]);
    else group.push(object);
  }
  return groups;
};

export const hasLooked = ({ complete, tokenUnread }: OfferRow): boolean => complete && tokenUnread === undefined;

/** Which KEKs some host saw in the token. */
export const keksIn = (offers: readonly OfferRow[]): ReadonlySet<string> =>
  new Set(offers.flatMap(({ keks = [] }) => keks));

export const withFindings = (told: OfferRow | undefined, more: readonly Finding[], stored: number): OfferRow => {
  // What is named once more after an end that was cut off is named once.
  const named = new Map([...(told?.findings ?? []), ...more].map((row) => [JSON.stringify(row), row]));
  return {
    ...{ host: TOKEN, complete: true, entries: 0, conflicts: [], uses: [] },
    stored: (told?.stored ?? 0) + stored,
    findings: [...named.values()].slice(0, MAX_FINDINGS),
  };
};

export const toldWith = (
  told: OfferRow | undefined,
  page: Pick<OfferRow, 'host' | 'complete' | 'uses' | 'tokenUnread'> & {
    readonly entries: readonly unknown[];
    readonly objects: readonly FoundObject[];
    readonly keks: readonly string[];
  },
  answer: { readonly stored: number; readonly conflicts: readonly Conflict[] },
): OfferRow => {
  const { host, entries, uses, complete, objects } = page;
  const known = new Map((told?.uses ?? []).map((row) => [`${row.version}/${row.keyId}`, row]));
  for (const row of uses) known.set(`${row.version}/${row.keyId}`, row);
  // A page that comes twice names its conflicts once.
  const conflicts = new Map((told?.conflicts ?? []).map((row) => [`${row.kind} ${row.name}`, row]));
  for (const row of answer.conflicts) conflicts.set(`${row.kind} ${row.name}`, row);
  const found = new Map((told?.objects ?? []).map((row) => [row.tokenId, row]));
  for (const row of objects) if (found.size < MAX_OBJECTS_KEPT) found.set(row.tokenId, row);
  const keks = [...new Set([...(told?.keks ?? []), ...page.keks])].slice(0, MAX_OBJECTS_KEPT);
  const most = Math.max(found.size, keks.length);
  const isFull = most >= MAX_OBJECTS_KEPT ? `more than ${MAX_OBJECTS_KEPT} objects that no host knows` : '';
  const tokenUnread = page.tokenUnread || isFull;
  return {
    objects: [...found.values()],
    keks,
    ...(tokenUnread !== '' && { tokenUnread }),
    host,
    complete: complete || told?.complete === true,
    entries: (told?.entries ?? 0) + entries.length,
    stored: (told?.stored ?? 0) + answer.stored,
    conflicts: [...conflicts.values()].slice(0, MAX_CONFLICTS),
    uses: [...known.values()],
  };
};

/** Of each version the more of: what all hosts have made together, and the most that one has heard of. */
export const knownUses = (offers: readonly OfferRow[]): UseCount[] => {
  const counts = new Map<string, { keyId: string; version: number; made: number; leased: number }>();
  for (const { keyId, version, made, leased } of offers.flatMap(({ uses }) => uses)) {
    const name = `${version}/${keyId}`;
    const known = counts.get(name) ?? { keyId, version, made: 0, leased: 0 };
    counts.set(name, { ...known, made: known.made + made, leased: Math.max(known.leased, leased) });
  }
  return [...counts.values()].map(({ keyId, version, made, leased }) => ({
    keyId,
    version,
    count: Math.max(made, leased),
  }));
};
