// The calls of CatalogService about a rebuild: proto to plain and back, and the record of who opened and ended one.
import {
  CatalogEntry,
  type CatalogServiceService,
  EntryKind,
  type Rebuild,
  type RebuildConflict,
  RebuildOutcome,
  RebuildState,
  type TokenObject,
} from '../../../proto/gen/mortise/registry/v1/catalog.ts';
import { invalid } from '../../errors.ts';
import { type RecordPort, recordCrossing, recorded } from '../audit-trail.ts';
import { adminOf, type Call, hostOf, requireTenant } from '../caller.ts';
import type { Handlers } from '../rpc.ts';
import { itemOf, safe } from './catalog-entry.ts';
import type { PlainConflict, PlainObject, PlainRebuild, RebuildsPort } from './catalog-ports.ts';

const REBUILD_ID_BYTES = 16;
const MAX_NAMED = 32;
const TOKEN_ID_BYTES = 16;
const MAX_TEXT = 128;
const MAX_REASON = 400;
const MAX_JWK_BYTES = 8 * 1024;

const conflictOf = (host: string, { kind, name, reason }: PlainConflict): RebuildConflict => ({
  kind: kind === 'kek' ? EntryKind.KEK : EntryKind.KEY,
  name,
  host,
  reason,
});

const rebuildOf = (tenant: string, { row, state, offers, missing, findings }: PlainRebuild): Rebuild => ({
  tenant,
  id: Buffer.from(row.id, 'hex'),
  state: RebuildState[state],
  openedBy: row.openedBy,
  openTime: new Date(row.openedAt),
  expireTime: new Date(row.expiresAt),
  endTime: row.endedAt === undefined ? undefined : new Date(row.endedAt),
  hosts: offers.map(({ host, complete, entries, stored, objects = [], tokenUnread = '' }) => ({
    ...{ host, complete, entries: BigInt(entries), stored: BigInt(stored) },
    ...{ objects: BigInt(objects.length), tokenUnread },
  })),
  missing: [...missing],
  conflicts: offers.flatMap(({ host, conflicts }) => conflicts.map((conflict) => conflictOf(host, conflict))),
  findings: findings.map(({ kind, outcome, versions, ...finding }) => ({
    ...{ ...finding, versions: [...versions] },
    kind: kind === 'kek' ? EntryKind.KEK : EntryKind.KEY,
    outcome: RebuildOutcome[outcome],
  })),
});

const detailOf = ({ row, offers, missing, findings }: PlainRebuild) => ({
  rebuild: row.id,
  hosts: offers.filter(({ complete }) => complete).length,
  missing: missing.slice(0, MAX_NAMED),
  conflicts: offers
    .flatMap(({ host, conflicts }) => conflicts.map(({ kind, name }) => `${kind} ${name} of ${host}`))
    .slice(0, MAX_NAMED),
  findings: findings
    .map(({ kind, name, versions, outcome }) => `${outcome} ${kind} ${[name, ...versions].join('/')}`)
    .slice(0, MAX_NAMED),
});

const PURPOSES = ['encrypt', 'sign', 'mac'] as const;

const objectOf = (object: TokenObject): PlainObject => {
  const { kind, version, tokenId, jose, algorithm, imported } = object;
  const name = kind === EntryKind.KEK ? String(version) : object.name;
  if (tokenId.length !== TOKEN_ID_BYTES || version < 1) throw invalid('objects', 'not a version with a CKA_ID');
  if ([name, jose, algorithm].some((text) => text.length > MAX_TEXT)) throw invalid('objects', 'a text is too long');
  const purpose = PURPOSES.find((row) => row === object.purpose);
  const publicJwk = jwkOf(Buffer.from(object.publicJwk));
  return {
    ...{ kind: kind === EntryKind.KEK ? ('kek' as const) : ('key' as const), name, version, jose, algorithm, imported },
    tokenId: Buffer.from(tokenId).toString('hex'),
    ...(purpose !== undefined && { purpose }),
    ...(publicJwk !== undefined && { publicJwk }),
    ...(object.fault !== '' && { fault: object.fault.slice(0, MAX_REASON) }),
  };
};

/** Whether it is a public JWK is for the parser of records to say. */
const jwkOf = (bytes: Buffer): Readonly<Record<string, string>> | undefined => {
  if (bytes.length === 0) return undefined;
  if (bytes.length > MAX_JWK_BYTES) throw invalid('objects.public_jwk', 'too long');
  try {
    return JSON.parse(bytes.toString());
  } catch {
    throw invalid('objects.public_jwk', 'not JSON');
  }
};

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
        objects: request.objects.map(objectOf),
        tokenUnread: request.tokenUnread.slice(0, MAX_REASON),
      });
      return { stored, conflicts: conflicts.map((conflict) => conflictOf(host, conflict)) };
    },
  };
};
