// The catalogue of one tenant in LMDB. Every key begins with the tenant; the change row keeps its head when its entry goes.
import {
  type CatalogStore,
  type EntryChange,
  type EntryKind,
  type EntryName,
  type EntryRow,
  LEASES_KEPT,
  type LeaseRow,
  type OfferRow,
  type Position,
  type RebuildRow,
} from '../../catalog/store.ts';
import type { Notices } from '../notices.ts';
import { nextHead, refuseRebuilding } from '../rules.ts';
import { CHANGES_KEPT } from '../store.ts';
import type { Environment } from './environment.ts';
import { type Gate, mayAct } from './gate.ts';

type ChangeRow = Position & { readonly row?: EntryRow };

const START: Position = { position: 0, head: Buffer.alloc(0) };

export const catalogStore = (options: {
  readonly env: Environment;
  readonly tenant: string;
  readonly gate: Gate;
  readonly notices: Notices;
}): CatalogStore => {
  const { env, tenant, gate, notices } = options;
  const position = (): Position => env.get<Position>('position', tenant) ?? START;
  const stored = ({ kind, name }: EntryName): EntryRow | undefined => env.get('entry', tenant, kind, name);
  const rebuild = (): RebuildRow | undefined => env.get('rebuild', tenant);
  const usesKey = (keyId: string, version: number) => ['uses', tenant, keyId, version] as const;

  const append = (name: EntryName, change: Omit<EntryRow, keyof EntryName | keyof Position>): EntryRow => {
    const before = position();
    const now = { position: before.position + 1, head: nextHead(before.head, change.entry) };
    const row: EntryRow = { kind: name.kind, name: name.name, ...change, ...now };
    env.put(['entry', tenant, name.kind, name.name], row);
    env.put(['position', tenant], now);
    env.put(['change', tenant, now.position], { ...now, row } satisfies ChangeRow);
    const past = env.get<ChangeRow>('change', tenant, now.position - CHANGES_KEPT);
    if (past !== undefined) {
      env.put(['change', tenant, past.position], { position: past.position, head: past.head } satisfies ChangeRow);
    }
    return row;
  };

  const positionAt = (at: number): Position | undefined => {
    if (at === 0) return START;
    const row = env.get<ChangeRow>('change', tenant, at);
    return row && { position: row.position, head: row.head };
  };
  const changes = ({ after, limit }: { readonly after: number; readonly limit: number }) => {
    const range = { prefix: ['change', tenant] as const, numbers: true, from: [after + 1], limit };
    const rows = [...env.rows<ChangeRow>(range)].map(({ value }) => value.row);
    return rows.every((row) => row !== undefined) ? rows : undefined;
  };

  return {
    position: async () => gate.read(position),
    positionAt: async (at) => gate.read(() => positionAt(at)),
    entry: async (name) => gate.read(() => stored(name)),
    entries: async ({ kind, after, limit }) =>
      gate.read(() => {
        const kinds: readonly EntryKind[] = kind === undefined ? ['kek', 'key'] : [kind];
        const found: EntryRow[] = [];
        for (const each of [...kinds].sort()) {
          if (after !== undefined && each < after.kind) continue;
          const from = after?.kind === each ? { after: [after.name] } : {};
          const range = { prefix: ['entry', tenant, each] as const, ...from, limit: limit - found.length };
          if (range.limit > 0) for (const { value } of env.rows<EntryRow>(range)) found.push(value);
        }
        return found;
      }),
    changes: async (query) => gate.read(() => changes(query)),
    look: async ({ after, limit, readers, joining }) =>
      gate.read(() => {
        const now = position();
        const known = after === undefined || positionAt(after.position)?.head.equals(after.head) === true;
        const isBehind = known && after !== undefined && after.position < now.position;
        const rows = isBehind ? changes({ after: after.position, limit }) : [];
        const judged = rows?.length === 0 ? joining : [...readers, ...joining];
        const refused = judged.filter((actor) => !mayAct(env, tenant, actor));
        return { position: now, known, rows, rebuild: rebuild(), refused };
      }),
    change: async (name, decide, beside = []) => {
      let changed = false;
      const row = await gate.write(() => {
        refuseRebuilding(rebuild());
        const now = stored(name);
        const change = decide(now, beside.map(stored));
        changed = change !== undefined;
        return change === undefined ? now : append(name, change);
      });
      if (changed) notices.tell('catalog', tenant);
      return row;
    },
    lease: ({ id, keyId, version }, decide) =>
      gate.write(() => {
        refuseRebuilding(rebuild());
        const known = env.get<LeaseRow>('lease', tenant, id);
        if (known !== undefined) return { ...known, forgotten: 0 };
        const uses = env.get<number>(...usesKey(keyId, version)) ?? 0;
        const lease = decide(uses, stored({ kind: 'key', name: keyId }));
        const row: LeaseRow = { id, keyId, version, ...lease, leased: uses + lease.granted };
        env.put(usesKey(keyId, version), row.leased);
        env.put(['lease', tenant, id], row);
        env.put(['lease-tenant', id], tenant);
        return { ...row, forgotten: forgetLeases(env, tenant, row) };
      }),
    endLease: (id, decide) =>
      gate.write(() => {
        refuseRebuilding(rebuild());
        const lease = env.get<LeaseRow>('lease', tenant, id);
        const unused = decide(lease);
        if (lease === undefined || unused === undefined) return;
        const key = usesKey(lease.keyId, lease.version);
        env.put(key, (env.get<number>(...key) ?? 0) - unused);
        env.put(['lease', tenant, id], { ...lease, unused } satisfies LeaseRow);
      }),
    ...rebuilding({ env, tenant, gate, notices, rebuild, stored, append }),
  };
};

/** Leases of the host and key that are no longer among the newest. */
const forgetLeases = (env: Environment, tenant: string, { id, host, keyId }: LeaseRow): number => {
  const key = ['lease-order', tenant, keyId, host] as const;
  const ids = [...(env.get<readonly string[]>(...key) ?? []), id];
  const old = ids.slice(0, -LEASES_KEPT);
  for (const each of old) {
    env.remove(['lease', tenant, each]);
    env.remove(['lease-tenant', each]);
  }
  env.put(key, ids.slice(-LEASES_KEPT));
  return old.length;
};

type Rebuilding = Pick<CatalogStore, 'rebuild' | 'offers' | 'changeRebuild' | 'offer'>;

const rebuilding = (parts: {
  readonly env: Environment;
  readonly tenant: string;
  readonly gate: Gate;
  readonly notices: Notices;
  readonly rebuild: () => RebuildRow | undefined;
  readonly stored: (name: EntryName) => EntryRow | undefined;
  readonly append: (name: EntryName, change: EntryChange) => EntryRow;
}): Rebuilding => {
  const { env, tenant, gate, notices, rebuild, stored, append } = parts;
  return {
    rebuild: async () => gate.read(rebuild),
    offers: async (id) =>
      gate.read(() => [...env.rows<OfferRow>({ prefix: ['rebuild-offer', tenant, id] })].map(({ value }) => value)),
    changeRebuild: async (decide) => {
      await gate.write(() => {
        const { row, uses } = decide(rebuild());
        env.put(['rebuild', tenant], row);
        for (const { keyId, version, count } of uses) {
          const key = ['uses', tenant, keyId, version] as const;
          env.put(key, Math.max(env.get<number>(...key) ?? 0, count));
        }
      });
      notices.tell('rebuild', tenant);
    },
    offer: ({ rebuild: id, host, names }, decide) =>
      gate.write(() => {
        const before = env.get<OfferRow>('rebuild-offer', tenant, id, host);
        const { told, changes } = decide(rebuild(), before, names.map(stored));
        for (const [at, name] of names.entries()) {
          const change = changes[at];
          if (change !== undefined) append(name, change);
        }
        env.put(['rebuild-offer', tenant, id, host], told);
      }),
  };
};
