// Ends the life of keys whose undo window is over. Invariant: the record says DESTROYED, durably, before the first
// object goes, so that no clock or crash can bring a key back without its material; each object is destroyed, again if
// need be, before the record forgets it; and both ends are in the audit log.
import { randomUUID } from 'node:crypto';
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';
import { asAgentError } from '../errors.ts';
import type { Catalog } from './catalog.ts';
import type { TenantKeks } from './keks.ts';
import type { TokenObjects } from './objects.ts';
import { housekeepingCall, type KeysToken, type TokenCall } from './token.ts';
import type { UseCounters } from './uses.ts';

export interface ReaperEvents {
  /** The key material is gone. */
  destroyed(event: { tenant: string; keyId: string; objects: number }): void;
  /** It could not be destroyed now (token down, audit log full, …) and is tried again. */
  destructionDelayed(event: { tenant: string; keyId: string; cause: unknown }): void;
}

/** The audit log, as far as the reaper writes to it. Rejects where the record is not durable. */
export interface ReaperAudit {
  append(event: {
    readonly tenant: string;
    readonly principal: string;
    readonly key: string;
    readonly algorithm: string;
    readonly operation: string;
    readonly outcome: string;
    readonly correlationId: string;
    readonly detail: Readonly<Record<string, unknown>>;
  }): Promise<unknown>;
}

const RETRY_MS = 30_000;
const LONGEST_WAIT_MS = 3_600_000; // also bounds how late a step of the clock is noticed

const hasMaterial = (record: KeyRecord): boolean => record.versions.some((row) => row.tokenId !== undefined);

export class Reaper {
  readonly #catalog: Catalog;
  readonly #objects: TokenObjects;
  readonly #keks: TenantKeks;
  readonly #uses: UseCounters;
  readonly #token: KeysToken;
  readonly #audit: ReaperAudit;
  readonly #clock: Clock;
  readonly #events: ReaperEvents;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  /** Destroyed, but the audit log has not taken it yet. */
  readonly #unrecorded = new Set<string>();
  /** Aborted by `close`: a token that hangs must not hold the shutdown. */
  readonly #closing = new AbortController();
  #again = false;
  #started = false;

  constructor(options: {
    readonly catalog: Catalog;
    readonly objects: TokenObjects;
    readonly keks: TenantKeks;
    readonly uses: UseCounters;
    readonly token: KeysToken;
    readonly audit: ReaperAudit;
    readonly clock: Clock;
    readonly events: ReaperEvents;
  }) {
    this.#catalog = options.catalog;
    this.#objects = options.objects;
    this.#keks = options.keks;
    this.#uses = options.uses;
    this.#token = options.token;
    this.#audit = options.audit;
    this.#clock = options.clock;
    this.#events = options.events;
    this.#catalog.watch((record) => {
      if (this.#started && record.state === 'PENDING_DESTRUCTION') this.#schedule(0);
    });
  }

  /** Runs now and from then on whenever a window ends. Call it when the token is there. */
  start(): void {
    this.#started = true;
    this.#schedule(0);
  }

  /** One run over everything that is due. Never rejects. */
  run(): Promise<void> {
    if (this.#running !== undefined) {
      this.#again = true;
      return this.#running;
    }
    const running = this.#runOnce().finally(() => {
      this.#running = undefined;
    });
    this.#running = running;
    return running;
  }

  async close(): Promise<void> {
    this.#started = false;
    clearTimeout(this.#timer);
    this.#closing.abort();
    await this.#running;
  }

  async #runOnce(): Promise<void> {
    let left: number;
    do {
      this.#again = false;
      left = (await this.#objects.sweep(this.#call())) + (await this.#keks.sweep(this.#call()));
      for (const record of this.#due()) if (!(await this.#reap(record))) left += 1;
    } while (this.#again);
    this.#schedule(left > 0 ? RETRY_MS : LONGEST_WAIT_MS);
  }

  #call(): TokenCall {
    return housekeepingCall(this.#clock, this.#closing.signal);
  }

  #due(): readonly KeyRecord[] {
    const now = this.#clock.now();
    return this.#all().filter(
      (row) =>
        (row.state === 'PENDING_DESTRUCTION' && (row.destroyAt ?? 0) <= now) ||
        (row.state === 'DESTROYED' && (hasMaterial(row) || this.#unrecorded.has(`${row.tenant}/${row.keyId}`))),
    );
  }

  #all(): readonly KeyRecord[] {
    return this.#catalog.tenants().flatMap((tenant) => this.#catalog.records(tenant));
  }

  #schedule(waitMs: number): void {
    clearTimeout(this.#timer);
    if (!this.#started) return;
    const now = this.#clock.now();
    const ends = this.#all().flatMap((row) =>
      row.state === 'PENDING_DESTRUCTION' ? [(row.destroyAt ?? now) - now] : [],
    );
    const next = Math.max(0, Math.min(waitMs, ...ends.filter((end) => end > 0)));
    this.#timer = setTimeout(() => void this.run(), next).unref();
  }

  async #reap(due: KeyRecord): Promise<boolean> {
    const { tenant, keyId } = due;
    try {
      this.#catalog.requireChangeable(tenant); // before an intent goes to the audit log, again and again
      const record = due.state === 'DESTROYED' ? due : await this.#markDestroyed(due);
      const tokenIds = record.versions.flatMap((row) => row.tokenId ?? []);
      const call = (): TokenCall => ({ ...this.#call(), owner: tenant });
      for (const tokenId of tokenIds) await this.#token.destroy(tokenId, call());
      this.#unrecorded.add(`${tenant}/${keyId}`);
      await this.#append(record, 'ok', { previousState: 'PENDING_DESTRUCTION', newState: 'DESTROYED' });
      this.#unrecorded.delete(`${tenant}/${keyId}`);
      if (tokenIds.length > 0) await this.#forgetObjects(record);
      this.#uses.forget(record);
      this.#events.destroyed({ tenant, keyId, objects: tokenIds.length });
      return true;
    } catch (cause) {
      // Another host of the tenant was faster; what it has done is here soon.
      if (asAgentError(cause).code === 'KEY_CONFLICT') return false;
      this.#events.destructionDelayed({ tenant, keyId, cause: asAgentError(cause) });
      return false;
    }
  }

  /** From here on there is no way back. Wrapped blobs go at once; objects of the token in the next step. */
  async #markDestroyed(due: KeyRecord): Promise<KeyRecord> {
    await this.#append(due, 'intent', { previousState: due.state, newState: 'DESTROYED' });
    const { stateBefore: _, ...kept } = due;
    const versions = due.versions.map(({ wrapped: _blob, ...row }) => ({ ...row, state: 'DESTROYED' as const }));
    const next: KeyRecord = { ...kept, state: 'DESTROYED', versions, ...this.#changed(due) };
    await this.#catalog.replace(next);
    return next;
  }

  async #forgetObjects(record: KeyRecord): Promise<void> {
    const versions = record.versions.map(({ tokenId: _, ...row }) => row);
    await this.#catalog.replace({ ...record, versions, ...this.#changed(record) });
  }

  #changed(record: KeyRecord): { updatedAt: number; revision: number } {
    return { updatedAt: this.#clock.now(), revision: record.revision + 1 };
  }

  #append(record: KeyRecord, outcome: 'intent' | 'ok', detail: Readonly<Record<string, unknown>>): Promise<unknown> {
    return this.#audit.append({
      tenant: record.tenant,
      principal: '-',
      key: record.keyId,
      algorithm: '-',
      operation: 'destroy-key',
      outcome,
      correlationId: randomUUID(),
      detail: { ...detail, versions: record.versions.length, reason: 'the undo window is over' },
    });
  }
}
