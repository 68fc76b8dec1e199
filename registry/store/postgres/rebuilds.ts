// Rebuilds of one tenant's catalogue in PostgreSQL, and what hosts have told in them.
import type {
  CatalogStore,
  EntryChange,
  EntryName,
  EntryRow,
  OfferRow,
  Position,
  RebuildRow,
} from '../../catalog/store.ts';
import type { Session } from './connections.ts';
import { jsonOf } from './json.ts';
import { notify } from './notifications.ts';

type Inside = <T>(work: (session: Session) => Promise<T>) => Promise<T>;

export const rebuildOf = async (session: Session, tenant: string): Promise<RebuildRow | undefined> => {
  const text = 'SELECT row FROM mortise.rebuilds WHERE tenant_id = $1';
  return (await session.query<{ row: RebuildRow }>(text, [tenant])).rows[0]?.row;
};

const offersOf = async (session: Session, tenant: string, id: string, host?: string): Promise<OfferRow[]> => {
  const text = `SELECT row FROM mortise.rebuild_offers WHERE tenant_id = $1 AND rebuild = $2
    AND ($3::text IS NULL OR host = $3) ORDER BY host`;
  const { rows } = await session.query<{ row: OfferRow }>(text, [tenant, id, host ?? null]);
  return rows.map(({ row }) => row);
};

const RAISE = `INSERT INTO mortise.uses VALUES ($1, $2, $3, $4)
  ON CONFLICT (tenant_id, key_id, version) DO UPDATE SET leased = GREATEST(mortise.uses.leased, $4)`;

export const rebuilding = (parts: {
  readonly inside: Inside;
  readonly changing: Inside;
  readonly tenant: string;
  lock(session: Session, tenant: string): Promise<Position>;
  entryOf(session: Session, tenant: string, name: EntryName): Promise<EntryRow | undefined>;
  append(
    session: Session,
    tenant: string,
    what: { readonly before: Position; readonly name: EntryName; readonly change: EntryChange },
  ): Promise<EntryRow>;
}): Pick<CatalogStore, 'rebuild' | 'offers' | 'changeRebuild' | 'offer'> => {
  const { inside, changing, tenant, lock, entryOf, append } = parts;
  return {
    rebuild: () => inside((session) => rebuildOf(session, tenant)),
    offers: (id) => inside((session) => offersOf(session, tenant, id)),
    changeRebuild: (decide) =>
      changing(async (session) => {
        await lock(session, tenant);
        const { row, uses } = decide(await rebuildOf(session, tenant));
        await session.query(
          'INSERT INTO mortise.rebuilds VALUES ($1, $2) ON CONFLICT (tenant_id) DO UPDATE SET row = excluded.row',
          [tenant, JSON.stringify(row)],
        );
        for (const { keyId, version, count } of uses) await session.query(RAISE, [tenant, keyId, version, count]);
        await notify(session, 'rebuild', tenant);
      }),
    offer: ({ rebuild: id, host, names }, decide) =>
      changing(async (session) => {
        let before = await lock(session, tenant);
        const stored: (EntryRow | undefined)[] = [];
        for (const name of names) stored.push(await entryOf(session, tenant, name));
        const [known] = await offersOf(session, tenant, id, host);
        const { told, changes } = decide(await rebuildOf(session, tenant), known, stored);
        for (const [at, name] of names.entries()) {
          const change = changes[at];
          if (change !== undefined) before = await append(session, tenant, { before, name, change });
        }
        await session.query(
          `INSERT INTO mortise.rebuild_offers VALUES ($1, $2, $3, $4)
           ON CONFLICT (tenant_id, rebuild, host) DO UPDATE SET row = excluded.row`,
          [tenant, id, host, jsonOf(told)],
        );
      }),
  };
};
