// The calls of CatalogService about a rebuild: proto to plain and back, and the record of who opened and ended one.
import {
  CatalogEntry,
  type CatalogServiceService,
  EntryKind,
  type Rebuild,
  type RebuildConflict,
  RebuildState,
} from '../../../proto/gen/mortise/registry/v1/catalog.ts';
import { invalid } from '../../errors.ts';
import { type RecordPort, recordCrossing, recorded } from '../audit-trail.ts';
import { adminOf, type Call, hostOf, requireTenant } from '../caller.ts';
import type { Handlers } from '../rpc.ts';
import { itemOf, safe } from './catalog-entry.ts';
import type { PlainConflict, PlainRebuild, RebuildsPort } from './catalog-ports.ts';

const REBUILD_ID_BYTES = 16;
const MAX_NAMED = 32;

const conflictOf = (host: string, { kind, name, reason }: PlainConflict): RebuildConflict => ({
  kind: kind === 'kek' ? EntryKind.KEK : EntryKind.KEY,
  name,
  host,
  reason,
});

const rebuildOf = (tenant: string, { row, state, offers, missing }: PlainRebuild): Rebuild => ({
  tenant,
  id: Buffer.from(row.id, 'hex'),
  state: RebuildState[state],
  openedBy: row.openedBy,
  openTime: new Date(row.openedAt),
  expireTime: new Date(row.expiresAt),
  endTime: row.endedAt === undefined ? undefined : new Date(row.endedAt),
  hosts: offers.map(({ host, complete, entries, stored }) => ({
    ...{ host, complete, entries: BigInt(entries), stored: BigInt(stored) },
  })),
  missing: [...missing],
  conflicts: offers.flatMap(({ host, conflicts }) => conflicts.map((conflict) => conflictOf(host, conflict))),
});

const detailOf = ({ row, offers, missing }: PlainRebuild) => ({
  rebuild: row.id,
  hosts: offers.filter(({ complete }) => complete).length,
  missing: missing.slice(0, MAX_NAMED),
  conflicts: offers
    .flatMap(({ host, conflicts }) => conflicts.map(({ kind, name }) => `${kind} ${name} of ${host}`))
    .slice(0, MAX_NAMED),
});

export interface RebuildParts {
  readonly rebuilds: RebuildsPort;
  readonly records: RecordPort;
}

type Rpc = 'beginRebuild' | 'getRebuild' | 'endRebuild' | 'offerEntries';

export const rebuildHandlers = ({
  rebuilds,
  records,
}: RebuildParts): Pick<Handlers<typeof CatalogServiceService>, Rpc> => {
  const administered = async (
    call: Call,
    deed: { readonly operation: string; readonly tenant: string },
    work: () => Promise<PlainRebuild>,
  ): Promise<{ rebuild: Rebuild }> => {
    const { operation, tenant } = deed;
    requireTenant(call, tenant);
    return recorded(records, call, { operation, tenants: [tenant], detail: {}, final: true }, async () => {
      const state = await work();
      return { result: { rebuild: rebuildOf(tenant, state) }, detail: detailOf(state) };
    });
  };
  return {
    beginRebuild: (call, { tenant, seconds }) =>
      administered(call, { operation: 'begin-rebuild', tenant }, () =>
        rebuilds.begin(tenant, adminOf(call).name, seconds),
      ),

    endRebuild: (call, { tenant, acceptMissing }) =>
      administered(call, { operation: 'end-rebuild', tenant }, () =>
        rebuilds.end(tenant, adminOf(call).name, acceptMissing),
      ),

    getRebuild: async (call, { tenant }) => {
      requireTenant(call, tenant);
      const { name } = adminOf(call);
      await recordCrossing(records, call, { operation: 'get-rebuild', tenants: [tenant] });
      return { rebuild: rebuildOf(tenant, await rebuilds.state(tenant, { kind: 'admin', name })) };
    },

    offerEntries: async (call, request) => {
      const { tenant, rebuild, complete } = request;
      requireTenant(call, tenant);
      if (rebuild.length !== REBUILD_ID_BYTES) throw invalid('rebuild', `must be ${REBUILD_ID_BYTES} bytes`);
      const host = hostOf(call).name;
      if (request.entries.some((entry) => entry.tenant !== tenant)) throw invalid('entries', 'of another tenant');
      const { stored, conflicts } = await rebuilds.offer(tenant, {
        host,
        rebuild: Buffer.from(rebuild).toString('hex'),
        entries: request.entries.map((entry) => ({
          item: itemOf(entry),
          entry: Buffer.from(CatalogEntry.encode(entry).finish()),
        })),
        uses: request.uses.map(({ keyId, version, made, leased }) => ({
          ...{ keyId, version, made: safe(made, 'uses.made'), leased: safe(leased, 'uses.leased') },
        })),
        complete,
      });
      return { stored, conflicts: conflicts.map((conflict) => conflictOf(host, conflict)) };
    },
  };
};
