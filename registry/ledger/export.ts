// Files of records: JSON lines, CSV (RFC 4180), and bundles for offline verifiers. Invariant: constant memory, and a cell
// that a spreadsheet would run is text.

import { BUNDLE_SCHEMA, bundleLine } from '../../proto/documents/audit-bundle.ts';
import { type AuditRecord, decodeAuditRecord } from '../../proto/documents/audit-record.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import type { LedgerStore, LogRow, RecordRow } from './store.ts';

const PAGE = 500;
const COLUMNS = [
  'time',
  'tenant',
  'principal',
  'operation',
  'outcome',
  'key',
  'algorithm',
  'correlationId',
  'eventId',
  'detail',
] as const satisfies readonly (keyof AuditRecord)[];

export type ExportedRecord = RecordRow & { readonly origin: string };

/** One JSON object with its newline. `record` and `mac` are the bytes that were signed for. */
export const jsonLine = ({ origin, index, record: bytes, mac, ingestedAt }: ExportedRecord): string => {
  const { record } = decodeAuditRecord(bytes);
  const fields = Object.fromEntries(COLUMNS.map((name) => [name, record[name]]));
  const times = { ingestTime: new Date(ingestedAt).toISOString() };
  const proof = { record: bytes.toString('base64'), mac: mac.toString('base64') };
  return `${JSON.stringify({ origin, index, ...fields, ...times, ...proof })}\n`;
};

/** What spreadsheets take for a formula begins with one of these (OWASP, CSV injection). */
const FORMULA = /^[=+\-@\t\r]/;

const cell = (value: string): string => {
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

export const CSV_HEADER = `${['origin', 'index', ...COLUMNS, 'ingestTime', 'mac'].join(',')}\r\n`;

export const csvLine = ({ origin, index, record: bytes, mac, ingestedAt }: ExportedRecord): string => {
  const { record } = decodeAuditRecord(bytes);
  const cells = [origin, String(index), ...COLUMNS.map((name) => record[name])];
  return `${[...cells, new Date(ingestedAt).toISOString(), mac.toString('hex')].map(cell).join(',')}\r\n`;
};

/** A log with each checkpoint behind the last record that it covers. `check` looks at each record before it goes out. */
async function* logLines(
  store: LedgerStore,
  log: LogRow,
  check: (row: ExportedRecord) => Promise<void>,
): AsyncGenerator<string> {
  const { origin, size } = log;
  const publicJwk = JSON.parse(log.publicJwk) as PublicJwk;
  yield bundleLine({ log: { origin, publicJwk, size: 0, frontier: [] } });
  let due = await store.checkpoints({ origin, from: 0, limit: PAGE });
  for (let at = 0; at < size; ) {
    const rows = await store.records({ origin, from: at, limit: Math.min(PAGE, size - at) });
    if (rows.length === 0) break; // the verifier sees that the end is missing
    for (const row of rows) {
      await check({ ...row, origin });
      yield bundleLine({ record: row.record.toString('base64'), mac: row.mac.toString('base64') });
      at = row.index + 1;
      while (due[0] !== undefined && due[0].size <= at) {
        const [{ text, size: covered }, ...rest] = due as [(typeof due)[0], ...typeof due];
        yield bundleLine({ checkpoint: text });
        due = rest.length > 0 ? rest : await store.checkpoints({ origin, from: covered + 1, limit: PAGE });
      }
    }
  }
  yield bundleLine({ end: { origin, size } });
}

export async function* bundle(options: {
  readonly store: LedgerStore;
  readonly tenant: string;
  readonly host?: string;
  readonly cosigner: string;
  check(row: ExportedRecord): Promise<void>;
}): AsyncGenerator<string> {
  const { store, tenant, host, cosigner, check } = options;
  yield bundleLine({ schema: BUNDLE_SCHEMA, tenant, cosigner });
  let after: string | undefined;
  for (;;) {
    const logs = await store.logs({ limit: PAGE, ...(host && { host }), ...(after && { after }) });
    for (const log of logs) yield* logLines(store, log, check);
    after = logs.at(-1)?.origin;
    if (logs.length < PAGE) return;
  }
}
