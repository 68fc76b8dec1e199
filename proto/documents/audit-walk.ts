// Walks the records and checkpoints of one log in order and says what is wrong with it (docs/spec/audit.md section 7).
// Invariant: what is not covered by a verified checkpoint of the walk is never called proven.
import { type AuditRecord, decodeAuditRecord, parseEventId } from './audit-record.ts';
import { DocumentError } from './canonical.ts';
import { type Checkpoint, verifyCheckpoint } from './checkpoint.ts';
import { type Cosigner, verifyCosignature } from './cosignature.ts';
import type { PublicJwk } from './key-record.ts';
import { Frontier, leafHash } from './merkle.ts';

export interface LogFinding {
  readonly code: 'RECORD_EDITED' | 'RECORD_REORDERED' | 'LOG_TRUNCATED' | 'CHECKPOINT_INVALID' | 'LOG_FORKED';
  readonly origin: string;
  readonly index: number;
  readonly message: string;
}

export interface WalkOptions {
  readonly origin: string;
  /** Key of the host's checkpoints. */
  readonly publicJwk: PublicJwk;
  /** Where given, every checkpoint must have its countersignature. */
  readonly cosigner?: Cosigner | undefined;
  /** Checkpoints of this log that somebody kept elsewhere. */
  readonly trusted?: readonly Checkpoint[];
  readonly from?: { readonly size: number; readonly frontier: readonly Buffer[] };
  found(finding: LogFinding): void;
}

export class LogWalk {
  readonly #options: WalkOptions;
  readonly #frontier: Frontier;
  readonly #trusted: Checkpoint[];
  readonly #from: number;
  #last: readonly [number, number] = [-1, -1];
  /** A record is wrong, so every root behind it is wrong too and says nothing new. */
  #damaged = false;
  #proven: number | undefined;
  #checkpoints = 0;

  constructor(options: WalkOptions) {
    this.#options = options;
    const { size = 0, frontier = [] } = options.from ?? {};
    this.#from = size;
    this.#frontier = new Frontier(size, frontier);
    this.#trusted = [...(options.trusted ?? [])].sort((a, b) => a.size - b.size);
    if (size === 0) this.#proven = 0; // an empty beginning needs no proof
    for (const { size: kept } of this.#trusted) {
      if (kept < size) this.#find('LOG_TRUNCATED', kept, `the records before ${size} are not here`);
    }
    this.#compareTrusted();
  }

  get size(): number {
    return this.#frontier.size;
  }

  get checkpoints(): number {
    return this.#checkpoints;
  }

  /** Records up to here are proven complete, from the first of the walk on; undefined where nothing is. */
  get proven(): number | undefined {
    return this.#damaged ? undefined : this.#proven;
  }

  get root(): Buffer {
    return this.#frontier.root();
  }

  /** The record, where it is one of this log. */
  add(bytes: Buffer, mac: Buffer): AuditRecord | undefined {
    const index = this.#frontier.size;
    if (index === this.#from && this.#proven === undefined && !this.#damaged) this.#unfounded();
    const record = this.#read(bytes, index);
    this.#frontier.append(leafHash(Buffer.concat([bytes, mac])));
    this.#compareTrusted();
    return record;
  }

  /** A checkpoint of as many records as were walked. */
  checkpoint(text: string): void {
    const { publicJwk, cosigner, origin } = this.#options;
    const { size } = this.#frontier;
    try {
      const checkpoint = verifyCheckpoint(text, publicJwk);
      if (checkpoint.origin !== origin) throw new DocumentError('it is of another log');
      if (checkpoint.size !== size)
        throw new DocumentError(`it is of ${checkpoint.size} records and stands at ${size}`);
      if (cosigner !== undefined) verifyCosignature(text, cosigner);
      this.#checkpoints += 1;
      this.#compare(checkpoint, 'a checkpoint');
    } catch (cause) {
      if (!(cause instanceof DocumentError)) throw cause;
      this.#find('CHECKPOINT_INVALID', size, `the checkpoint does not verify: ${cause.message}`);
    }
  }

  /** Something that only the caller can see is wrong with a record. */
  edited(index: number, message: string): void {
    this.#damaged = true;
    this.#find('RECORD_EDITED', index, message);
  }

  end(): void {
    for (const { size } of this.#trusted) {
      if (size > this.#frontier.size) this.#find('LOG_TRUNCATED', this.size, `a kept checkpoint is of ${size} records`);
    }
    if (this.#frontier.size === this.#from && this.#proven === undefined && !this.#damaged) this.#unfounded();
  }

  /** A log that begins behind records says by a checkpoint that they were those. */
  #unfounded(): void {
    this.#damaged = true;
    this.#find('CHECKPOINT_INVALID', this.#from, 'no checkpoint says what came before the first record');
  }

  #read(bytes: Buffer, index: number): AuditRecord | undefined {
    try {
      const { record } = decodeAuditRecord(bytes);
      const { host, epoch, sequence } = parseEventId(record.eventId);
      if (!this.#options.origin.startsWith(`${host}/${record.tenant}/`)) {
        throw new DocumentError(`it is one of ${host}/${record.tenant}`);
      }
      const [lastEpoch, lastSequence] = this.#last;
      if (epoch < lastEpoch || (epoch === lastEpoch && sequence <= lastSequence)) {
        this.#damaged = true;
        this.#find('RECORD_REORDERED', index, 'the record is not in the order of event ids');
      }
      this.#last = [epoch, sequence];
      return record;
    } catch (cause) {
      if (!(cause instanceof DocumentError)) throw cause;
      this.edited(index, `not a record of this log: ${cause.message}`);
      return undefined;
    }
  }

  #compareTrusted(): void {
    for (const kept of this.#trusted) {
      if (kept.size === this.#frontier.size) this.#compare(kept, 'a kept checkpoint');
    }
  }

  #compare(checkpoint: Checkpoint, what: string): void {
    if (this.#damaged) return;
    if (checkpoint.root.equals(this.#frontier.root())) {
      this.#proven = checkpoint.size;
      return;
    }
    this.#find('LOG_FORKED', this.#proven ?? this.#from, `${what} of ${checkpoint.size} records is over other records`);
    this.#damaged = true;
  }

  #find(code: LogFinding['code'], index: number, message: string): void {
    this.#options.found({ code, origin: this.#options.origin, index, message });
  }
}
