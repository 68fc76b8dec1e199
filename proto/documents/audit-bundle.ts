// An audit bundle: JSON lines with everything that an offline verifier needs of a tenant's logs (docs/spec/audit.md).
// Invariant: the verifier believes nothing in it but what verifies by keys that its caller has pinned; without a pinned
// key it says so.
import { type StatedCertificate, StatedCertificates } from './audit-certificates.ts';
import { type LogFinding, LogWalk } from './audit-walk.ts';
import { DocumentError } from './canonical.ts';
import { type Checkpoint, parseCheckpointText, parseSignedNote } from './checkpoint.ts';
import type { Cosigner } from './cosignature.ts';
import type { PublicJwk } from './key-record.ts';
import { HASH_BYTES, MAX_FRONTIER } from './merkle.ts';

export const BUNDLE_SCHEMA = 'mortise.audit-bundle/v1';
/** A record of the largest size, or a note of the largest size, as a line. */
export const MAX_BUNDLE_LINE = 256 * 1024;
const MAX_FINDINGS = 100;

export type BundleLine =
  | { readonly schema: typeof BUNDLE_SCHEMA; readonly tenant: string; readonly cosigner: string }
  | { readonly log: { origin: string; publicJwk: PublicJwk; size: number; frontier: readonly string[] } }
  | { readonly record: string; readonly mac: string }
  | { readonly checkpoint: string }
  | { readonly end: { readonly origin: string; readonly size: number } };

export const bundleLine = (line: BundleLine): string => `${JSON.stringify(line)}\n`;

export interface BundleOptions {
  /** Host → the key that its checkpoints must be signed by; undefined: the one in the bundle, which proves only consistency. */
  keyOf?(host: string): PublicJwk | undefined;
  /** Where given, each checkpoint must be countersigned by it. */
  readonly cosigner?: Cosigner;
  /** Signed notes that the caller kept. */
  readonly trusted?: readonly string[];
}

export interface BundleLog {
  readonly origin: string;
  readonly from: number;
  readonly size: number;
  readonly checkpoints: number;
  /** Whether the caller has pinned the key of its host. */
  readonly keyIsPinned: boolean;
  /** Up to here the records are proven complete by a checkpoint; undefined where nothing is. */
  readonly proven: number | undefined;
}

export interface BundleReport {
  readonly intact: boolean;
  readonly tenant: string;
  readonly cosignerIsPinned: boolean;
  readonly logs: readonly BundleLog[];
  readonly findings: readonly LogFinding[];
  readonly findingCount: number;
  /** What the starts of agents in the bundle say; only the log of `_platform` has them. */
  readonly certificates: readonly StatedCertificate[];
}

const object = (value: unknown): Readonly<Record<string, unknown>> => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new DocumentError('not an object');
  return value as Readonly<Record<string, unknown>>;
};

const text = (value: unknown): string => {
  if (typeof value !== 'string') throw new DocumentError('a member is missing, or no text');
  return value;
};

const bytes = (value: unknown): Buffer => {
  const decoded = Buffer.from(text(value), 'base64');
  if (decoded.toString('base64') !== value) throw new DocumentError('not canonical base64');
  return decoded;
};

const frontierOf = (value: unknown): Buffer[] => {
  if (!Array.isArray(value) || value.length > MAX_FRONTIER) throw new DocumentError('not a frontier');
  const nodes = value.map(bytes);
  if (nodes.some((node) => node.length !== HASH_BYTES)) throw new DocumentError('not a frontier');
  return nodes;
};

const sizeOf = (value: unknown): number => {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new DocumentError('not a size');
  return value;
};

/** What a line was taken for: a record and its MAC, as the log has them, or a checkpoint. Nothing else in it counts. */
export type Taken = { readonly entry: Buffer } | { readonly checkpoint: string };

interface Current {
  readonly origin: string;
  readonly from: number;
  readonly walk: LogWalk;
  readonly keyIsPinned: boolean;
}

/** Takes a bundle line by line, in constant memory. Throws DocumentError where it is no bundle. */
export class BundleVerifier {
  readonly #options: BundleOptions;
  readonly #trusted: readonly Checkpoint[];
  readonly #logs: BundleLog[] = [];
  readonly #findings: LogFinding[] = [];
  readonly #certificates = new StatedCertificates();
  #count = 0;
  #tenant: string | undefined;
  #current: Current | undefined;

  constructor(options: BundleOptions = {}) {
    this.#options = options;
    // The caller vouches for what it kept: a checkpoint of its own needs no signature here.
    this.#trusted = (options.trusted ?? []).map((note) => parseCheckpointText(parseSignedNote(note).text));
  }

  /** Answers what it took where that is part of a log; findings tell whether it verifies. */
  line(line: string): Taken | undefined {
    if (line.length > MAX_BUNDLE_LINE) throw new DocumentError('a line is longer than the limit');
    let parsed: unknown;
    try {
      parsed = JSON.parse(line);
    } catch {
      throw new DocumentError('a line is not JSON');
    }
    const json = object(parsed);
    const walk = this.#current?.walk;
    if (this.#tenant === undefined) this.#begin(json);
    else if ('log' in json) this.#open(object(json['log']));
    else if ('end' in json) this.#close(object(json['end']));
    else if (walk === undefined) throw new DocumentError('a line outside of a log');
    else if ('record' in json) return this.#add(walk, bytes(json['record']), bytes(json['mac']));
    else return this.#addCheckpoint(walk, text(json['checkpoint']));
    return undefined;
  }

  end(): BundleReport {
    if (this.#tenant === undefined) throw new DocumentError('the bundle is empty');
    if (this.#current !== undefined) this.#cutOff();
    for (const { origin, size } of this.#trusted) {
      if (!this.#logs.some((log) => log.origin === origin)) {
        this.#found({
          code: 'LOG_TRUNCATED',
          origin,
          index: 0,
          message: `the log of a kept checkpoint (${size}) is gone`,
        });
      }
    }
    return {
      intact: this.#count === 0,
      tenant: this.#tenant,
      cosignerIsPinned: this.#options.cosigner !== undefined,
      logs: this.#logs,
      findings: this.#findings,
      findingCount: this.#count,
      certificates: this.#certificates.report(),
    };
  }

  #add(walk: LogWalk, record: Buffer, mac: Buffer): Taken {
    const read = walk.add(record, mac);
    if (read !== undefined) this.#certificates.add(read);
    return { entry: Buffer.concat([record, mac]) };
  }

  #addCheckpoint(walk: LogWalk, checkpoint: string): Taken {
    walk.checkpoint(checkpoint);
    return { checkpoint };
  }

  #begin(json: Readonly<Record<string, unknown>>): void {
    if (json['schema'] !== BUNDLE_SCHEMA) throw new DocumentError(`not a bundle of ${BUNDLE_SCHEMA}`);
    this.#tenant = text(json['tenant']);
  }

  #open(json: Readonly<Record<string, unknown>>): void {
    if (this.#current !== undefined) this.#cutOff();
    const origin = text(json['origin']);
    if (origin.split('/')[1] !== this.#tenant) throw new DocumentError('a log of another tenant');
    if (this.#logs.some((log) => log.origin === origin)) throw new DocumentError('a log is given twice');
    const from = sizeOf(json['size']);
    const pinned = this.#options.keyOf?.(origin.split('/')[0] as string);
    const walk = new LogWalk({
      origin,
      publicJwk: pinned ?? (object(json['publicJwk']) as PublicJwk),
      cosigner: this.#options.cosigner,
      trusted: this.#trusted.filter((checkpoint) => checkpoint.origin === origin),
      from: { size: from, frontier: frontierOf(json['frontier']) },
      found: (finding) => this.#found(finding),
    });
    this.#current = { origin, from, walk, keyIsPinned: pinned !== undefined };
  }

  #close(json: Readonly<Record<string, unknown>>): void {
    const current = this.#current;
    if (current === undefined || json['origin'] !== current.origin) throw new DocumentError('the end of another log');
    if (sizeOf(json['size']) !== current.walk.size) {
      const message = `${current.walk.size} records are here, of ${json['size']}`;
      this.#found({ code: 'LOG_TRUNCATED', origin: current.origin, index: current.walk.size, message });
    }
    this.#finish();
  }

  #cutOff(): void {
    const { origin, walk } = this.#current as Current;
    this.#found({ code: 'LOG_TRUNCATED', origin, index: walk.size, message: 'the bundle is cut off in this log' });
    this.#finish();
  }

  #finish(): void {
    const { origin, from, walk, keyIsPinned } = this.#current as Current;
    walk.end();
    const { size, checkpoints, proven } = walk;
    this.#logs.push({ origin, from, size, checkpoints, keyIsPinned, proven });
    this.#current = undefined;
  }

  #found(finding: LogFinding): void {
    this.#count += 1;
    if (this.#findings.length < MAX_FINDINGS) this.#findings.push(finding);
  }
}
