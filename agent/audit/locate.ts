// Finds a record by its event id: ids ascend within a log, so the position is searched for by halves.
import { decodeAuditRecord, type EventId, MAC_BYTES, parseEventId } from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { AgentError } from '../errors.ts';
import { recordKey } from './rows.ts';

type Store = { get(key: Buffer): Buffer | undefined };

const idAt = (store: Store, tenant: string, index: number): EventId => {
  const bytes = store.get(recordKey(tenant, index));
  try {
    if (bytes === undefined) throw new DocumentError('the record is missing');
    return parseEventId(decodeAuditRecord(bytes.subarray(0, -MAC_BYTES)).record.eventId);
  } catch (cause) {
    if (!(cause instanceof DocumentError)) throw cause;
    const message = `the audit record at position ${index} cannot be read`;
    throw new AgentError('AUDIT_CORRUPT', { message, metadata: { index: String(index) }, cause });
  }
};

/** The position among `from` to `size` of the record of this epoch and sequence; undefined where none has them. */
export const locate = (
  store: Store,
  tenant: string,
  size: number,
  { epoch, sequence }: Pick<EventId, 'epoch' | 'sequence'>,
  from = 0,
): number | undefined => {
  let [low, high] = [from, size];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const at = idAt(store, tenant, middle);
    if (at.epoch === epoch && at.sequence === sequence) return middle;
    if (at.epoch < epoch || (at.epoch === epoch && at.sequence < sequence)) low = middle + 1;
    else high = middle;
  }
  return undefined;
};
