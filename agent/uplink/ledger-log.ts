// One log on its way to the ledger: what was sent, what was acknowledged, and the next batch. Invariant: records leave in
// order of position, each after the MAC key of its epoch, and no more is in memory than one batch.
import type { RecordBatch } from '../../proto/gen/mortise/registry/v1/ledger.ts';
import type { LedgerRecordBytes, LedgerSource } from './ports.ts';

const MAX_CHECKPOINTS = 16;

export interface NextBatch {
  readonly batch: RecordBatch;
  /** Epochs whose MAC keys the batch needs. */
  readonly epochs: readonly number[];
}

export class LedgerLog {
  readonly tenant: string;
  readonly origin: string;
  readonly #source: LedgerSource;
  /** Undefined until the registry has said where the log goes on. */
  #next: number | undefined;
  #checkpoint = 0;
  #batches = 0;
  #refused = false;

  constructor(options: { readonly tenant: string; readonly origin: string; readonly source: LedgerSource }) {
    this.tenant = options.tenant;
    this.origin = options.origin;
    this.#source = options.source;
  }

  /** Batches sent and not answered. */
  get inFlight(): number {
    return this.#batches;
  }

  get isRefused(): boolean {
    return this.#refused;
  }

  get isOpen(): boolean {
    return this.#next !== undefined && !this.#refused;
  }

  /** The registry has this many records: the answer to the opening. */
  open(size: number): void {
    this.#next = size;
  }

  /** A batch was answered. */
  acknowledged(): void {
    this.#batches = Math.max(0, this.#batches - 1);
  }

  refuse(): void {
    this.#refused = true;
    this.#batches = 0;
  }

  /** The checkpoint with the registry's countersignature: older ones need not be sent any more. */
  countersigned(size: number): void {
    this.#checkpoint = Math.max(this.#checkpoint, size);
  }

  /** Undefined where nothing waits. Counts as sent. */
  async next(): Promise<NextBatch | undefined> {
    const from = this.#next;
    const size = this.#source.log(this.tenant)?.size ?? 0;
    if (from === undefined || this.#refused) return undefined;
    let records: readonly LedgerRecordBytes[] = from < size ? await this.#source.read(this.tenant, from) : [];
    const reach = from + records.length;
    const due = this.#source.checkpoints(this.tenant, this.#checkpoint, reach);
    const sent = due.slice(0, MAX_CHECKPOINTS);
    const last = sent.at(-1)?.size ?? 0;
    // So many checkpoints in one batch: the records behind the last of them wait for the next.
    if (due.length > sent.length && last > from) records = records.slice(0, last - from);
    if (records.length === 0 && sent.length === 0) return undefined;
    this.#next = from + records.length;
    this.#checkpoint = Math.max(this.#checkpoint, last);
    this.#batches += 1;
    const batch = {
      origin: this.origin,
      from: BigInt(from),
      records: records.map(({ record, mac }) => ({ record, mac })),
      checkpoints: sent.map(({ text }) => text),
    };
    return { batch, epochs: [...new Set(records.map(({ epoch }) => epoch))] };
  }
}
