// Files of records: JSON lines, CSV (RFC 4180), and bundles for offline verifiers. Invariant: constant memory, and a cell
// that a spreadsheet would run is text.

import { BUNDLE_SCHEMA, bundleLine } from '../../proto/documents/audit-bundle.ts';
import { type AuditRecord, decodeAuditRecord } from '../../proto/documents/audit-record.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import type { LedgerStore, LogRow, RecordRow } from './store.ts';
import { storedTree } from './tree.ts';

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

/** What of a log goes into a bundle: the records from one size to another, and how far checkpoints count. */
export interface BundlePart {
  readonly log: LogRow;
  readonly from: number;
  readonly to: number;
}

/** A log with each checkpoint behind the last record that it covers. `check` looks at each record before it goes out. */
async function* logLines(
  store: LedgerStore,
  { log, from, to }: BundlePart,
  check: (row: ExportedRecord) => Promise<void>,
): AsyncGenerator<string> {
  const { origin } = log;
  const publicJwk = JSON.parse(log.publicJwk) as PublicJwk;
  const { nodes } = await storedTree(store, origin).frontier(from);
  yield bundleLine({ log: { origin, publicJwk, size: from, frontier: nodes.map((node) => node.toString('base64')) } });
  let due = await store.checkpoints({ origin, from, limit: PAGE });
  const dueAt = async function* (at: number): AsyncGenerator<string> {
    while (due[0] !== undefined && due[0].size <= at) {
      const [{ text, size: covered }, ...rest] = due as [(typeof due)[0], ...typeof due];
      yield bundleLine({ checkpoint: text });
      due = rest.length > 0 ? rest : await store.checkpoints({ origin, from: covered + 1, limit: PAGE });
    }
  };
  yield* dueAt(from);
  for (let at = from; at < to; ) {
    const rows = await store.records({ origin, from: at, limit: Math.min(PAGE, to - at) });
    if (rows.length === 0) break; // the verifier sees that the end is missing
    for (const row of rows) {
      await check({ ...row, origin });
      yield bundleLine({ record: row.record.toString('base64'), mac: row.mac.toString('base64') });
      at = row.index + 1;
      yield* dueAt(at);
    }
  }
  yield bundleLine({ end: { origin, size: to } });
}

interface BundleSource {
  readonly store: LedgerStore;
  readonly tenant: string;
  readonly cosigner: string;
  check(row: ExportedRecord): Promise<void>;
}

/** Whole logs: all of the tenant, or those of one host. */
export async function* bundle({
  store,
  tenant,
  host,
  cosigner,
  check,
}: BundleSource & { readonly host?: string }): AsyncGenerator<string> {
  yield bundleLine({ schema: BUNDLE_SCHEMA, tenant, cosigner });
  let after: string | undefined;
  for (;;) {
    const logs = await store.logs({ limit: PAGE, ...(host && { host }), ...(after && { after }) });
    for (const log of logs) yield* logLines(store, { log, from: 0, to: log.size }, check);
    after = logs.at(-1)?.origin;
    if (logs.length < PAGE) return;
  }
}

/** One log between two sizes. */
export async function* bundleOf(
  { store, tenant, cosigner, check }: BundleSource,
  part: () => Promise<BundlePart>,
): AsyncGenerator<string> {
  const found = await part();
  yield bundleLine({ schema: BUNDLE_SCHEMA, tenant, cosigner });
  yield* logLines(store, found, check);
}
