// The audit record: nine fields in canonical form, then `detail` as a tenth, length-prefixed field (docs/spec/audit.md
// section 3). The nine-field prefix keeps its meaning alone; MAC and leaf hash cover all of it.
import { DocumentError, decodeCanonicalPrefix, writeField } from './canonical.ts';
import { TENANT_PATTERN } from './key-record.ts';

export interface AuditRecord {
  readonly tenant: string;
  readonly principal: string;
  readonly key: string;
  readonly algorithm: string;
  readonly operation: string;
  readonly outcome: string;
  /** RFC 3339, UTC, microseconds: "2026-11-24T07:26:37.000042Z". */
  readonly time: string;
  readonly correlationId: string;
  /** "<host>/<epoch>/<sequence>". */
  readonly eventId: string;
  /** JSON text, or empty. */
  readonly detail: string;
}

export const AUDIT_RECORD_LABEL = 'mortise/audit-record/v1';
export const MAC_BYTES = 32;
export const INDEX_BYTES = 8;
export const MAX_FIELD_BYTES = 1024; // a JWT subject may be long, a record must not be
export const MAX_DETAIL_BYTES = 4096;
/** Room that any record fits in before its length is known (three bytes of UTF-8 for each UTF-16 unit). */
export const RECORD_ROOM = AUDIT_RECORD_LABEL.length + 1 + 9 * (4 + 3 * MAX_FIELD_BYTES) + 4 + 3 * MAX_DETAIL_BYTES;

/** The tenant of the host's own events. */
export const PLATFORM_TENANT = '_platform';
export const HOST_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/;
const TIME_PATTERN = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z$/;
const EVENT_ID_PATTERN = /^([A-Za-z0-9][A-Za-z0-9._-]{0,252})\/(0|[1-9]\d{0,9})\/(0|[1-9]\d{0,15})$/;
const FIELD_NAMES = [
  'tenant',
  'principal',
  'key',
  'algorithm',
  'operation',
  'outcome',
  'time',
  'correlationId',
  'eventId',
] as const;

export interface EventId {
  readonly host: string;
  readonly epoch: number;
  readonly sequence: number;
}

export const isAuditTenant = (tenant: string): boolean => tenant === PLATFORM_TENANT || TENANT_PATTERN.test(tenant);

export const formatEventId = (id: EventId): string => `${id.host}/${id.epoch}/${id.sequence}`;

export const parseEventId = (text: string): EventId => {
  const match = EVENT_ID_PATTERN.exec(text);
  const epoch = Number(match?.[2]);
  const sequence = Number(match?.[3]);
  if (!match || epoch > 0xffff_ffff || !Number.isSafeInteger(sequence)) throw new DocumentError('not an event id');
  return { host: match[1] as string, epoch, sequence };
};

/** Writes the record into `into`, which has RECORD_ROOM bytes behind `offset`. Answers the offset behind each part. */
export const writeAuditRecord = (
  into: Buffer,
  offset: number,
  record: AuditRecord,
): { readonly canonicalEnd: number; readonly end: number } => {
  let at = offset + into.write(`${AUDIT_RECORD_LABEL}\0`, offset, 'latin1');
  for (const name of FIELD_NAMES) {
    const field = record[name];
    // Length in UTF-16 units bounds the write; length in bytes is the rule.
    if (field.length === 0 || field.length > MAX_FIELD_BYTES) throw new DocumentError(`${name} is empty or too long`);
    const next = writeField(into, at, field);
    if (next - at - 4 > MAX_FIELD_BYTES) throw new DocumentError(`${name} is too long`);
    at = next;
  }
  if (record.detail.length > MAX_DETAIL_BYTES) throw new DocumentError('detail is too long');
  const end = writeField(into, at, record.detail);
  if (end - at - 4 > MAX_DETAIL_BYTES) throw new DocumentError('detail is too long');
  return { canonicalEnd: at, end };
};

/** What the MAC is over: the record, then its position in the tenant's log as u64, which no copy at another place has. */
export const macInput = (record: Uint8Array, index: number): Buffer => {
  const input = Buffer.allocUnsafe(record.length + INDEX_BYTES);
  input.set(record);
  input.writeBigUInt64BE(BigInt(index), record.length);
  return input;
};

export const encodeAuditRecord = (record: AuditRecord): Buffer => {
  validate(record);
  const scratch = Buffer.alloc(RECORD_ROOM);
  return Buffer.from(scratch.subarray(0, writeAuditRecord(scratch, 0, record).end));
};

/** A record and the length of its nine-field prefix. Throws DocumentError on anything that encode would not have made. */
export const decodeAuditRecord = (
  bytes: Uint8Array,
): { readonly record: AuditRecord; readonly canonicalEnd: number } => {
  const limits = { fields: FIELD_NAMES.length, maxFieldBytes: MAX_FIELD_BYTES };
  const { fields, end } = decodeCanonicalPrefix(AUDIT_RECORD_LABEL, bytes, limits);
  const detail = decodeDetail(bytes.subarray(end));
  const at = (index: number): string => fields[index] as string;
  const record: AuditRecord = {
    tenant: at(0),
    principal: at(1),
    key: at(2),
    algorithm: at(3),
    operation: at(4),
    outcome: at(5),
    time: at(6),
    correlationId: at(7),
    eventId: at(8),
    detail,
  };
  validate(record);
  return { record, canonicalEnd: end };
};

const DETAIL_UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const decodeDetail = (bytes: Uint8Array): string => {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < 4) throw new DocumentError('cut off before detail');
  const length = view.readUInt32BE(0);
  if (length > MAX_DETAIL_BYTES) throw new DocumentError('detail is too long');
  if (view.length !== 4 + length) throw new DocumentError('detail is cut off, or bytes follow it');
  try {
    return DETAIL_UTF8.decode(view.subarray(4));
  } catch {
    throw new DocumentError('detail is not UTF-8');
  }
};

/** What the bytes alone do not say: the shapes of tenant, time, event id and detail. */
const validate = (record: AuditRecord): void => {
  for (const name of FIELD_NAMES) if (record[name] === '') throw new DocumentError(`${name} is empty`);
  if (!isAuditTenant(record.tenant)) throw new DocumentError('tenant is not a tenant id');
  if (!TIME_PATTERN.test(record.time) || !isDay(record.time)) {
    throw new DocumentError('time is not RFC 3339 UTC with microseconds');
  }
  parseEventId(record.eventId);
  if (record.detail !== '' && !isJsonObject(record.detail)) throw new DocumentError('detail is not a JSON object');
};

/** Days that every month has need no calendar. */
const EVERY_MONTH = '28';

/** Whether the day exists: Date takes 31 February for 3 March. */
const isDay = (time: string): boolean =>
  time.slice(8, 10) <= EVERY_MONTH || new Date(time).toISOString().slice(0, 10) === time.slice(0, 10);

const isJsonObject = (text: string): boolean => {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false; // the answer, not a failure: any text may be asked about
  }
};
