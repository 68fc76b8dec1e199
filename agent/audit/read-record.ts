// Reads one record and believes it only with its MAC, its tenant and its position verified.
import {
  type AuditRecord,
  decodeAuditRecord,
  MAC_BYTES,
  macInput,
  parseEventId,
} from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { AgentError } from '../errors.ts';
import type { MacKeyOf } from './mac-keys.ts';
import { macFits, recordKey } from './rows.ts';
import type { AuditEvents, StoredRecord } from './types.ts';

/** Rejects with AUDIT_CORRUPT and the position, or with the token's own error where the MAC key cannot be had just now. */
export const readRecord = async (
  {
    store,
    macKeyOf,
    events,
  }: {
    readonly store: { get(key: Buffer): Buffer | undefined };
    readonly macKeyOf: MacKeyOf;
    readonly events: Pick<AuditEvents, 'corrupt'>;
  },
  tenant: string,
  index: number,
): Promise<StoredRecord> => {
  const corrupt = (message: string, cause: unknown = new Error(message)): AgentError => {
    events.corrupt({ tenant, index, message });
    return new AgentError('AUDIT_CORRUPT', {
      message: `the audit record at position ${index} does not verify`,
      metadata: { index: String(index) },
      cause,
    });
  };
  const bytes = store.get(recordKey(tenant, index));
  if (bytes === undefined) throw corrupt('the record is missing');
  const [body, mac] = [bytes.subarray(0, -MAC_BYTES), bytes.subarray(-MAC_BYTES)];
  let decoded: { record: AuditRecord; canonicalEnd: number };
  try {
    decoded = decodeAuditRecord(body);
  } catch (cause) {
    if (!(cause instanceof DocumentError)) throw cause;
    throw corrupt('the record cannot be read', cause);
  }
  const { epoch } = parseEventId(decoded.record.eventId);
  const key = await macKeyOf(epoch).catch((cause: unknown) => {
    if (cause instanceof AgentError && cause.code !== 'INVALID_CIPHERTEXT') throw cause;
    throw corrupt(`the MAC key of epoch ${epoch} cannot be had`, cause);
  });
  if (!macFits(key, macInput(body, index), mac)) throw corrupt('the MAC does not fit the record');
  if (decoded.record.tenant !== tenant) throw corrupt('the record is one of another tenant');
  const canonical = Buffer.from(body.subarray(0, decoded.canonicalEnd));
  return { index, record: decoded.record, canonical, mac: Buffer.from(mac) };
};
