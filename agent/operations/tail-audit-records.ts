// TailAuditRecords: records of the caller's own tenant as they are committed. Its opening is an operation with a
// record; what it then shows ends with the call.
import { invalid } from '../errors.ts';
import { type AuditReadPorts, fitting, positionOf } from './list-audit-records.ts';
import { type Performed, perform } from './perform.ts';
import type { AuditRecordView } from './ports/audit-log.ts';
import type { Call } from './ports/call.ts';

export interface TailAuditRecordsInput {
  readonly from: number;
}

export type TailAuditRecordsOutput = AsyncIterable<readonly AuditRecordView[]>;

async function* pages(source: TailAuditRecordsOutput): TailAuditRecordsOutput {
  for await (const records of source) {
    for (let rest = records; rest.length > 0; ) {
      const page = fitting(rest);
      yield page;
      rest = rest.slice(page.length);
    }
  }
}

export const tailAuditRecords = (
  ports: AuditReadPorts,
  call: Call,
  input: TailAuditRecordsInput,
): Promise<Performed<TailAuditRecordsOutput>> =>
  perform(ports, call, 'tail-audit-records', (run) => {
    const from = positionOf(input.from);
    if (from > ports.auditLog.size(run.tenant)) throw invalid('from', 'beyond the end of the log');
    return pages(ports.auditLog.tail(run.tenant, from, call.signal));
  });
