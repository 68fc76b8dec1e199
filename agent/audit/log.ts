// The audit log of this host: one RFC 6962 Merkle log of MACed records for each tenant (docs/spec/audit.md).
// Invariant: a record that was acknowledged is in the log, at one position, for ever, or `verify` says where it is not.
import { HOST_PATTERN } from '../../proto/documents/audit-record.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { AgentError } from '../errors.ts';
import { Appender } from './appender.ts';
import { Checkpoints } from './checkpoints.ts';
import { Handover } from './handover.ts';
import { readRecord } from './read-record.ts';
import { type ReceiptQuery, Receipts } from './receipts.ts';
import { SoonCheckpoints } from './soon.ts';
import { type Started, startEpoch, WHOLE_STORE } from './start.ts';
import { AuditStore } from './store.ts';
import { tailRecords } from './tail.ts';
import {
  type AuditEntry,
  type AuditHealth,
  type AuditLog,
  type AuditLogOptions,
  type AuditReceipt,
  DEFAULT_LIMITS,
  type OpenAuditLog,
  type SignedCheckpoint,
  type StoredRecord,
  type Verification,
} from './types.ts';
import { verifySource } from './verify.ts';

const RECEIPT_INTERVAL_MS = 1000; // a checkpoint more a second for a tenant, whatever is asked for
export const MAX_PAGE = 1000;

export const openAuditLog: OpenAuditLog = async (options) => {
  if (!HOST_PATTERN.test(options.host)) {
    throw new AgentError('AUDIT_UNAVAILABLE', { message: `"${options.host}" cannot name a host in audit event ids` });
  }
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const store = await AuditStore.open({ path: options.path, limits, events: options.events });
  try {
    return new Log(options, limits, store, await startEpoch(store, options));
  } catch (cause) {
    await store.close();
    throw cause;
  }
};

class Log implements AuditLog {
  readonly created: boolean;
  readonly publicJwk: PublicJwk;
  readonly #options: AuditLogOptions;
  readonly #store: AuditStore;
  readonly #started: Started;
  readonly #appender: Appender | undefined;
  readonly #checkpoints: Checkpoints | undefined;
  readonly #soon: SoonCheckpoints;
  readonly #receipts: Receipts | undefined;
  readonly #listeners = new Set<(tenant: string, size: number) => void>();
  /** Told of new checkpoints. */
  readonly #keepers = new Set<(tenant: string) => void>();
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;

  constructor(options: AuditLogOptions, limits: typeof DEFAULT_LIMITS, store: AuditStore, started: Started) {
    const { events, clock, host, token } = options;
    this.#options = options;
    this.#store = store;
    this.#started = started;
    this.created = started.created;
    this.publicJwk = token.publicJwk;
    const { state, generation, epoch, created } = started;
    for (const [tenant, { index, message }] of started.damaged) events.corrupt({ tenant, index, message });
    this.#soon = new SoonCheckpoints({
      intervalMs: RECEIPT_INTERVAL_MS,
      sign: (tenant) => this.checkpoint(tenant),
      closed: () => new AgentError('SHUTTING_DOWN'),
    });
    if (state === undefined) return;
    const soon = (tenant: string): Promise<void> => this.#soon.after(tenant);
    this.#receipts = new Receipts({ host, state, store, macKeyOf: started.macKeyOf, events, soon });
    this.#checkpoints = new Checkpoints({
      host,
      store,
      state,
      macKeyOf: started.macKeyOf,
      token,
      clock,
      events,
      everyRecords: limits.checkpointRecords,
      everySeconds: limits.checkpointSeconds,
      keep: (tenant, size, row) => {
        const group = state.stage();
        try {
          group.addCheckpoint(tenant, size, row);
          store.commit(group.finish(), { reserve: true });
          for (const listener of this.#keepers) listener(tenant);
        } catch (cause) {
          group.drop();
          throw cause;
        }
      },
    });
    this.#appender = new Appender({
      store,
      state,
      events,
      clock,
      journalBytes: limits.journalBytes,
      maxWaiting: limits.maxWaiting,
      durability: (tenant) => options.durability(tenant),
      committed: (tenants) => this.#announce(tenants),
    });
    const tenants = [...state.tenants()];
    const records = tenants.reduce((sum, tenant) => sum + state.size(tenant), 0);
    events.opened({ generation, epoch, created, tenants: tenants.length, records });
    for (const tenant of tenants) {
      if (state.size(tenant) > (state.tenant(tenant)?.checkpointSize ?? 0)) this.#checkpoints.noteAppended(tenant);
    }
  }

  append(entry: AuditEntry): Promise<string> {
    if (this.#closed !== undefined) {
      return Promise.reject(new AgentError('AUDIT_UNAVAILABLE', { message: 'the audit log is closed' }));
    }
    const damage = this.#damage(entry.tenant);
    if (damage !== undefined || this.#appender === undefined) return Promise.reject(damage);
    return this.#appender.append(entry);
  }

  size(tenant: string): number {
    return this.#started.state?.size(tenant) ?? 0;
  }

  tenants(): readonly string[] {
    return [...(this.#started.state?.tenants() ?? [])];
  }

  async list(
    tenant: string,
    query: { readonly from?: number; readonly limit: number; readonly newest?: boolean },
  ): Promise<StoredRecord[]> {
    const size = this.size(tenant);
    const limit = Math.min(Math.max(0, Math.floor(query.limit)), MAX_PAGE);
    const from = query.newest ? Math.max(0, size - limit) : Math.max(0, Math.floor(query.from ?? 0));
    const records: StoredRecord[] = [];
    for (let index = from; index < Math.min(size, from + limit); index += 1) {
      records.push(
        await readRecord(
          { store: this.#store, macKeyOf: this.#started.macKeyOf, events: this.#options.events },
          tenant,
          index,
        ),
      );
    }
    return records;
  }

  tail(
    tenant: string,
    { from, signal }: { readonly from: number; readonly signal: AbortSignal },
  ): AsyncGenerator<StoredRecord[]> {
    return tailRecords(this, tenant, { from, end: AbortSignal.any([signal, this.#closing.signal]) });
  }

  async checkpoint(tenant: string): Promise<SignedCheckpoint> {
    const damage = this.#damage(tenant);
    if (damage !== undefined || this.#checkpoints === undefined) throw damage;
    return await this.#checkpoints.newest(tenant);
  }

  async receipt(tenant: string, query: ReceiptQuery): Promise<AuditReceipt> {
    const damage = this.#damage(tenant);
    if (damage !== undefined || this.#receipts === undefined) throw damage;
    return await this.#receipts.of(tenant, query);
  }

  verify(tenant: string, trustedCheckpoint?: string): Promise<Verification> {
    return verifySource({
      source: this.#store,
      macKeyOf: this.#started.macKeyOf,
      checkpointKey: this.publicJwk,
      tenants: [tenant],
      ...(trustedCheckpoint && { trusted: [trustedCheckpoint] }),
    });
  }

  onAppend(listener: (tenant: string, size: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  handover(cosigner: () => string | undefined): Promise<Handover> {
    const { state, generation, epoch, macKeyOf } = this.#started;
    if (state === undefined) return Promise.reject(this.#damage('') ?? new AgentError('AUDIT_UNAVAILABLE'));
    const onChange = (listener: (tenant: string) => void): (() => void) => {
      const stop = this.onAppend(listener);
      this.#keepers.add(listener);
      return () => {
        stop();
        this.#keepers.delete(listener);
      };
    };
    const { host } = this.#options;
    const { publicJwk } = this;
    const store = this.#store;
    return Handover.open({ host, generation, epoch, state, store, macKeyOf, publicJwk, cosigner, onChange });
  }

  health(): AuditHealth {
    const corrupt = [...this.#started.damaged.keys()];
    const late = this.#checkpoints?.late;
    const unwritable = this.#closed !== undefined ? 'the audit log is closed' : this.#store.fault();
    const writable = unwritable === undefined && !this.#started.damaged.has(WHOLE_STORE);
    const why =
      unwritable ?? (corrupt.length > 0 ? `the audit log of ${corrupt.join(', ')} does not verify` : undefined);
    return { ok: why === undefined, writable, corrupt, ...(why && { why }), ...(late && { degraded: late }) };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#appender?.drained();
    this.#closing.abort();
    this.#soon.close();
    await this.#checkpoints?.signAll();
    this.#checkpoints?.stop();
    await this.#store.close();
  }

  #damage(tenant: string): AgentError | undefined {
    const damage = this.#started.damaged.get(WHOLE_STORE) ?? this.#started.damaged.get(tenant);
    if (damage === undefined) return undefined;
    return new AgentError('AUDIT_CORRUPT', {
      message: `the audit log takes no more records: ${damage.message}`,
      metadata: { index: String(damage.index) },
    });
  }

  #announce(tenants: readonly string[]): void {
    for (const tenant of tenants) {
      const size = this.size(tenant);
      for (const listener of this.#listeners) listener(tenant, size);
      this.#checkpoints?.noteAppended(tenant);
    }
  }
}
