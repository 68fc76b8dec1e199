// The catalogue of one tenant in PostgreSQL. Changes of a tenant go one after another: each locks the row of its position.

import type { Actor } from '../../actor.ts';
import {
  type CatalogStore,
  type EntryChange,
  type EntryName,
  type EntryRow,
  LEASES_KEPT,
  type LeaseRow,
  type Position,
} from '../../catalog/store.ts';
import { nextHead, refuseReader, refuseRebuilding } from '../rules.ts';
import { CHANGES_KEPT } from '../store.ts';
import type { Connections, Session } from './connections.ts';
import { notify } from './notifications.ts';
import { refusedOf } from './readers.ts';
import { rebuilding, rebuildOf } from './rebuilds.ts';

const START: Position = { position: 0, head: Buffer.alloc(0) };
const COLUMNS = 'kind, name, revision, entry, position, head, host, changed_at AS "changedAt"';

/** Takes the lock under which the tenant's catalogue is changed. */
export const lock = async (session: Session, tenant: string): Promise<Position> => {
  const insert = "INSERT INTO mortise.positions VALUES ($1, 0, '') ON CONFLICT DO NOTHING";
  await session.query(insert, [tenant]);
  const select = 'SELECT position, head FROM mortise.positions WHERE tenant_id = $1 FOR UPDATE';
  return (await session.query<Position>(select, [tenant])).rows[0] ?? START;
};

export const entryOf = async (
  session: Session,
  tenant: string,
  { kind, name }: EntryName,
): Promise<EntryRow | undefined> => {
  const text = `SELECT ${COLUMNS} FROM mortise.entries WHERE tenant_id = $1 AND kind = $2 AND name = $3`;
  return (await session.query<EntryRow>(text, [tenant, kind, name])).rows[0];
};

/** Stores a change behind `before`, and answers it. */
export const append = async (
  session: Session,
  tenant: string,
  { before, name, change }: { readonly before: Position; readonly name: EntryName; readonly change: EntryChange },
): Promise<EntryRow> => {
  const placed = { position: before.position + 1, head: nextHead(before.head, change.entry) };
  const row: EntryRow = { kind: name.kind, name: name.name, ...change, ...placed };
  const { kind, revision, entry, position, head, host, changedAt } = row;
  const at = [tenant, kind, name.name, revision, entry, position, head, host, changedAt];
  await session.query(
    `INSERT INTO mortise.entries VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
     ON CONFLICT (tenant_id, kind, name) DO UPDATE SET revision = $4, entry = $5, position = $6, head = $7, host = $8,
       changed_at = $9`,
    at,
  );
  await session.query('INSERT INTO mortise.changes VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)', [
    ...[tenant, position, head, kind, name.name, revision, entry, host, changedAt],
  ]);
  await session.query('UPDATE mortise.positions SET position = $2, head = $3 WHERE tenant_id = $1', [
    ...[tenant, position, head],
  ]);
  const past = before.position + 1 - CHANGES_KEPT;
  if (past > 0) {
    const forget = 'UPDATE mortise.changes SET entry = NULL WHERE tenant_id = $1 AND position = $2';
    await session.query(forget, [tenant, past]);
  }
  await notify(session, 'catalog', tenant);
  return row;
};

const leaseOf = async (session: Session, tenant: string, id: string): Promise<LeaseRow | undefined> => {
  const text = 'SELECT row FROM mortise.leases WHERE tenant_id = $1 AND id = $2';
  return (await session.query<{ row: LeaseRow }>(text, [tenant, id])).rows[0]?.row;
};

const putLease = async (session: Session, tenant: string, lease: LeaseRow, difference: number): Promise<void> => {
  await session.query(
    `INSERT INTO mortise.uses VALUES ($1, $2, $3, $4)
     ON CONFLICT (tenant_id, key_id, version) DO UPDATE SET leased = mortise.uses.leased + $4`,
    [tenant, lease.keyId, lease.version, difference],
  );
  await session.query(
    'INSERT INTO mortise.leases VALUES ($1, $2, $3) ON CONFLICT (tenant_id, id) DO UPDATE SET row = excluded.row',
    [tenant, lease.id, JSON.stringify(lease)],
  );
};

/** Leases of the host and key that are no longer among the newest. */
const forgetLeases = async (session: Session, tenant: string, { id, host, keyId }: LeaseRow): Promise<number> => {
  const text = `INSERT INTO mortise.lease_order VALUES ($1, $2, $3, ARRAY[$4])
    ON CONFLICT (tenant_id, key_id, host) DO UPDATE SET ids = mortise.lease_order.ids || $4 RETURNING ids`;
  const { rows } = await session.query<{ ids: string[] }>(text, [tenant, keyId, host, id]);
  const old = (rows[0]?.ids ?? []).slice(0, -LEASES_KEPT);
  if (old.length === 0) return 0;
  const kept = 'UPDATE mortise.lease_order SET ids = ids[$4:] WHERE tenant_id = $1 AND key_id = $2 AND host = $3';
  await session.query(kept, [tenant, keyId, host, old.length + 1]);
  await session.query('DELETE FROM mortise.leases WHERE tenant_id = $1 AND id = ANY ($2)', [tenant, old]);
  await session.query('DELETE FROM mortise.lease_tenants WHERE id = ANY ($1)', [old]);
  return old.length;
};

/** What the catalogue reads. */
type Reads = Pick<CatalogStore, 'position' | 'positionAt' | 'entry' | 'entries' | 'changes' | 'look'>;
type Inside = <T>(work: (session: Session) => Promise<T>) => Promise<T>;

const positionOf = async (session: Session, tenant: string): Promise<Position> => {
  const text = 'SELECT position, head FROM mortise.positions WHERE tenant_id = $1';
  return (await session.query<Position>(text, [tenant])).rows[0] ?? START;
};

const positionAt = async (session: Session, tenant: string, at: number): Promise<Position | undefined> => {
  if (at === 0) return START;
  const text = 'SELECT position, head FROM mortise.changes WHERE tenant_id = $1 AND position = $2';
  return (await session.query<Position>(text, [tenant, at])).rows[0];
};

const changesOf = async (
  session: Session,
  tenant: string,
  { after, limit }: { readonly after: number; readonly limit: number },
): Promise<readonly EntryRow[] | undefined> => {
  const text = `SELECT ${COLUMNS} FROM mortise.changes WHERE tenant_id = $1 AND position > $2 ORDER BY position LIMIT $3`;
  const { rows } = await session.query<EntryRow>(text, [tenant, after, limit]);
  return rows.every(({ entry }) => entry !== null) ? rows : undefined;
};

/** The statements in this order: each sees what was committed before it. */
const look = async (
  session: Session,
  tenant: string,
  { after, limit, readers, joining }: Parameters<CatalogStore['look']>[0],
): ReturnType<CatalogStore['look']> => {
  const position = await positionOf(session, tenant);
  const isAt = after?.position === position.position;
  const at = isAt ? position : after && (await positionAt(session, tenant, after.position));
  const known = after === undefined || at?.head.equals(after.head) === true;
  const isBehind = known && after !== undefined && after.position < position.position;
  const rows = isBehind ? await changesOf(session, tenant, { after: after.position, limit }) : [];
  const rebuild = await rebuildOf(session, tenant);
  const refused = await refusedOf(session, tenant, rows?.length === 0 ? joining : [...readers, ...joining]);
  return { position, known, rows, rebuild, refused };
};

const reads = (inside: Inside, tenant: string): Reads => ({
  position: () => inside((session) => positionOf(session, tenant)),
  positionAt: (at) => inside((session) => positionAt(session, tenant, at)),
  entry: (name) => inside((session) => entryOf(session, tenant, name)),
  entries: ({ kind, after, limit }) =>
    inside(async (session) => {
      const text = `SELECT ${COLUMNS} FROM mortise.entries WHERE tenant_id = $1 AND ($2::text IS NULL OR kind = $2)
        AND (kind, name) > ($3, $4) ORDER BY kind, name LIMIT $5`;
      const values = [tenant, kind ?? null, after?.kind ?? '', after?.name ?? '', limit];
      return (await session.query<EntryRow>(text, values)).rows;
    }),
  changes: (query) => inside((session) => changesOf(session, tenant, query)),
  look: (query) => inside((session) => look(session, tenant, query)),
});

export const catalogStore = (options: {
  readonly db: Connections;
  readonly tenant: string;
  readonly actor: Actor;
}): CatalogStore => {
  const { db, tenant, actor } = options;
  const inside: Inside = (work) => db.asTenant(tenant, actor, work);
  const changing: Inside = (work) =>
    inside((session) => {
      refuseReader(actor);
      return work(session);
    });
  return {
    ...reads(inside, tenant),
    change: (name, decide, beside = []) =>
      changing(async (session) => {
        const before = await lock(session, tenant);
        refuseRebuilding(await rebuildOf(session, tenant));
        const stored = await entryOf(session, tenant, name);
        const others: (EntryRow | undefined)[] = [];
        for (const other of beside) others.push(await entryOf(session, tenant, other));
        const change = decide(stored, others);
        return change === undefined ? stored : append(session, tenant, { before, name, change });
      }),
    lease: ({ id, keyId, version }, decide) =>
      changing(async (session) => {
        await lock(session, tenant);
        refuseRebuilding(await rebuildOf(session, tenant));
        const known = await leaseOf(session, tenant, id);
        if (known !== undefined) return { ...known, forgotten: 0 };
        const text = 'SELECT leased FROM mortise.uses WHERE tenant_id = $1 AND key_id = $2 AND version = $3';
        const { rows } = await session.query<{ leased: number }>(text, [tenant, keyId, version]);
        const uses = rows[0]?.leased ?? 0;
        const lease = decide(uses, await entryOf(session, tenant, { kind: 'key', name: keyId }));
        const row: LeaseRow = { id, keyId, version, ...lease, leased: uses + lease.granted };
        await putLease(session, tenant, row, lease.granted);
        await session.query('INSERT INTO mortise.lease_tenants VALUES ($1, $2) ON CONFLICT DO NOTHING', [id, tenant]);
        return { ...row, forgotten: await forgetLeases(session, tenant, row) };
      }),
    endLease: (id, decide) =>
      changing(async (session) => {
        await lock(session, tenant);
        refuseRebuilding(await rebuildOf(session, tenant));
        const lease = await leaseOf(session, tenant, id);
        const unused = decide(lease);
        if (lease === undefined || unused === undefined) return;
        await putLease(session, tenant, { ...lease, unused }, -unused);
      }),
    ...rebuilding({ inside, changing, tenant, lock, entryOf, append }),
  };
};
