// The log as it is handed in to a registry: what it has to read, and what the registry has acknowledged. Invariant: the
// acknowledged size of a tenant is on the disk under the MAC of the log, so that nobody makes the agent believe that
// records are safe elsewhere; a row that does not verify counts as nothing acknowledged, and all is handed in again.
import type { KeyObject } from 'node:crypto';
import { decodeAuditRecord, MAC_BYTES, parseEventId } from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { verifyCheckpoint } from '../../proto/documents/checkpoint.ts';
import { parseCosigner, verifyCosignature } from '../../proto/documents/cosignature.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { AgentError } from '../errors.ts';
import { ACKNOWLEDGED_PREFIX, acknowledgedKey, encodeAcknowledged, readAcknowledged } from './acknowledged.ts';
import type { Put } from './journal.ts';
import type { MacKeyOf } from './mac-keys.ts';
import { checkpointKey, decodeCheckpointRow, originOf, recordKey, tenantOf } from './rows.ts';
import type { LogState } from './state.ts';

export interface HandoverRecord {
  /** Canonical form with detail (docs/spec/audit.md section 3). */
  readonly record: Buffer;
  readonly mac: Buffer;
  readonly epoch: number;
}

export interface HandoverLog {
  readonly tenant: string;
  readonly origin: string;
  readonly size: number;
  readonly acknowledged: number;
}

interface Acknowledged {
  readonly size: number;
  /** The newest checkpoint with the registry's countersignature; empty before the first. */
  readonly checkpoint: string;
}

const NOTHING: Acknowledged = { size: 0, checkpoint: '' };
const MAX_RECORDS = 256; // read in one go: some milliseconds of the event loop, while calls wait
const MAX_BYTES = 512 * 1024;

export interface HandoverOptions {
  readonly host: string;
  readonly generation: number;
  readonly epoch: number;
  readonly state: LogState;
  readonly store: {
    get(key: Buffer): Buffer | undefined;
    keys(prefix: Buffer): Iterable<Buffer>;
    commit(puts: readonly Put[], options?: { reserve?: boolean }): void;
  };
  readonly macKeyOf: MacKeyOf;
  readonly publicJwk: PublicJwk;
  /** Verifier key of the registry's countersignatures; undefined: none is known, and none is believed. */
  readonly cosigner: () => string | undefined;
  readonly onChange: (listener: (tenant: string) => void) => () => void;
}

export class Handover {
  readonly #options: HandoverOptions;
  readonly #key: KeyObject;
  readonly #acknowledged: Map<string, Acknowledged>;
  /** By tenant: sizes of checkpoints, ascending, down to where they were asked for. */
  readonly #checkpoints = new Map<
    string,
    { readonly above: number; readonly upTo: number; readonly sizes: number[] }
  >();

  private constructor(options: HandoverOptions, key: KeyObject, acknowledged: Map<string, Acknowledged>) {
    this.#options = options;
    this.#key = key;
    this.#acknowledged = acknowledged;
  }

  static async open(options: HandoverOptions): Promise<Handover> {
    const { store, macKeyOf, epoch, generation } = options;
    const acknowledged = new Map<string, Acknowledged>();
    for (const key of store.keys(ACKNOWLEDGED_PREFIX)) {
      const bytes = store.get(key);
      const row = bytes && (await readAcknowledged(Buffer.from(bytes), macKeyOf));
      const tenant = tenantOf(key);
      if (row?.tenant === tenant && row.generation === generation) acknowledged.set(tenant, row);
    }
    return new Handover(options, await macKeyOf(epoch), acknowledged);
  }

  get publicJwk(): PublicJwk {
    return this.#options.publicJwk;
  }

  logs(): readonly HandoverLog[] {
    return [...this.#options.state.tenants()].map((tenant) => this.#log(tenant));
  }

  log(tenant: string): HandoverLog | undefined {
    return this.#options.state.tenant(tenant) && this.#log(tenant);
  }

  /** The newest checkpoint of a tenant that the registry has countersigned; empty where there is none. */
  countersigned(tenant: string): string {
    return this.#acknowledged.get(tenant)?.checkpoint ?? '';
  }

  macKey(epoch: number): Promise<KeyObject> {
    return this.#options.macKeyOf(epoch);
  }

  /** Records from a position on, as many as fit one batch. */
  async read(tenant: string, from: number): Promise<readonly HandoverRecord[]> {
    const size = this.#options.state.size(tenant);
    const records: HandoverRecord[] = [];
    let bytes = 0;
    for (let index = from; index < size && records.length < MAX_RECORDS; index += 1) {
      const row = this.#record(tenant, index);
      bytes += row.record.length + MAC_BYTES;
      if (bytes > MAX_BYTES && records.length > 0) break;
      records.push(row);
    }
    return records;
  }

  /** Checkpoints of sizes above `after` up to `upTo`, oldest first. */
  checkpoints(
    tenant: string,
    after: number,
    upTo: number,
  ): readonly { readonly size: number; readonly text: string }[] {
    const due = this.#sizes(tenant, after).filter((size) => size > after && size <= upTo);
    return due.slice(0, MAX_CHECKPOINTS).map((size) => ({ size, text: this.#checkpoint(tenant, size).text }));
  }

  /** Rejects where the checkpoint is not one of this log, countersigned by the registry that was pinned. */
  async acknowledge(tenant: string, size: number, checkpoint: string): Promise<void> {
    const before = this.#acknowledged.get(tenant) ?? NOTHING;
    if (checkpoint !== '' && checkpoint !== before.checkpoint) this.#verify(tenant, size, checkpoint);
    const next = { size, checkpoint: checkpoint === '' ? before.checkpoint : checkpoint };
    if (next.size === before.size && next.checkpoint === before.checkpoint) return;
    const { generation, epoch, store } = this.#options;
    const value = encodeAcknowledged(this.#key, { tenant, generation, epoch, ...next });
    store.commit([{ key: acknowledgedKey(tenant), value }], { reserve: true });
    this.#acknowledged.set(tenant, next);
  }

  onChange(listener: (tenant: string) => void): () => void {
    return this.#options.onChange(listener);
  }

  #log(tenant: string): HandoverLog {
    const { host, generation, state } = this.#options;
    return {
      tenant,
      origin: originOf(host, tenant, generation),
      size: state.size(tenant),
      acknowledged: this.#acknowledged.get(tenant)?.size ?? 0,
    };
  }

  #record(tenant: string, index: number): HandoverRecord {
    const bytes = this.#options.store.get(recordKey(tenant, index));
    try {
      if (bytes === undefined) throw new DocumentError('the record is missing');
      const record = Buffer.from(bytes.subarray(0, -MAC_BYTES));
      const { epoch } = parseEventId(decodeAuditRecord(record).record.eventId);
      return { record, mac: Buffer.from(bytes.subarray(-MAC_BYTES)), epoch };
    } catch (cause) {
      if (!(cause instanceof DocumentError)) throw cause;
      const message = `the audit record at position ${index} of ${tenant} cannot be handed in`;
      throw new AgentError('AUDIT_CORRUPT', { message, cause });
    }
  }

  #checkpoint(tenant: string, size: number): { text: string; previousSize: number } {
    const bytes = this.#options.store.get(checkpointKey(tenant, size));
    if (bytes === undefined) throw new AgentError('AUDIT_CORRUPT', { message: `a checkpoint of ${tenant} is missing` });
    return decodeCheckpointRow(Buffer.from(bytes)).value;
  }

  /** Sizes of checkpoints above `after`: each row names the one before it, so the newest leads to all. */
  #sizes(tenant: string, after: number): readonly number[] {
    const newest = this.#options.state.tenant(tenant)?.checkpointSize ?? 0;
    const known = this.#checkpoints.get(tenant);
    const usable = known !== undefined && known.above <= after && known.upTo <= newest;
    const floor = usable ? known.upTo : after;
    const found: number[] = [];
    for (let size = newest; size > floor; size = this.#checkpoint(tenant, size).previousSize) found.push(size);
    const sizes = [...(usable ? known.sizes : []), ...found.reverse()].filter((size) => size > after);
    this.#checkpoints.set(tenant, { above: after, upTo: newest, sizes });
    return sizes;
  }

  #verify(tenant: string, size: number, checkpoint: string): void {
    const { cosigner, publicJwk } = this.#options;
    const pinned = cosigner();
    try {
      if (pinned === undefined) throw new DocumentError('no cosigner is pinned');
      const { origin, size: covered, root } = verifyCheckpoint(checkpoint, publicJwk);
      if (origin !== this.#log(tenant).origin || covered > size)
        throw new DocumentError('it is of another log or size');
      const own = verifyCheckpoint(this.#checkpoint(tenant, covered).text, publicJwk);
      if (!own.root.equals(root)) throw new DocumentError('its root is not that of the log');
      verifyCosignature(checkpoint, parseCosigner(pinned));
    } catch (cause) {
      if (!(cause instanceof DocumentError || cause instanceof AgentError)) throw cause;
      const message = `the countersigned checkpoint of ${tenant} is refused: ${cause.message}`;
      throw new AgentError('AUDIT_CORRUPT', { message, cause });
    }
  }
}

const MAX_CHECKPOINTS = 32; // more than a batch takes, so that its sender sees that there are more
