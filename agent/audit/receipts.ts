// Receipts: proof for a caller that a record is in its tenant's log, by the newest checkpoint that covers it. Invariant:
// no receipt leaves that does not verify by the very key that the caller is told, and that key has the MAC of the log.
import { MAC_BYTES, parseEventId } from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { parseCheckpointText, parseSignedNote } from '../../proto/documents/checkpoint.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { formatProof, verifyReceipt } from '../../proto/documents/tlog-proof.ts';
import { AgentError } from '../errors.ts';
import { acknowledgedKey, readAcknowledged } from './acknowledged.ts';
import { locate } from './locate.ts';
import type { MacKeyOf } from './mac-keys.ts';
import { readCheckpoint } from './read-checkpoint.ts';
import { readRecord } from './read-record.ts';
import { recordKey } from './rows.ts';
import type { LogState } from './state.ts';
import { logTree, type TreeStore } from './tree.ts';
import type { AuditEvents, AuditReceipt } from './types.ts';

export interface ReceiptParts {
  readonly host: string;
  readonly state: LogState;
  readonly store: TreeStore;
  readonly macKeyOf: MacKeyOf;
  readonly events: Pick<AuditEvents, 'corrupt'>;
  /** Has a checkpoint signed that covers what is committed now. */
  soon(tenant: string): Promise<void>;
}

export interface ReceiptQuery {
  readonly eventId: string;
  /** Only a checkpoint that the registry has countersigned will do. */
  readonly countersigned: boolean;
  readonly waitMs: number;
  readonly signal: AbortSignal;
  /** Whether the caller may know of the record; asked before anything else is done. */
  mayRead(principal: string): boolean;
}

interface Covering {
  readonly note: string;
  readonly size: number;
  readonly publicJwk: PublicJwk;
  readonly countersigned: boolean;
}

const RETRY_MS = 1000;

export class Receipts {
  readonly #parts: ReceiptParts;
  /** By tenant: one walk of its tree at a time, so that the first makes for all what the others find. */
  readonly #walks = new Map<string, Promise<unknown>>();

  constructor(parts: ReceiptParts) {
    this.#parts = parts;
  }

  /** RECORD_UNKNOWN, RECEIPT_PENDING, AUDIT_CORRUPT. */
  async of(tenant: string, query: ReceiptQuery): Promise<AuditReceipt> {
    const { store, macKeyOf, events } = this.#parts;
    const index = this.#locate(tenant, query.eventId);
    const { record } = await readRecord({ store, macKeyOf, events }, tenant, index);
    if (record.eventId !== query.eventId || !query.mayRead(record.principal)) throw new AgentError('RECORD_UNKNOWN');
    const covering = await this.#covering(tenant, index, query);
    const { note, size, publicJwk, countersigned } = covering;
    const hashes = await this.#inclusion(tenant, { index, size, signal: query.signal });
    const bytes = store.get(recordKey(tenant, index)) as Buffer;
    const receipt = {
      proof: formatProof({ index, hashes, checkpoint: note }),
      record: Buffer.from(bytes.subarray(0, -MAC_BYTES)),
      mac: Buffer.from(bytes.subarray(-MAC_BYTES)),
    };
    try {
      verifyReceipt(receipt, { publicJwk });
    } catch (cause) {
      if (!(cause instanceof DocumentError)) throw cause;
      const message = `no receipt for position ${index}: ${cause.message}`;
      events.corrupt({ tenant, index, message });
      throw new AgentError('AUDIT_CORRUPT', { message, metadata: { index: String(index) }, cause });
    }
    return { ...receipt, publicJwk, countersigned };
  }

  #locate(tenant: string, eventId: string): number {
    const { host, state, store } = this.#parts;
    const id = parseEventId(eventId);
    const index = id.host === host ? locate(store, tenant, state.size(tenant), id) : undefined;
    if (index === undefined) throw new AgentError('RECORD_UNKNOWN');
    return index;
  }

  #inclusion(
    tenant: string,
    { index, size, signal }: { readonly index: number; readonly size: number; readonly signal: AbortSignal },
  ): Promise<Buffer[]> {
    const walk = (this.#walks.get(tenant) ?? Promise.resolve()).then(() => {
      signal.throwIfAborted();
      return logTree(this.#parts.store, tenant, signal).inclusion(index, size);
    });
    const settled = walk
      .catch(() => undefined) // the caller's to know
      .finally(() => {
        if (this.#walks.get(tenant) === settled) this.#walks.delete(tenant);
      });
    this.#walks.set(tenant, settled);
    return walk;
  }

  async #covering(tenant: string, index: number, query: ReceiptQuery): Promise<Covering> {
    const found = await this.#find(tenant, index, query.countersigned);
    if (found !== undefined) return found;
    const signing = this.#parts.soon(tenant);
    if (query.waitMs > 0) await settledWithin(signing, query.waitMs, query.signal);
    const later = await this.#find(tenant, index, query.countersigned);
    if (later !== undefined) return later;
    throw new AgentError('RECEIPT_PENDING', { retryAfterMs: RETRY_MS });
  }

  /** The newest countersigned checkpoint where it covers the position, else the newest of our own. */
  async #find(tenant: string, index: number, countersigned: boolean): Promise<Covering | undefined> {
    const { store, state, macKeyOf } = this.#parts;
    const size = state.tenant(tenant)?.checkpointSize ?? 0; // before anything is waited for: a newer one may follow
    const bytes = store.get(acknowledgedKey(tenant));
    const row = bytes && (await readAcknowledged(Buffer.from(bytes), macKeyOf));
    if (row?.tenant === tenant && row.generation === state.generation && row.checkpoint !== '') {
      const note = row.checkpoint;
      const covered = parseCheckpointText(parseSignedNote(note).text).size;
      const signed = covered > index ? await readCheckpoint(this.#parts, tenant, covered) : undefined;
      if (signed !== undefined) return { note, size: covered, publicJwk: signed.publicJwk, countersigned: true };
    }
    const own = size > index && !countersigned ? await readCheckpoint(this.#parts, tenant, size) : undefined;
    return own && { note: own.text, size, publicJwk: own.publicJwk, countersigned: false };
  }
}

/** Resolves when it has settled, when the time is over, or at the signal. A failure to sign is not the caller's to know. */
const settledWithin = (promise: Promise<void>, ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
    promise.then(done, done);
  });
