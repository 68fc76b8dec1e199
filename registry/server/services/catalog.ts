// CatalogService: proto to plain and back.
import {
  type CatalogChange,
  CatalogEntry,
  type CatalogPosition,
  type CatalogServiceService,
  EntryKind,
  RebuildState,
  type WatchCatalogRequest,
  WatchCatalogResponse,
} from '../../../proto/gen/mortise/registry/v1/catalog.ts';
import { invalid, RegistryError } from '../../errors.ts';
import { recordCrossing } from '../audit-trail.ts';
import { type Call, hostOf, requireTenant } from '../caller.ts';
import { merge } from '../merge.ts';
import { Encoded } from '../message.ts';
import { nextPage, pageSize, pageStart } from '../pages.ts';
import type { Handlers } from '../rpc.ts';
import { itemOf, safe } from './catalog-entry.ts';
import type { Actor, CatalogPort, EntryName, EntryRow, FollowStep, Position, WaitForHosts } from './catalog-ports.ts';
import { type RebuildParts, rebuildHandlers } from './catalog-rebuild.ts';

const MAX_TENANTS = 10_000;
const MAX_WANTED = 1_000_000;
const LEASE_ID_BYTES = 16;
const HEAD_BYTES = 32;
const MAX_PAGE_BYTES = 3 * 1024 * 1024;

const actorOf = ({ caller }: Call): Actor => {
  if (caller === undefined) throw new RegistryError('UNAUTHENTICATED');
  return { kind: caller.kind, name: caller.name };
};

const kindOf = (kind: EntryKind): 'key' | 'kek' | undefined => {
  if (kind === EntryKind.UNSPECIFIED) return undefined;
  return kind === EntryKind.KEK ? 'kek' : 'key';
};

const positionOf = (tenant: string, { position, head }: Position): CatalogPosition => ({
  tenant,
  position: BigInt(position),
  head,
});

const changeOf = (tenant: string, row: EntryRow): CatalogChange => ({
  at: positionOf(tenant, row),
  entry: CatalogEntry.decode(row.entry),
  host: row.host,
  time: new Date(row.changedAt),
});

const messageOf = (tenant: string, step: FollowStep, asked: Position): WatchCatalogResponse => {
  const empty = {
    tenant,
    changes: [],
    at: undefined,
    snapshotComplete: false,
    snapshotBegin: false,
    rewound: undefined,
    rebuilt: undefined,
  };
  if (step.kind === 'rewound') {
    return { ...empty, rewound: { registry: positionOf(tenant, step.at), asked: positionOf(tenant, asked) } };
  }
  if (step.kind === 'rebuilt') {
    const state = step.open ? RebuildState.OPEN : RebuildState.ENDED;
    return { ...empty, rebuilt: { rebuild: Buffer.from(step.id, 'hex'), state } };
  }
  const changes = step.rows.map((row) => changeOf(tenant, row));
  if (step.kind === 'changes') {
    return { ...empty, changes, at: positionOf(tenant, step.at), snapshotComplete: step.caughtUp };
  }
  const at = step.ends && positionOf(tenant, step.ends);
  return { ...empty, changes, at, snapshotComplete: at !== undefined, snapshotBegin: step.begins };
};

/** Changes are the same object for everyone who is told them, and serialized once. */
const encodings = (): ((tenant: string, step: FollowStep, asked: Position) => WatchCatalogResponse | Encoded) => {
  const known = new WeakMap<FollowStep, Encoded>();
  return (tenant, step, asked) => {
    const encoded = known.get(step);
    if (encoded !== undefined || step.kind !== 'changes') return encoded ?? messageOf(tenant, step, asked);
    const made = new Encoded(WatchCatalogResponse.encode(messageOf(tenant, step, asked)).finish());
    known.set(step, made);
    return made;
  };
};

/** As many rows from the start as fit a message, at least one. */
const fitting = (rows: readonly EntryRow[]): readonly EntryRow[] => {
  let bytes = 0;
  const end = rows.findIndex(({ entry }, at) => {
    bytes += entry.length;
    return at > 0 && bytes > MAX_PAGE_BYTES;
  });
  return end < 0 ? rows : rows.slice(0, end);
};

type Watched = { readonly tenant: string; readonly from: Position & { readonly rebuild?: string } };

const watched = (call: Call, { from, rebuilds }: WatchCatalogRequest): readonly Watched[] => {
  if (from.length > MAX_TENANTS) throw invalid('from', `at most ${MAX_TENANTS}`);
  if (from.length === 0) {
    return hostOf(call).tenants.map((tenant) => ({ tenant, from: { position: 0, head: Buffer.alloc(0) } }));
  }
  if (new Set(from.map(({ tenant }) => tenant)).size < from.length)
    throw invalid('from', 'a tenant stands there twice');
  return from.map(({ tenant, position, head }) => {
    requireTenant(call, tenant);
    if (head.length !== (position === 0n ? 0 : HEAD_BYTES)) throw invalid('from.head', `must be ${HEAD_BYTES} bytes`);
    const id = rebuilds[tenant];
    const rebuild = id === undefined ? {} : { rebuild: Buffer.from(id).toString('hex') };
    return { tenant, from: { position: safe(position, 'from.position'), head: Buffer.from(head), ...rebuild } };
  });
};

export interface CatalogServiceParts extends RebuildParts {
  readonly catalog: CatalogPort;
  readonly waitForHosts: WaitForHosts;
}

const reading = ({ catalog, records }: CatalogServiceParts) => ({
  getEntry: async (call: Call, { tenant, kind, name }: { tenant: string; kind: EntryKind; name: string }) => {
    requireTenant(call, tenant);
    await recordCrossing(records, call, {
      operation: 'get-entry',
      tenants: [tenant],
      detail: { entry: name.slice(0, 64) },
    });
    const row = await catalog.get(actorOf(call), tenant, { kind: kindOf(kind) ?? 'key', name });
    return { change: changeOf(tenant, row) };
  },

  listEntries: async (call: Call, request: Parameters<Handlers<typeof CatalogServiceService>['listEntries']>[1]) => {
    const { tenant } = request;
    requireTenant(call, tenant);
    await recordCrossing(records, call, { operation: 'list-entries', tenants: [tenant] });
    const kind = kindOf(request.kind);
    const question = ['entries', tenant, kind];
    const start = pageStart(request, question);
    const limit = pageSize(request);
    const after: EntryName | undefined = start && JSON.parse(start);
    const query = { limit, ...(kind && { kind }), ...(after && { after }) };
    const { rows, at } = await catalog.list(actorOf(call), tenant, query);
    const fits = fitting(rows);
    const last = rows.length < limit && fits.length === rows.length ? undefined : fits.at(-1);
    const token = last && JSON.stringify({ kind: last.kind, name: last.name });
    return {
      changes: fits.map((row) => changeOf(tenant, row)),
      nextPageToken: nextPage(token, question),
      at: positionOf(tenant, at),
    };
  },
});

export const catalogHandlers = (
  parts: CatalogServiceParts,
  encode = encodings(),
): Handlers<typeof CatalogServiceService> => ({
  ...reading(parts),
  ...rebuildHandlers(parts),

  putEntry: async (call, { entry, expectedRevision }) => {
    if (entry === undefined) throw invalid('entry', 'is needed');
    const { tenant } = entry;
    requireTenant(call, tenant);
    const offer = {
      tenant,
      host: hostOf(call).name,
      item: itemOf(entry),
      entry: Buffer.from(CatalogEntry.encode(entry).finish()),
      expectedRevision: safe(expectedRevision, 'expected_revision'),
    };
    return { at: positionOf(tenant, await parts.catalog.put(offer)) };
  },

  watchCatalog: async function* (call, request): AsyncGenerator<WatchCatalogResponse | Encoded> {
    const actor = actorOf(call);
    const sources = watched(call, request).map(async function* ({ tenant, from }) {
      for await (const step of parts.catalog.follow(actor, tenant, from, call.signal)) yield encode(tenant, step, from);
    });
    yield* merge(sources, call.signal);
  },

  waitForHosts: async function* (call, request) {
    const { tenant } = request;
    requireTenant(call, tenant);
    const position = safe(request.position, 'position');
    await recordCrossing(parts.records, call, { operation: 'wait-for-hosts', tenants: [tenant] });
    for await (const { applied, missing } of parts.waitForHosts({ tenant, position }, call.signal)) {
      yield {
        applied: [...applied],
        missing: missing.map((row) => ({
          host: row.host,
          position: BigInt(row.position),
          connected: row.connected,
          lastSeen: row.lastSeen === undefined ? undefined : new Date(row.lastSeen),
        })),
      };
    }
  },

  leaseUses: async (call, { leaseId, tenant, keyId, version, wanted }) => {
    requireTenant(call, tenant);
    if (leaseId.length !== LEASE_ID_BYTES) throw invalid('lease_id', `must be ${LEASE_ID_BYTES} bytes`);
    if (wanted < 1 || wanted > MAX_WANTED) throw invalid('wanted', `must be from 1 to ${MAX_WANTED}`);
    const id = Buffer.from(leaseId).toString('hex');
    const lease = await parts.catalog.lease(tenant, { id, host: hostOf(call).name, keyId, version, wanted });
    return { granted: lease.granted, leased: BigInt(lease.leased), hardUses: BigInt(lease.hardUses) };
  },

  returnUses: async (call, { leaseId, unused }) => {
    if (leaseId.length !== LEASE_ID_BYTES) throw invalid('lease_id', `must be ${LEASE_ID_BYTES} bytes`);
    await parts.catalog.endLease({ id: Buffer.from(leaseId).toString('hex'), host: hostOf(call).name, unused });
    return {};
  },
});
