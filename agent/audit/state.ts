// Where every tenant's log stands, in memory, and how a group of entries moves it. Invariant: the state is that of the
// last commit the store took; a group that is not taken leaves no trace in it.
import type { KeyObject } from 'node:crypto';
import {
  type AuditRecord,
  formatEventId,
  isAuditTenant,
  MAC_BYTES,
  MAX_DETAIL_BYTES,
  RECORD_ROOM,
  writeAuditRecord,
} from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { Frontier } from '../../proto/documents/merkle.ts';
import { HEAD_TAG_BYTES, HeadList } from './head-list.ts';
import type { Put } from './journal.ts';
import {
  type CheckpointRow,
  checkpointKey,
  encodeCheckpointRow,
  encodeHead,
  encodeHost,
  HOST_KEY,
  headKey,
  recordKey,
  writeMac,
} from './rows.ts';
import type { AuditEntry } from './types.ts';

export interface TenantState {
  readonly frontier: Frontier;
  checkpointSize: number;
}

/** What a tenant's state was before a group. */
interface Saved {
  readonly size: number;
  readonly nodes: Buffer;
  readonly checkpointSize: number;
}

const saved = ({ frontier, checkpointSize }: TenantState): Saved => ({
  size: frontier.size,
  nodes: Buffer.from(frontier.bytes),
  checkpointSize,
});

const restored = ({ size, nodes, checkpointSize }: Saved): TenantState => ({
  frontier: Frontier.of(size, nodes),
  checkpointSize,
});

export interface Start {
  readonly host: string;
  readonly generation: number;
  readonly epoch: number;
  readonly key: KeyObject;
  readonly tenants: ReadonlyMap<string, TenantState>;
  /** Tags of heads that did not verify: kept as they are, so that the damage stays visible. */
  readonly kept: ReadonlyMap<string, Buffer>;
}

export class LogState {
  readonly #start: Start;
  readonly #tenants: Map<string, TenantState>;
  readonly #heads: HeadList;
  #sequence = 0;
  /** 0x00 of the leaf hash, then the record, then its MAC: hashed where it lies. */
  readonly #scratch = Buffer.alloc(1 + RECORD_ROOM + MAC_BYTES);

  constructor(start: Start) {
    this.#start = start;
    this.#tenants = new Map(start.tenants);
    this.#heads = new HeadList(start.kept);
  }

  get generation(): number {
    return this.#start.generation;
  }

  tenants(): IterableIterator<string> {
    return this.#tenants.keys();
  }

  tenant(tenant: string): Readonly<TenantState> | undefined {
    return this.#tenants.get(tenant);
  }

  size(tenant: string): number {
    return this.#tenants.get(tenant)?.frontier.size ?? 0;
  }

  /** The heads of all tenants under this start's key; the first commit of an epoch. */
  renewHeads(): Put[] {
    const puts = [...this.#tenants.keys()].map((tenant) => this.#head(tenant));
    return [...puts, this.#host()];
  }

  /** A group under way. Nothing else may be staged before it ends in `keep` or `drop`. */
  stage(): Group {
    const before = new Map<string, Saved | undefined>();
    let restoreHeads = (): void => undefined;
    const sequence = this.#sequence;
    const puts: Put[] = [];
    const touch = (tenant: string): TenantState => {
      const known = this.#tenants.get(tenant);
      if (!before.has(tenant)) before.set(tenant, known && saved(known));
      if (known !== undefined) return known;
      const made = { frontier: new Frontier(), checkpointSize: 0 };
      this.#tenants.set(tenant, made);
      return made;
    };
    return {
      add: (entry, time) => {
        // Encoded before anything moves: an entry that cannot be a record leaves the group as it was.
        const { length, eventId } = this.#encode(entry, time, this.size(entry.tenant));
        const { frontier } = touch(entry.tenant);
        puts.push({
          key: recordKey(entry.tenant, frontier.size),
          value: Buffer.from(this.#scratch.subarray(1, length)),
        });
        frontier.appendHashOf(this.#scratch.subarray(0, length));
        this.#sequence += 1;
        return { length, eventId };
      },
      addCheckpoint: (tenant, size, row) => {
        const state = touch(tenant);
        const value = { ...row, previousSize: state.checkpointSize, epoch: this.#start.epoch };
        puts.push({ key: checkpointKey(tenant, size), value: encodeCheckpointRow(this.#start.key, value) });
        state.checkpointSize = size;
      },
      finish: () => {
        restoreHeads = this.#heads.save();
        for (const tenant of before.keys()) puts.push(this.#head(tenant));
        puts.push(this.#host());
        return puts;
      },
      tenants: () => [...before.keys()],
      drop: () => {
        restoreHeads();
        this.#sequence = sequence;
        for (const [tenant, state] of before) {
          if (state === undefined) this.#tenants.delete(tenant);
          else this.#tenants.set(tenant, restored(state));
        }
      },
    };
  }

  #encode(entry: AuditEntry, time: string, index: number): { length: number; eventId: string } {
    const { host, epoch, key } = this.#start;
    if (!this.#tenants.has(entry.tenant) && !isAuditTenant(entry.tenant)) throw new DocumentError('not a tenant id');
    const eventId = formatEventId({ host, epoch, sequence: this.#sequence });
    const record: AuditRecord = { ...entry, time, eventId, detail: detailText(entry.detail) };
    const { end } = writeAuditRecord(this.#scratch, 1, record);
    // The MAC input of `macInput`, in place; the MAC then takes the room of the index.
    const inputEnd = this.#scratch.writeBigUInt64BE(BigInt(index), end);
    const length = writeMac(this.#scratch, end, key, this.#scratch.subarray(1, inputEnd));
    return { length, eventId };
  }

  #head(tenant: string): Put {
    const { frontier, checkpointSize } = this.#tenants.get(tenant) as TenantState;
    const { epoch, key } = this.#start;
    const value = encodeHead(key, { tenant, epoch, checkpointSize, frontier });
    this.#heads.set(tenant, Buffer.from(value.subarray(-MAC_BYTES, HEAD_TAG_BYTES - MAC_BYTES)));
    return { key: headKey(tenant), value };
  }

  #host(): Put {
    const { host, generation, epoch, key } = this.#start;
    const value = encodeHost(key, { host, generation, epoch, sequence: this.#sequence }, this.#heads);
    return { key: HOST_KEY, value };
  }
}

export interface Group {
  /** Answers the record's length and event id; throws DocumentError where the entry cannot be a record. */
  add(entry: AuditEntry, time: string): { readonly length: number; readonly eventId: string };
  addCheckpoint(tenant: string, size: number, row: Omit<CheckpointRow, 'previousSize' | 'epoch'>): void;
  /** All puts of the group, with the heads that go with them. */
  finish(): Put[];
  tenants(): string[];
  /** Takes the state back to where it was before the group. */
  drop(): void;
}

const detailText = (detail: Readonly<Record<string, unknown>> | undefined): string => {
  if (detail === undefined) return '';
  let text: string;
  try {
    text = JSON.stringify(detail).toWellFormed();
  } catch (cause) {
    throw new DocumentError(`detail is not JSON (${(cause as Error).message})`);
  }
  if (text.length * 3 <= MAX_DETAIL_BYTES || Buffer.byteLength(text) <= MAX_DETAIL_BYTES) return text;
  // The record matters more than its detail.
  return JSON.stringify({
    omitted: `detail of ${Buffer.byteLength(text)} bytes is over the limit of ${MAX_DETAIL_BYTES}`,
  });
};
