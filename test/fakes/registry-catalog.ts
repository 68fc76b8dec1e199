// The catalogue of the fake registry: compare-and-set, positions with heads, watches and use leases, in memory.
import { createHash } from 'node:crypto';
import { type Server, type ServerUnaryCall, type ServerWritableStream, status } from '@grpc/grpc-js';
import { parseKeyRecord } from '../../proto/documents/key-record-parse.ts';
import {
  type CatalogChange,
  CatalogEntry,
  CatalogServiceService,
  EntryKind,
  type GetEntryRequest,
  type LeaseUsesRequest,
  type LeaseUsesResponse,
  type PutEntryRequest,
  type PutEntryResponse,
  type ReturnUsesRequest,
  type WatchCatalogRequest,
  type WatchCatalogResponse,
} from '../../proto/gen/mortise/registry/v1/catalog.ts';
import type { AppliedCatalog } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { type FakeHost, refusal, unary, unimplemented } from './registry-answers.ts';

type Watcher = ServerWritableStream<WatchCatalogRequest, WatchCatalogResponse>;
type Who = (call: { getAuthContext(): { sslPeerCertificate?: { subjectaltname?: string } } }) => {
  host: string;
  entry: FakeHost;
};

interface TenantCatalog {
  changes: CatalogChange[];
}

const nameOf = ({ entry }: CatalogEntry): string =>
  entry?.$case === 'kek'
    ? `kek/${entry.value.version}`
    : `key/${entry === undefined ? '' : parseKeyRecord(entry.value).keyId}`;

const revisionOf = ({ entry }: CatalogEntry): bigint =>
  entry?.$case === 'kek'
    ? entry.value.revision
    : BigInt(entry === undefined ? 0 : parseKeyRecord(entry.value).revision);

export class FakeCatalog {
  readonly #tenants = new Map<string, TenantCatalog>();
  readonly #watchers = new Map<Watcher, readonly string[]>();
  readonly #applied = new Map<string, number>();
  readonly #leases = new Map<string, LeaseUsesResponse & { what: string }>();
  readonly #leased = new Map<string, number>();
  /** While set, answers to PutEntry are lost after the entry was stored. */
  loseAnswers = false;

  /** While set, watchers are told of changes with another head than theirs. */
  breaksChain = false;

  /** Everything of a tenant after its `position`-th change is forgotten, as an old backup would have it. */
  takeBack(tenant: string, position: number): void {
    const catalog = this.#tenants.get(tenant);
    if (catalog !== undefined) catalog.changes = catalog.changes.slice(0, position);
  }

  position(tenant: string): number {
    return this.#tenants.get(tenant)?.changes.length ?? 0;
  }

  appliedBy(host: string, tenant: string): number {
    return this.#applied.get(`${host}/${tenant}`) ?? 0;
  }

  leasedOf(tenant: string, keyId: string, version: number): number {
    return this.#leased.get(`${tenant}/${keyId}/${version}`) ?? 0;
  }

  record(tenant: string, keyId: string) {
    const entry = this.#newest(tenant, `key/${keyId}`)?.entry?.entry;
    return entry?.$case === 'keyRecord' ? parseKeyRecord(entry.value) : undefined;
  }

  applied(host: string, catalogs: readonly AppliedCatalog[]): void {
    for (const { tenant, position } of catalogs) this.#applied.set(`${host}/${tenant}`, Number(position));
  }

  disconnect(): void {
    this.#watchers.clear();
  }

  serve(grpc: Server, who: Who): void {
    const admit = (call: Parameters<Who>[0], tenant: string): string => {
      const { host, entry } = who(call);
      if (!entry.tenants.includes(tenant))
        throw refusal('PERMISSION_DENIED', 'not its tenant', status.PERMISSION_DENIED);
      return host;
    };
    grpc.addService(CatalogServiceService, {
      putEntry: unary((call: ServerUnaryCall<PutEntryRequest, PutEntryResponse>) => {
        const answer = this.#put(call.request, admit(call, call.request.entry?.tenant ?? ''));
        if (this.loseAnswers) throw refusal('STORE_UNAVAILABLE', 'the answer was lost', status.UNAVAILABLE);
        return answer;
      }),
      getEntry: unary((call: ServerUnaryCall<GetEntryRequest, object>) => {
        const { tenant, kind, name } = call.request;
        admit(call, tenant);
        const change = this.#newest(tenant, `${kind === EntryKind.KEK ? 'kek' : 'key'}/${name}`);
        if (change === undefined) throw refusal('KEY_UNKNOWN', 'no such entry', status.NOT_FOUND);
        return { change };
      }),
      watchCatalog: (call: Watcher) => {
        try {
          const { entry } = who(call);
          this.#watch(call, entry.tenants);
        } catch (error) {
          call.emit('error', error);
        }
      },
      leaseUses: unary((call: ServerUnaryCall<LeaseUsesRequest, LeaseUsesResponse>) => {
        admit(call, call.request.tenant);
        return this.#lease(call.request);
      }),
      returnUses: unary((call: ServerUnaryCall<ReturnUsesRequest, object>) => {
        who(call);
        const lease = this.#leases.get(Buffer.from(call.request.leaseId).toString('hex'));
        if (lease === undefined) throw refusal('LEASE_UNKNOWN', 'no such lease', status.NOT_FOUND);
        this.#leased.set(lease.what, (this.#leased.get(lease.what) ?? 0) - call.request.unused);
        return {};
      }),
      listEntries: unimplemented,
      waitForHosts: unimplemented,
    });
  }

  #newest(tenant: string, name: string): CatalogChange | undefined {
    return this.#tenants.get(tenant)?.changes.findLast(({ entry }) => entry !== undefined && nameOf(entry) === name);
  }

  #put({ entry, expectedRevision }: PutEntryRequest, host: string): PutEntryResponse {
    if (entry === undefined) throw refusal('INVALID_REQUEST', 'no entry');
    const { tenant } = entry;
    const bytes = CatalogEntry.encode(entry).finish();
    const stored = this.#newest(tenant, nameOf(entry));
    const storedRevision = stored?.entry === undefined ? 0n : revisionOf(stored.entry);
    const isSame = stored?.entry !== undefined && Buffer.from(CatalogEntry.encode(stored.entry).finish()).equals(bytes);
    if (isSame) return { at: stored.at };
    if (expectedRevision === 0n && stored !== undefined) throw refusal('KEY_EXISTS', 'taken', status.ALREADY_EXISTS);
    if (storedRevision !== expectedRevision) throw refusal('KEY_CONFLICT', 'another change came first', status.ABORTED);
    if (revisionOf(entry) !== expectedRevision + 1n) throw refusal('RECORD_INVALID', 'not the next revision');
    const catalog = this.#tenants.get(tenant) ?? { changes: [] };
    this.#tenants.set(tenant, catalog);
    const before = catalog.changes.at(-1)?.at?.head ?? Buffer.alloc(32);
    const digest = createHash('sha256').update(bytes).digest();
    const head = createHash('sha256').update(before).update(digest).digest();
    const at = { tenant, position: BigInt(catalog.changes.length + 1), head };
    const change: CatalogChange = { at, entry, host, time: new Date() };
    catalog.changes.push(change);
    const told = this.breaksChain ? { ...change, at: { ...at, head: Buffer.alloc(32, 9) } } : change;
    for (const [watcher, tenants] of this.#watchers) {
      if (tenants.includes(tenant)) watcher.write({ ...EMPTY, tenant, changes: [told], at: told.at });
    }
    return { at };
  }

  #watch(call: Watcher, tenants: readonly string[]): void {
    const from = new Map(call.request.from.map((row) => [row.tenant, row]));
    for (const tenant of from.size > 0 ? from.keys() : tenants) {
      const changes = this.#tenants.get(tenant)?.changes ?? [];
      const asked = from.get(tenant);
      const at = changes.at(-1)?.at ?? { tenant, position: 0n, head: Buffer.alloc(0) };
      const position = Number(asked?.position ?? 0n);
      if (position === 0) {
        const newest = changes.filter(({ entry }, index) => {
          const name = nameOf(entry as CatalogEntry);
          return changes.findLastIndex((row) => nameOf(row.entry as CatalogEntry) === name) === index;
        });
        call.write({ ...EMPTY, tenant, changes: newest, at, snapshotBegin: true, snapshotComplete: true });
      } else if (!changes[position - 1]?.at?.head.equals(Buffer.from(asked?.head ?? []))) {
        call.write({ ...EMPTY, tenant, rewound: { registry: at, asked } });
      } else call.write({ ...EMPTY, tenant, changes: changes.slice(position), at, snapshotComplete: true });
    }
    this.#watchers.set(call, tenants);
    call.on('cancelled', () => this.#watchers.delete(call));
  }

  #lease({ leaseId, tenant, keyId, version, wanted }: LeaseUsesRequest): LeaseUsesResponse {
    const id = Buffer.from(leaseId).toString('hex');
    const known = this.#leases.get(id);
    if (known !== undefined) return known;
    const record = this.record(tenant, keyId);
    if (record === undefined) throw refusal('KEY_UNKNOWN', 'no such key', status.NOT_FOUND);
    const what = `${tenant}/${keyId}/${version}`;
    const hard = record.limits.hardUses ?? 0;
    const leased = this.#leased.get(what) ?? 0;
    const left = hard === 0 ? Number.MAX_SAFE_INTEGER : hard - leased;
    if (left <= 0) throw refusal('KEY_LIMIT', 'nothing is left');
    const granted = Math.min(wanted, Math.max(1, Math.floor(left / 16)));
    this.#leased.set(what, leased + granted);
    const answer = { granted, leased: BigInt(leased + granted), hardUses: BigInt(hard) };
    this.#leases.set(id, { ...answer, what });
    return answer;
  }
}

const EMPTY: WatchCatalogResponse = {
  tenant: '',
  changes: [],
  at: undefined,
  snapshotComplete: false,
  snapshotBegin: false,
  rewound: undefined,
  rebuilt: undefined,
};
