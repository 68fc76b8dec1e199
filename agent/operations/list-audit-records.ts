// ListAuditRecords: a page of the log of the caller's own tenant. Invariant: an answer is below the 4 MiB that gRPC
// clients accept, however long the records.
import { AgentError, invalid } from '../errors.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { AuditReadPort, AuditRecordView } from './ports/audit-log.ts';
import type { Call } from './ports/call.ts';

export type AuditReadPorts = Ports & { readonly auditLog: AuditReadPort };

export interface ListAuditRecordsInput {
  readonly from: number;
  /** 0 means the default. */
  readonly pageSize: number;
  readonly newest: boolean;
}

export interface ListAuditRecordsOutput {
  readonly records: readonly AuditRecordView[];
  readonly size: number;
}

const DEFAULT_PAGE_SIZE = 100;
const MAX_PAGE_SIZE = 1000;
export const PAGE_LIMIT_BYTES = 3 * 1024 * 1024;
const RECORD_OVERHEAD_BYTES = 128; // field tags, lengths, index and time

export const recordBytes = (record: AuditRecordView): number =>
  RECORD_OVERHEAD_BYTES +
  // The canonical form holds every text field once, so it stands for them a second time.
  2 * record.canonical.length +
  Buffer.byteLength(record.detail) +
  record.mac.length;

/** As many records from the front as fit, at least one. */
export const fitting = (records: readonly AuditRecordView[]): readonly AuditRecordView[] => {
  let bytes = 0;
  const end = records.findIndex((record, at) => {
    bytes += recordBytes(record);
    return at > 0 && bytes > PAGE_LIMIT_BYTES;
  });
  return end < 0 ? records : records.slice(0, end);
};

/** The same from the back. */
const fittingNewest = (records: readonly AuditRecordView[]): readonly AuditRecordView[] =>
  fitting(records.toReversed()).toReversed();

const pageSizeOf = ({ pageSize }: ListAuditRecordsInput): number => {
  if (!Number.isInteger(pageSize) || pageSize < 0 || pageSize > MAX_PAGE_SIZE) {
    throw invalid('page_size', `from 1 to ${MAX_PAGE_SIZE}, or 0 for ${DEFAULT_PAGE_SIZE}`);
  }
  return pageSize === 0 ? DEFAULT_PAGE_SIZE : pageSize;
};

export const positionOf = (from: number, field = 'from'): number => {
  if (!Number.isSafeInteger(from) || from < 0) throw invalid(field, 'not a position of a log');
  return from;
};

export const listAuditRecords = (
  ports: AuditReadPorts,
  call: Call,
  input: ListAuditRecordsInput,
): Promise<Performed<ListAuditRecordsOutput>> =>
  perform(ports, call, 'list-audit-records', async (run) => {
    const limit = pageSizeOf(input);
    if (input.newest && input.from !== 0) throw invalid('from', 'must be 0 where newest is set');
    const size = ports.auditLog.size(run.tenant);
    const from = input.newest ? Math.max(0, size - limit) : positionOf(input.from);
    const records = from >= size ? [] : await ports.auditLog.list(run.tenant, from, limit);
    if (records.some((record) => record.tenant !== run.tenant)) {
      throw new AgentError('INTERNAL', {
        cause: new Error(`the log of ${run.tenant} holds a record of another tenant`),
      });
    }
    return { records: input.newest ? fittingNewest(records) : fitting(records), size };
  });
