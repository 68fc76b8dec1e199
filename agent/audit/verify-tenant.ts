// Walks one tenant's log from its first record to the end that its head names, with the checkpoints beside it.
import { type AuditRecord, decodeAuditRecord, MAC_BYTES, parseEventId } from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { type Checkpoint, verifyCheckpoint } from '../../proto/documents/checkpoint.ts';
import { Frontier, leafHash } from '../../proto/documents/merkle.ts';
import { Placement, type SealedRecord } from './placement.ts';
import {
  type CheckpointRow,
  checkpointKey,
  checkpointPrefix,
  decodeCheckpointRow,
  originOf,
  positionOf,
  recordKey,
  recordPrefix,
} from './rows.ts';
import { MAX_FINDINGS, type TenantVerification } from './types.ts';
import { type Findings, isNamedByHost, type MacCheck, type Snapshot, type VerifyOptions } from './verification.ts';

const YIELD_EVERY = 256; // records between two looks at the event loop: some 5 ms

type Options = Omit<VerifyOptions, 'trusted'> & {
  readonly snapshot: Snapshot;
  readonly macs: MacCheck;
  readonly findings: Findings;
  readonly trusted: readonly Checkpoint[];
};

export const verifyTenant = (options: Options): Promise<TenantVerification> => new Walk(options).run();

/** Compares event ids: epoch first, then sequence. */
const isAfter = (a: readonly [number, number], b: readonly [number, number]): boolean =>
  a[0] > b[0] || (a[0] === b[0] && a[1] > b[1]);

class Walk {
  readonly #options: Options;
  readonly #tenant: string;
  readonly #size: number;
  readonly #placement: Placement;
  readonly #frontier = new Frontier();
  /** The last two event ids in order, to tell which of two neighbours is out of place. */
  #last: readonly [number, number] = [-1, -1];
  #beforeLast: readonly [number, number] = [-1, -1];
  /** A record is wrong, so every root behind it is wrong too and says nothing new. */
  #damaged = false;
  #macsKnown = true;
  /** How far the records were moved up behind a gap. */
  #shift = 0;
  #checkpoints = 0;
  #newest: { size: number; signedAt: number } | undefined;
  #lastGood = 0;

  constructor(options: Options) {
    this.#options = options;
    this.#tenant = options.snapshot.tenant;
    this.#placement = new Placement({ source: options.source, macs: options.macs, tenant: this.#tenant });
    this.#size = options.snapshot.head?.value.frontier.size ?? Number.POSITIVE_INFINITY;
  }

  async run(): Promise<TenantVerification> {
    await this.#checkHead();
    const checkpoints = this.#options.source.keys(checkpointPrefix(this.#tenant))[Symbol.iterator]();
    let pending = checkpoints.next();
    const marks = [...this.#options.trusted].sort((a, b) => a.size - b.size);
    const reach = async (size: number): Promise<void> => {
      for (; !pending.done && positionOf(pending.value) <= size; pending = checkpoints.next()) {
        await this.#checkCheckpoint(pending.value);
      }
      while (marks[0] !== undefined && marks[0].size <= size) this.#checkTrusted(marks.shift() as Checkpoint);
    };
    await reach(0);
    let expected = 0;
    for (const key of this.#options.source.keys(recordPrefix(this.#tenant))) {
      const index = positionOf(key);
      if (index >= this.#size) break;
      if (index > expected) this.#missing(expected, index - 1);
      await this.#checkRecord(index, this.#options.source.get(key));
      expected = index + 1;
      await reach(expected);
      if (expected % YIELD_EVERY === 0) await this.#breathe(expected);
    }
    this.#checkEnd(expected);
    // Checkpoints beyond the end: of records that came meanwhile, or of records that were taken away.
    for (; !pending.done; pending = checkpoints.next()) this.#checkBeyond(positionOf(pending.value), expected);
    for (const mark of marks) this.#truncated(expected, `the trusted checkpoint is of ${mark.size} records`);
    const { size } = this.#frontier;
    const newest = this.#newest;
    return {
      tenant: this.#tenant,
      size: expected,
      root: this.#frontier.root(),
      checkpoints: this.#checkpoints,
      ...(newest && size > 0 && { newestCheckpoint: newest }),
    };
  }

  async #checkHead(): Promise<void> {
    const { snapshot, macs, findings } = this.#options;
    const { head, headless, beyond } = snapshot;
    if (head === undefined) return findings.add('LOG_TRUNCATED', this.#tenant, 0, headless ?? 'there is no head');
    const { size } = head.value.frontier;
    const fits = await macs.fits(head.epoch, head.body, head.mac);
    if (fits === undefined) this.#macsKnown = false;
    if (fits === false) findings.add('LOG_FORKED', this.#tenant, size, 'the head of the log was edited');
    else if (isNamedByHost(snapshot) === false) {
      this.#truncated(size, "the host's head names a later state of this log: it was taken back");
    }
    if (beyond) findings.add('LOG_FORKED', this.#tenant, size, 'there are records behind the end of the log');
  }

  #truncated(index: number, message: string): void {
    this.#options.findings.add('LOG_TRUNCATED', this.#tenant, index, message);
  }

  #missing(from: number, to: number): void {
    this.#damaged = true;
    const what = from === to ? 'the record is missing' : `the records ${from} to ${to} are missing`;
    this.#options.findings.add('RECORD_MISSING', this.#tenant, from, what);
  }

  #edited(index: number, message: string): void {
    this.#damaged = true;
    this.#options.findings.add('RECORD_EDITED', this.#tenant, index, message);
  }

  async #checkRecord(index: number, bytes: Buffer | undefined): Promise<void> {
    if (bytes === undefined) return this.#missing(index, index);
    const [body, mac] = [bytes.subarray(0, -MAC_BYTES), bytes.subarray(-MAC_BYTES)];
    let record: AuditRecord;
    try {
      record = decodeAuditRecord(body).record;
    } catch (cause) {
      if (!(cause instanceof DocumentError)) throw cause;
      return this.#edited(index, `the record cannot be read: ${cause.message}`);
    }
    const { host, epoch, sequence } = parseEventId(record.eventId);
    const home = this.#options.snapshot.host?.host;
    if (record.tenant !== this.#tenant || (home !== undefined && host !== home)) {
      this.#edited(index, `the record is one of ${host}/${record.tenant}`);
      return;
    }
    const sealed = { epoch, body, mac };
    const fits = await this.#placement.fitsAt(sealed, index + this.#shift);
    if (fits === undefined) {
      this.#macsKnown = false;
      this.#checkOrder(index, [epoch, sequence]);
    } else if (!fits) return await this.#place(index, sealed, isAfter([epoch, sequence], this.#last));
    this.#last = [epoch, sequence];
    if (!this.#damaged) this.#frontier.append(leafHash(bytes));
  }

  /** Says what became of a record whose MAC does not fit its position: it fits another, or none near. */
  async #place(index: number, sealed: SealedRecord, inOrder: boolean): Promise<void> {
    // A search costs; past the findings that are kept nobody would see its result.
    const search = this.#options.findings.count < MAX_FINDINGS;
    const home = search ? await this.#placement.homeOf(index, sealed) : undefined;
    if (home === undefined && inOrder) return this.#edited(index, 'the MAC does not fit the record');
    this.#damaged = true;
    if (home !== undefined && home > index && (await this.#placement.holds(index + 1, home + 1))) {
      this.#missing(index, home - 1);
      this.#shift = home - index;
      return;
    }
    const message = home === undefined ? 'the record is out of place' : `this is the record of position ${home}`;
    this.#options.findings.add('RECORD_REORDERED', this.#tenant, index, message);
  }

  /** Without MAC keys, event ids alone tell the order. */
  #checkOrder(index: number, id: readonly [number, number]): void {
    if (isAfter(id, this.#last)) {
      this.#beforeLast = this.#last;
      return;
    }
    this.#damaged = true;
    const message = 'the record is not in the order of event ids';
    // Where this one fits behind the one before the last, the last was out of place.
    const lastWasWrong = isAfter(id, this.#beforeLast);
    this.#options.findings.add('RECORD_REORDERED', this.#tenant, lastWasWrong ? index - 1 : index, message);
  }

  async #checkCheckpoint(key: Buffer): Promise<void> {
    const size = positionOf(key);
    const invalid = (message: string): void =>
      this.#options.findings.add('CHECKPOINT_INVALID', this.#tenant, size, message);
    const bytes = this.#options.source.get(key);
    if (bytes === undefined) return; // in the listing and gone: a new one is not taken away by the log itself
    let row: CheckpointRow;
    let checkpoint: Checkpoint;
    try {
      const { value, epoch, body, mac } = decodeCheckpointRow(Buffer.from(bytes));
      row = value;
      checkpoint = verifyCheckpoint(row.text, this.#options.checkpointKey ?? row.publicJwk);
      if ((await this.#options.macs.fits(epoch, body, mac)) === false) return invalid('the MAC does not fit');
    } catch (cause) {
      if (!(cause instanceof DocumentError)) throw cause;
      return invalid(`the checkpoint does not verify: ${cause.message}`);
    }
    this.#checkpoints += 1;
    if (checkpoint.size !== size) return invalid('the checkpoint is of another size');
    if (!this.#isOurs(checkpoint)) return invalid('the checkpoint is of another log');
    const previous = this.#newest?.size ?? 0;
    if (row.previousSize > previous) {
      this.#options.findings.add('CHECKPOINT_INVALID', this.#tenant, row.previousSize, 'the checkpoint is missing');
    }
    this.#newest = { size, signedAt: row.signedAt };
    this.#compareRoot(checkpoint, 'the checkpoint');
  }

  #isOurs({ origin }: Checkpoint): boolean {
    const { host } = this.#options.snapshot;
    return host === undefined || origin === originOf(host.host, this.#tenant, host.generation);
  }

  #compareRoot({ size, root }: Checkpoint, name: string): void {
    if (this.#damaged || this.#frontier.size !== size) return;
    if (this.#frontier.root().equals(root)) {
      this.#lastGood = size;
      return;
    }
    this.#damaged = true;
    const range = `${name} of ${size} records has another root`;
    if (this.#macsKnown) this.#options.findings.add('LOG_FORKED', this.#tenant, size, range);
    else {
      const message = `${range}: a record from ${this.#lastGood} to ${size - 1} was changed (no MAC key to say which)`;
      this.#options.findings.add('RECORD_EDITED', this.#tenant, this.#lastGood, message);
    }
  }

  #checkTrusted(checkpoint: Checkpoint): void {
    const { findings } = this.#options;
    if (!this.#isOurs(checkpoint)) {
      const message = `the trusted checkpoint is of another log, ${checkpoint.origin}`;
      findings.add('LOG_FORKED', this.#tenant, 0, message);
      return;
    }
    if (this.#damaged || this.#frontier.size !== checkpoint.size) return; // what is wrong before it is reported already
    if (this.#frontier.root().equals(checkpoint.root)) return;
    const message = `the log is not the one of the trusted checkpoint of ${checkpoint.size} records`;
    findings.add('LOG_FORKED', this.#tenant, checkpoint.size, message);
  }

  #checkEnd(verified: number): void {
    const head = this.#options.snapshot.head?.value;
    if (head === undefined) return;
    if (verified + this.#shift < this.#size) this.#truncated(verified, `the head names ${this.#size} records`);
    else this.#compareRoot({ origin: '', size: this.#size, root: head.frontier.root() }, 'the head');
    const key = checkpointKey(this.#tenant, head.checkpointSize);
    if (head.checkpointSize > 0 && this.#options.source.get(key) === undefined) {
      const message = 'the newest checkpoint is missing';
      this.#options.findings.add('CHECKPOINT_INVALID', this.#tenant, head.checkpointSize, message);
    }
  }

  #checkBeyond(size: number, verified: number): void {
    if (size <= this.#size) return; // what is missing before the end is reported already
    const covered = this.#options.source.get(recordKey(this.#tenant, size - 1)) !== undefined;
    if (!covered) this.#truncated(verified, `a checkpoint of ${size} records is stored`);
  }

  async #breathe(verified: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    setImmediate(resolve);
    await promise;
    this.#options.onProgress?.({ tenant: this.#tenant, verified, size: this.#size });
  }
}
