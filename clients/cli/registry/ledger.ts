// mortise audit query, export, logs, receipt: the audit logs of all hosts, as the registry's ledger has them.
import { decodeAuditRecord } from '../../../proto/documents/audit-record.ts';
import { DocumentError } from '../../../proto/documents/canonical.ts';
import { formatReceipt } from '../../../proto/documents/receipt.ts';
import {
  ExportFormat,
  type LedgerRecord,
  LedgerServiceService,
  type LogPart,
  type RecordFilter,
} from '../../../proto/gen/mortise/registry/v1/ledger.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { refuseExisting, STREAM, writeFilePieces, writeFileWhole, writeStream } from '../files.ts';
import { cellText, factsText, tableText } from '../output.ts';
import { openSession, type SessionOptions } from './session.ts';

export interface FilterOptions extends SessionOptions {
  readonly tenant: string;
  readonly since?: Date;
  readonly until?: Date;
  readonly key?: string;
  readonly principal?: string;
  readonly operation?: string;
  readonly outcome?: string;
  readonly host?: string;
  readonly correlationId?: string;
}

export interface OutOptions {
  readonly out: string;
  readonly force: boolean;
}

export interface PartOptions {
  readonly log?: string;
  readonly fromSize?: number;
  readonly toSize?: number;
}

const filterOf = (options: FilterOptions): RecordFilter => ({
  tenant: options.tenant,
  fromTime: options.since,
  toTime: options.until,
  key: options.key ?? '',
  principal: options.principal ?? '',
  operation: options.operation ?? '',
  outcome: options.outcome ?? '',
  host: options.host ?? '',
  correlationId: options.correlationId ?? '',
});

const HEAD = ['TIME', 'RESULT', 'OPERATION', 'KEY', 'ALGORITHM', 'PRINCIPAL', 'EVENT ID'] as const;
const WIDTHS = [27, 18, 18, 16, 16, 20] as const;
const PAGE = 1000;

/** Fixed columns, since the rows to come are not known; a longer value keeps its length. */
const line = (cells: readonly string[]): string =>
  `${cells
    .map((cell, column) => cellText(cell).padEnd(WIDTHS[column] ?? 0))
    .join(' ')
    .trimEnd()}\n`;

const plainOf = ({ record, mac }: LedgerRecord) => {
  return { ...decodeAuditRecord(record).record, mac: Buffer.from(mac) };
};

/** Prints what fits, page after page, as it comes. */
export const queryLedger = async (
  context: Context,
  options: FilterOptions & { readonly limit?: number },
): Promise<void> => {
  using session = await openSession(context, options);
  const filter = filterOf(options);
  if (!context.json) await writeStream(context.io, line(HEAD));
  let left = options.limit ?? Number.POSITIVE_INFINITY;
  for (let pageToken = ''; left > 0; ) {
    const request = { filter, pageSize: Math.min(PAGE, left), pageToken };
    const page = await session.call(LedgerServiceService.queryRecords, request);
    for (const { origin, index, record, ingestTime } of page.records) {
      if (record === undefined) continue;
      const plain = plainOf(record);
      const { time, outcome, operation, key, algorithm, principal, eventId, mac } = plain;
      const text = context.json
        ? `${JSON.stringify({ origin, index: Number(index), ...plain, mac: mac.toString('base64url'), ingestTime })}\n`
        : line([time, outcome, operation, key, algorithm, principal, eventId]);
      await writeStream(context.io, text);
    }
    left -= page.records.length;
    pageToken = page.nextPageToken;
    if (pageToken === '') return;
  }
};

export const FORMATS: Readonly<Record<string, ExportFormat>> = {
  'json-lines': ExportFormat.JSON_LINES,
  csv: ExportFormat.CSV,
  bundle: ExportFormat.BUNDLE,
};

const partOf = ({ log, fromSize, toSize, format }: PartOptions & { readonly format: string }): LogPart | undefined => {
  if (log === undefined) {
    if (fromSize === undefined && toSize === undefined) return undefined;
    throw new CliError('usage', '--from-size and --to-size go with --log');
  }
  if (format !== 'bundle' && format !== 'tlog-tiles') {
    throw new CliError('usage', '--log goes with --format bundle or tlog-tiles');
  }
  return { origin: log, fromSize: BigInt(fromSize ?? 0), toSize: BigInt(toSize ?? 0) };
};

/** A folder for any web server. What comes is verified, by the word of the bundle for the host's key. */
const exportTiles = async (
  context: Context,
  options: FilterOptions & OutOptions & PartOptions,
  part: LogPart | undefined,
): Promise<void> => {
  if (part === undefined || part.fromSize > 0n || options.out === STREAM) {
    throw new CliError('usage', 'tlog-tiles are a folder of one whole log: give --log and --out, and no --from-size');
  }
  await refuseExisting(options.out, false);
  using session = await openSession(context, options);
  const request = { filter: filterOf(options), format: ExportFormat.BUNDLE, part };
  const pieces = async function* (): AsyncGenerator<Buffer> {
    for await (const { data } of session.stream(LedgerServiceService.exportRecords, request)) yield data;
  };
  const { linesIn, writeTiles } = await import('../tiles.ts');
  try {
    const { origin, size } = await writeTiles(options.out, linesIn(pieces()), { origin: part.origin });
    context.note(`wrote ${options.out}: ${size} records of ${origin}\n`);
  } catch (cause) {
    if (cause instanceof DocumentError) throw new CliError('negative', `${options.log}: ${cause.message}`, cause);
    throw cause;
  }
};

/** A file appears when it is whole; on standard output a failure leaves the beginning. */
export const exportLedger = async (
  context: Context,
  options: FilterOptions & OutOptions & PartOptions & { readonly format: string },
): Promise<void> => {
  const part = partOf(options);
  if (options.format === 'tlog-tiles') return exportTiles(context, options, part);
  await refuseExisting(options.out, options.force);
  using session = await openSession(context, options);
  const request = { filter: filterOf(options), format: FORMATS[options.format] as ExportFormat, part };
  const pieces = async function* (): AsyncGenerator<Buffer> {
    for await (const { data } of session.stream(LedgerServiceService.exportRecords, request)) yield data;
  };
  if (options.out === STREAM) {
    for await (const piece of pieces()) await writeStream(context.io, piece);
    return;
  }
  await writeFilePieces(options.out, pieces(), options);
  context.note(`wrote ${options.out}\n`);
};

export const listLogs = async (
  context: Context,
  options: SessionOptions & { readonly tenant: string },
): Promise<void> => {
  using session = await openSession(context, options);
  const logs = [];
  for (let pageToken = ''; ; ) {
    const request = { tenant: options.tenant, pageSize: 500, pageToken };
    const page = await session.call(LedgerServiceService.listLogs, request);
    logs.push(...page.logs.map((log) => ({ ...log, size: Number(log.size) })));
    pageToken = page.nextPageToken;
    if (pageToken === '') break;
  }
  const rows = logs.map(({ origin, size, lastIngestTime, refusal }) => [origin, size, lastIngestTime, refusal]);
  await context.print({ text: tableText(['LOG', 'RECORDS', 'LAST RECORD CAME', 'REFUSED'], rows), json: { logs } });
};

/** The proof goes to a file or standard output; what it proves is said beside it. */
export const fetchReceipt = async (
  context: Context,
  options: SessionOptions & OutOptions & { readonly tenant: string; readonly form: string },
  eventId: string,
): Promise<void> => {
  await refuseExisting(options.out, options.force);
  using session = await openSession(context, options);
  const { proof, record, publicJwk } = await session.call(LedgerServiceService.getReceipt, {
    tenant: options.tenant,
    eventId,
  });
  const plain = record && plainOf(record);
  const file = record !== undefined && options.form === 'receipt' ? formatReceipt({ proof, ...record }) : proof;
  if (options.out !== STREAM) await writeFileWhole(options.out, file, options);
  const text = factsText([
    ['event id', eventId],
    ['time', plain?.time],
    ['operation', plain?.operation],
    ['result', plain?.outcome],
    ['key', plain?.key],
    ['principal', plain?.principal],
  ]);
  if (context.json) await context.print({ text: '', json: { proof, record: plain, publicJwk: JSON.parse(publicJwk) } });
  else if (options.out === STREAM) await writeStream(context.io, file);
  else context.note(text);
};
