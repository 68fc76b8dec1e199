// The logs of a tenant in the registry's ledger, each as pages of records; new hosts and generations show up by themselves.
import { decodeAuditRecord } from '../../../proto/documents/audit-record.ts';
import {
  LedgerServiceService,
  type LogState,
  type StoredRecord,
} from '../../../proto/gen/mortise/registry/v1/ledger.ts';
import type { AuditRecord } from '../../typescript/index.ts';
import type { Session } from '../registry/session.ts';
import type { LogPages } from './forwarder.ts';

const PAGE = 500;

const recordOf = ({ index, record }: StoredRecord): AuditRecord => {
  const { record: canonical = Buffer.alloc(0), mac = Buffer.alloc(0) } = record ?? {};
  return { ...decodeAuditRecord(canonical).record, index: Number(index), canonical, mac };
};

/** Every log with its size, by origin. */
export const logsOf = async (
  session: Pick<Session, 'call'>,
  tenant: string,
): Promise<readonly { readonly origin: string; readonly size: number }[]> => {
  const found: LogState[] = [];
  for (let pageToken = ''; ; ) {
    const page = await session.call(LedgerServiceService.listLogs, { tenant, pageSize: PAGE, pageToken });
    found.push(...page.logs);
    pageToken = page.nextPageToken;
    if (pageToken === '') return found.map(({ origin, size }) => ({ origin, size: Number(size) }));
  }
};

/** One log as the forwarder reads it. */
export const ledgerLog = (session: Pick<Session, 'call'>, tenant: string, origin: string): LogPages => ({
  records: async ({ from = 0, pageSize = PAGE } = {}) => {
    const request = { tenant, origin, from: BigInt(from), pageSize };
    const { records, size } = await session.call(LedgerServiceService.readLog, request);
    return { records: records.map(recordOf), size: Number(size) };
  },
});
