// What every format says of an audit record: where it came from, how grave it is, and its key in parts.
import type { AuditRecord } from '../../typescript/index.ts';
import { cellText } from '../output.ts';

/** RFC 5424 section 6.2.1, table 2. */
export const SEVERITY = { error: 3, warning: 4, notice: 5, informational: 6 } as const;
export type Severity = keyof typeof SEVERITY;

/** Outcomes that somebody should look at; other refusals are everyday. */
const GRAVE = new Set(['AUDIT_CORRUPT', 'AUDIT_UNAVAILABLE', 'POLICY_INVALID', 'POLICY_STALE', 'INTERNAL']);

export const severityOf = ({ outcome }: AuditRecord): Severity => {
  if (outcome === 'ok') return 'informational';
  if (outcome === 'intent') return 'notice';
  return GRAVE.has(outcome) ? 'error' : 'warning';
};

/** `<host>/<epoch>/<sequence>`; a host name has no slash. */
export const hostOf = ({ eventId }: AuditRecord): string => eventId.slice(0, eventId.indexOf('/'));

/** Key id and version, where the record has them. */
export const keyOf = ({ key }: AuditRecord): { readonly id?: string; readonly version?: number } => {
  if (key === '-') return {};
  const slash = key.indexOf('/');
  return slash < 0 ? { id: key } : { id: key.slice(0, slash), version: Number(key.slice(slash + 1)) };
};

/** One line for people; a name in it cannot begin another line. */
export const sentenceOf = ({ principal, operation, key, outcome }: AuditRecord): string =>
  cellText(`${principal} ${operation}${key === '-' ? '' : ` ${key}`}: ${outcome}`);

/** Microseconds since 1970, exactly: a double holds them until the year 2255. */
export const microsOf = ({ time }: AuditRecord): number =>
  Date.parse(`${time.slice(0, 19)}Z`) * 1000 + Number(time.slice(20, 26));

/** Fields as they are, for formats with a body of their own: the names of docs/spec/audit.md. */
export const plainOf = (record: AuditRecord): Readonly<Record<string, string | number>> => ({
  tenant: record.tenant,
  principal: record.principal,
  key: record.key,
  algorithm: record.algorithm,
  operation: record.operation,
  outcome: record.outcome,
  time: record.time,
  correlation_id: record.correlationId,
  event_id: record.eventId,
  index: record.index,
  ...(record.detail !== '' && { detail: record.detail }),
  mac: record.mac.toString('base64url'),
});
