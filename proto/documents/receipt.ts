// A receipt as a document, and what it proves: this record is in the log of its host and tenant (docs/spec/audit.md
// section 10). Invariant: verified offline, by keys that the caller has pinned and by nothing that the receipt says.
import { type AuditRecord, decodeAuditRecord, parseEventId } from './audit-record.ts';
import { DocumentError } from './canonical.ts';
import { type Checkpoint, parseCheckpointText, parseSignedNote } from './checkpoint.ts';
import { parseCosigner } from './cosignature.ts';
import type { PublicJwk } from './key-record.ts';
import { type Receipt, verifyReceipt } from './tlog-proof.ts';

export type { AuditRecord } from './audit-record.ts';
export { DocumentError } from './canonical.ts';
export type { PublicJwk } from './key-record.ts';
export type { Receipt } from './tlog-proof.ts';

export const RECEIPT_SCHEMA = 'mortise.audit-receipt/v1';
/** A record, and a note with many countersignatures, in base64 and JSON. */
export const MAX_RECEIPT_BYTES = 256 * 1024;

export interface Pinned {
  /** Key of the host's checkpoints. */
  readonly publicJwk: PublicJwk;
  /** Verifier key of the registry: then its countersignature is needed. */
  readonly cosigner?: string;
  /** A signed checkpoint that the caller kept of this log: one of fewer records is refused, as is another root. */
  readonly keptCheckpoint?: string;
  /** The record must be this one. */
  readonly eventId?: string;
}

export interface ProvenRecord {
  readonly record: AuditRecord;
  /** Position in the log. */
  readonly index: number;
  /** Name of the log, "<host>/<tenant>/<generation>". */
  readonly origin: string;
  /** Records that the checkpoint covers. */
  readonly size: number;
  /** Unix time in seconds; only where a cosigner was pinned. */
  readonly countersignedAt?: number;
}

export const formatReceipt = ({ proof, record, mac }: Receipt): string =>
  `${JSON.stringify({
    schema: RECEIPT_SCHEMA,
    proof,
    record: Buffer.from(record).toString('base64'),
    mac: Buffer.from(mac).toString('base64'),
  })}\n`;

export const parseReceipt = (text: string): Receipt => {
  if (text.length > MAX_RECEIPT_BYTES) throw new DocumentError('the receipt is longer than the limit');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new DocumentError('the receipt is not JSON');
  }
  const { schema, proof, record, mac } = (json ?? {}) as Readonly<Record<string, unknown>>;
  if (schema !== RECEIPT_SCHEMA) throw new DocumentError(`not a receipt of ${RECEIPT_SCHEMA}`);
  if (typeof proof !== 'string') throw new DocumentError('the receipt has no proof');
  return { proof, record: fromBase64(record), mac: fromBase64(mac) };
};

/** What the receipt proves. Throws DocumentError where it proves nothing. */
export const proveRecord = (receipt: Receipt, pinned: Pinned): ProvenRecord => {
  const { publicJwk, cosigner, keptCheckpoint, eventId } = pinned;
  const by = { publicJwk, ...(cosigner !== undefined && { cosigner: parseCosigner(cosigner.trim()) }) };
  const { checkpoint, index, countersignedAt } = verifyReceipt(receipt, by);
  const { record } = decodeAuditRecord(receipt.record);
  const { origin, size } = checkpoint;
  if (!origin.startsWith(`${parseEventId(record.eventId).host}/${record.tenant}/`)) {
    throw new DocumentError(`the log ${origin} is not that of the record`);
  }
  if (eventId !== undefined && record.eventId !== eventId) throw new DocumentError('it is for another record');
  if (keptCheckpoint !== undefined) extend(parseCheckpointText(parseSignedNote(keptCheckpoint).text), checkpoint);
  return { record, index, origin, size, ...(countersignedAt !== undefined && { countersignedAt }) };
};

const extend = (kept: Checkpoint, checkpoint: Checkpoint): void => {
  if (checkpoint.origin !== kept.origin) throw new DocumentError('the kept checkpoint is of another log');
  if (checkpoint.size < kept.size) {
    throw new DocumentError(`the checkpoint covers ${checkpoint.size} records, the kept one ${kept.size}`);
  }
  if (checkpoint.size === kept.size && !checkpoint.root.equals(kept.root)) {
    throw new DocumentError('the checkpoint is over other records than the kept one');
  }
};

const fromBase64 = (value: unknown): Buffer => {
  const bytes = Buffer.from(typeof value === 'string' ? value : '', 'base64');
  if (bytes.length === 0 || bytes.toString('base64') !== value) throw new DocumentError('not canonical base64');
  return bytes;
};
