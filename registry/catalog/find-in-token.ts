// The end of a rebuild: entries for what hosts found in the token and no entry names, and the names of what is lost.
// Invariant: done again it finds everything named, and changes nothing.
import type { Clock } from '../../agent/clock.ts';
import { RegistryError } from '../errors.ts';
import { kekVersionOf } from './blobs.ts';
import { type Finding, placeObjects } from './found-objects.ts';
import { type CatalogItem, type Entry, readItem } from './rules.ts';
import type { CatalogStore, EntryName, EntryRow, OfferRow } from './store.ts';
import { byName, hasLooked, keksIn, TOKEN, withFindings } from './told.ts';

const PAGE = 64;

/** All of a tenant, KEKs first. */
export async function* allEntries(store: CatalogStore, read: (row: EntryRow) => Entry): AsyncGenerator<Entry> {
  for (let page = await store.entries({ limit: PAGE }); page.length > 0; ) {
    for (const row of page) yield read(row);
    const { kind, name } = page.at(-1) as EntryRow;
    page = await store.entries({ limit: PAGE, after: { kind, name } });
  }
}

/** Versions that are wrapped by a KEK which the token does not hold any more. */
const lostBlobs = async (entries: AsyncIterable<Entry>, inToken: ReadonlySet<string>): Promise<Finding[]> => {
  const held = new Set<number>();
  const lost: Finding[] = [];
  for await (const entry of entries) {
    if (entry.kind === 'kek') {
      if (inToken.has(entry.kek.tokenId.toString('hex'))) held.add(entry.kek.version);
      continue;
    }
    const { keyId: name, versions } = entry.record;
    const gone = versions.filter((row) => row.wrapped !== undefined && !held.has(kekVersionOf(row.wrapped) ?? 0));
    if (gone.length === 0) continue;
    const reason = 'the token does not hold the key encryption key that it is wrapped by';
    lost.push({ kind: 'key', name, versions: gone.map(({ version }) => version), outcome: 'LOST', reason });
  }
  return lost;
};

export const placeFound = async (options: {
  readonly store: CatalogStore;
  readonly tenant: string;
  readonly rebuild: string;
  readonly offers: readonly OfferRow[];
  readonly clock: Clock;
  decode(entry: Buffer): CatalogItem;
  encode(tenant: string, item: CatalogItem): Buffer;
}): Promise<void> => {
  const { store, tenant, rebuild, offers, clock } = options;
  const read = (row: EntryRow): Entry => readItem(tenant, options.decode(row.entry));
  const changeOf = (item: CatalogItem) => {
    const { revision } = readItem(tenant, item);
    return { revision, entry: options.encode(tenant, item), host: TOKEN, changedAt: clock.now() };
  };
  const groups = [...byName(offers.flatMap(({ objects = [] }) => objects)).values()];
  const lost = offers.some(hasLooked) ? await lostBlobs(allEntries(store, read), keksIn(offers)) : [];
  for (let at = 0; at === 0 || at < groups.length; at += PAGE) {
    const page = groups.slice(at, at + PAGE);
    const names = page.map(([{ kind, name }]) => ({ kind, name }));
    await store.offer({ rebuild, host: TOKEN, names }, (row, told, rows) => {
      if (row?.id !== rebuild || row.endedAt !== undefined) throw new RegistryError('REBUILD_CLOSED');
      const placed = page.map((group, index) => {
        const stored = rows[index] && read(rows[index]);
        return placeObjects({ tenant, ...(names[index] as EntryName), rebuild, now: clock.now(), stored }, group);
      });
      const changes = placed.map(({ item }) => item && changeOf(item));
      const findings = [...placed.flatMap((one) => one.findings), ...(at === 0 ? lost : [])];
      const stored = changes.filter((change) => change !== undefined).length;
      return { changes, told: withFindings(told, findings, stored) };
    });
  }
};
