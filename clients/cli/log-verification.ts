// Verifies a tenant's log over the socket twice: the agent checks what needs its MAC keys, and this program recomputes
// from the exported records what it need not believe: the canonical bytes, the Merkle root and the signed checkpoint.
import { type StatedCertificate, StatedCertificates } from '../../proto/documents/audit-certificates.ts';
import { encodeAuditRecord, type AuditRecord as RecordDocument } from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { type Checkpoint, verifyCheckpoint } from '../../proto/documents/checkpoint.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { Frontier, leafHash } from '../../proto/documents/merkle.ts';
import type { AuditRecord, CallOptions, Finding, MortiseClient } from '../typescript/index.ts';

export interface LogReport {
  readonly intact: boolean;
  readonly size: number;
  readonly root: string;
  readonly agentIntact: boolean;
  /** Null where the agent found something: it hands out no records of a log that does not verify. */
  readonly clientIntact: boolean | null;
  /** Whether the checkpoint key was given by the caller, not by the agent that is being checked. */
  readonly keyIsPinned: boolean;
  readonly findings: readonly (Finding & { readonly by: 'agent' | 'client' })[];
  /** What the starts of the agent say; only the log of `_platform` has them. */
  readonly certificates: readonly StatedCertificate[];
}

export interface LogQuestion {
  readonly call: CallOptions;
  readonly trusted: string | undefined;
  /** Public key that must have signed; undefined: the one that the agent names. */
  readonly key: PublicJwk | undefined;
  progress(done: number, size: number): void;
}

const PAGE = 1000;

/** The bytes that the fields mean; undefined for fields that no record has. */
const encoded = (record: RecordDocument): Buffer | undefined => {
  try {
    return encodeAuditRecord(record);
  } catch (error) {
    if (error instanceof DocumentError) return undefined;
    throw error;
  }
};

/** What one record must hash to; undefined where the fields and the exported bytes disagree. */
const leafOf = (record: AuditRecord): Buffer | undefined => {
  const { index: _index, canonical, mac, ...fields } = record;
  const whole = encoded(fields);
  if (whole === undefined || !whole.subarray(0, canonical.length).equals(canonical)) return undefined;
  return leafHash(Buffer.concat([whole, mac]));
};

class Recomputation {
  readonly findings: Finding[] = [];
  readonly frontier = new Frontier();
  readonly certificates = new StatedCertificates();
  readonly #rootAt = new Map<number, string>();

  constructor(sizes: readonly number[]) {
    for (const size of sizes) this.#rootAt.set(size, '');
    this.#note();
  }

  add(record: AuditRecord): void {
    if (record.index !== this.frontier.size) {
      this.#find('RECORD_REORDERED', record.index, `position ${this.frontier.size} was expected`);
    }
    const leaf = leafOf(record);
    if (leaf === undefined) this.#find('RECORD_EDITED', record.index, 'the fields are not what the bytes say');
    else this.certificates.add(record);
    this.frontier.append(leaf ?? Buffer.alloc(32));
    this.#note();
  }

  /** The checkpoint's root must be the root of as many of our records. */
  compare(checkpoint: Checkpoint, name: string): void {
    const root = this.#rootAt.get(checkpoint.size);
    if (!root) this.#find('LOG_TRUNCATED', checkpoint.size, `${name} is over ${checkpoint.size} records`);
    else if (root !== checkpoint.root.toString('hex')) {
      this.#find('LOG_FORKED', checkpoint.size, `${name} is over other records than these`);
    }
  }

  invalid(name: string, why: string): void {
    this.#find('CHECKPOINT_INVALID', this.frontier.size, `${name}: ${why}`);
  }

  #find(code: string, index: number, message: string): void {
    this.findings.push({ code, index, message });
  }

  #note(): void {
    const { size } = this.frontier;
    if (this.#rootAt.has(size)) this.#rootAt.set(size, this.frontier.root().toString('hex'));
  }
}

const checkpointOf = (note: string, key: PublicJwk): Checkpoint | string => {
  try {
    return verifyCheckpoint(note, key);
  } catch (error) {
    return (error as Error).message;
  }
};

/** Reads records up to `size`, which the checkpoint names. */
const readRecords = async (client: MortiseClient, size: number, question: LogQuestion, into: Recomputation) => {
  while (into.frontier.size < size) {
    const from = into.frontier.size;
    const pageSize = Math.min(PAGE, size - from);
    const { records } = await client.audit.records({ from, pageSize }, question.call);
    if (records.length === 0) return;
    for (const record of records) into.add(record);
    question.progress(into.frontier.size, size);
  }
};

/** Verifies the log as it stands now. */
export const verifyLog = async (client: MortiseClient, question: LogQuestion): Promise<LogReport> => {
  const { checkpoint: note, publicJwk } = await client.audit.checkpoint(question.call);
  const key = question.key ?? (JSON.parse(publicJwk) as PublicJwk);
  const present = checkpointOf(note, key);
  const trusted = question.trusted === undefined ? undefined : checkpointOf(question.trusted, key);
  const sizes = [present, trusted].filter((row) => typeof row === 'object').map((row) => row.size);
  const own = new Recomputation(sizes);
  const agent = await client.audit.verify({
    ...question.call,
    ...(question.trusted !== undefined && { trustedCheckpoint: question.trusted }),
  });
  // A record that does not verify makes listing fail with AUDIT_CORRUPT; the agent's findings say more.
  if (agent.intact) await readRecords(client, Math.max(0, ...sizes), question, own);
  if (typeof present === 'string') own.invalid('the newest checkpoint', present);
  else if (agent.intact) own.compare(present, 'the newest checkpoint');
  if (typeof trusted === 'string') own.invalid('the trusted checkpoint', trusted);
  else if (trusted !== undefined && agent.intact) own.compare(trusted, 'the trusted checkpoint');
  const clientIntact = agent.intact ? own.findings.length === 0 : null;
  return {
    intact: clientIntact === true,
    size: agent.size,
    root: agent.root,
    agentIntact: agent.intact,
    clientIntact,
    keyIsPinned: question.key !== undefined,
    certificates: own.certificates.report(),
    findings: [
      ...agent.findings.map((finding) => ({ ...finding, by: 'agent' as const })),
      ...own.findings.map((finding) => ({ ...finding, by: 'client' as const })),
    ],
  };
};
