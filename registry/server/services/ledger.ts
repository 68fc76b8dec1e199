// LedgerService: proto to plain and back. Invariant: who reads a tenant that is not his does so by audit.read-any, and
// that stands in the logs of `_platform` and of the tenant before he gets an answer.
import {
  ExportFormat,
  type LedgerServiceService,
  type LogPart,
  type RecordFilter,
} from '../../../proto/gen/mortise/registry/v1/ledger.ts';
import { invalid, RegistryError } from '../../errors.ts';
import { type RecordPort, recordDeed } from '../audit-trail.ts';
import { adminOf, type Call, hostOf, requireReadable } from '../caller.ts';
import { nextPage, pageSize, pageStart } from '../pages.ts';
import type { Handlers } from '../rpc.ts';
import { append } from './ledger-append.ts';
import type { IngestPort, LedgerPort, PlainFilter, PlainPart, PlainRecord, Reader } from './ledger-ports.ts';

const PLATFORM = '_platform';
const MAX_PAGE = 1000;
const MAX_TRUSTED = 16;
const MAX_CHUNK_BYTES = 1024 * 1024;
const FORMATS = {
  [ExportFormat.UNSPECIFIED]: 'json-lines',
  [ExportFormat.JSON_LINES]: 'json-lines',
  [ExportFormat.CSV]: 'csv',
  [ExportFormat.BUNDLE]: 'bundle',
} as const;

export interface LedgerServiceParts {
  readonly ingest: IngestPort;
  readonly ledger: LedgerPort;
  readonly records: RecordPort;
}

/** Times of records have microseconds; what is asked for has milliseconds. */
const microseconds = (date: Date): string => `${date.toISOString().slice(0, -1)}000Z`;

const filterOf = (filter: RecordFilter): PlainFilter => {
  const { fromTime, toTime, key, principal, operation, outcome, correlationId, host } = filter;
  const given = Object.entries({ key, principal, operation, outcome, correlationId, host });
  return {
    ...(fromTime && { fromTime: microseconds(fromTime) }),
    ...(toTime && { toTime: microseconds(toTime) }),
    ...Object.fromEntries(given.filter(([, value]) => value !== '')),
  };
};

const partOf = ({ origin, fromSize, toSize }: LogPart): PlainPart => {
  const most = BigInt(Number.MAX_SAFE_INTEGER);
  if (fromSize > most || toSize > most) throw invalid('part', 'is beyond every log');
  return { origin, fromSize: Number(fromSize), toSize: Number(toSize) };
};

const needed = (filter: RecordFilter | undefined): RecordFilter => {
  if (filter === undefined || filter.tenant === '') throw invalid('filter.tenant', 'is needed');
  return filter;
};

/** As whom the caller reads this tenant; the use of audit.read-any is recorded first. */
const readerOf = async (
  { records }: LedgerServiceParts,
  call: Call,
  about: { readonly tenant: string; readonly operation: string },
): Promise<Reader> => {
  const { name, scopes, tenants } = adminOf(call);
  const { tenant, operation } = about;
  // To the platform's administrators every tenant is another's.
  const own = tenants.length === 0 ? tenant === PLATFORM : tenants.includes(tenant);
  if (own && scopes.includes('audit.read')) return { kind: 'admin', name };
  if (!scopes.includes('audit.read-any')) throw new RegistryError('PERMISSION_DENIED');
  const deed = { operation, tenants: tenant === PLATFORM ? [] : [tenant], detail: { scope: 'audit.read-any' } };
  await recordDeed(records, call, deed, 'ok');
  return { kind: 'auditor', name };
};

const recordOf = ({ record, mac }: PlainRecord) => ({ record, mac });

const storedOf = (row: PlainRecord & { readonly origin: string }) => ({
  origin: row.origin,
  index: BigInt(row.index),
  record: recordOf(row),
  ingestTime: new Date(row.ingestedAt),
});

const querying = (parts: LedgerServiceParts) => ({
  queryRecords: async (call: Call, request: Parameters<Handlers<typeof LedgerServiceService>['queryRecords']>[1]) => {
    const filter = needed(request.filter);
    const { tenant } = filter;
    const limit = pageSize(request, { most: MAX_PAGE });
    const reader = await readerOf(parts, call, { tenant, operation: 'query-records' });
    const query = { filter: filterOf(filter), limit, ...(request.pageToken && { cursor: request.pageToken }) };
    const { rows, next } = await parts.ledger.query(reader, tenant, query);
    return { records: rows.map(storedOf), nextPageToken: next };
  },

  readLog: async (call: Call, request: Parameters<Handlers<typeof LedgerServiceService>['readLog']>[1]) => {
    const { tenant, origin, from, pageSize: size } = request;
    if (from > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid('from', 'is beyond every log');
    const limit = pageSize({ pageSize: size, pageToken: '' }, { most: MAX_PAGE });
    const reader = await readerOf(parts, call, { tenant, operation: 'read-log' });
    const found = await parts.ledger.read(reader, tenant, { origin, from: Number(from), limit });
    return { records: found.rows.map(storedOf), size: BigInt(found.size) };
  },

  exportRecords: async function* (
    call: Call,
    request: Parameters<Handlers<typeof LedgerServiceService>['exportRecords']>[1],
  ) {
    const filter = needed(request.filter);
    const { tenant } = filter;
    const format = FORMATS[request.format];
    if (format === undefined) throw invalid('format', 'is not known');
    const part = request.part && partOf(request.part);
    const reader = await readerOf(parts, call, { tenant, operation: 'export-records' });
    for await (const piece of parts.ledger.export(reader, tenant, filterOf(filter), format, part)) {
      if (call.signal.aborted) return;
      for (let at = 0; at < piece.length; at += MAX_CHUNK_BYTES)
        yield { data: piece.subarray(at, at + MAX_CHUNK_BYTES) };
    }
  },
});

export const ledgerHandlers = (parts: LedgerServiceParts): Handlers<typeof LedgerServiceService> => ({
  append: (call, requests) => append(parts.ingest, call, requests),

  ...querying(parts),

  verifyLedger: async (call, { tenant, host, trustedCheckpoints }) => {
    if (trustedCheckpoints.length > MAX_TRUSTED) throw invalid('trusted_checkpoints', `at most ${MAX_TRUSTED}`);
    const reader = await readerOf(parts, call, { tenant, operation: 'verify-ledger' });
    const options = { trusted: trustedCheckpoints, ...(host && { host }) };
    const { intact, logs, records, findings } = await parts.ledger.verify(reader, tenant, options);
    const messages = findings.map((finding) => ({ ...finding, index: BigInt(finding.index) }));
    return { intact, logs, records: BigInt(records), findings: messages };
  },

  listLogs: async (call, request) => {
    const { tenant } = request;
    const reader = await readerOf(parts, call, { tenant, operation: 'list-logs' });
    const question = ['logs', tenant];
    const after = pageStart(request, question);
    const limit = pageSize(request);
    const logs = await parts.ledger.logs(reader, tenant, { limit, ...(after && { after }) });
    const messages = logs.map(({ origin, size, checkpoint, publicJwk, lastIngestAt, refusal }) => ({
      origin,
      size: BigInt(size),
      checkpoint,
      publicJwk,
      lastIngestTime: lastIngestAt === undefined ? undefined : new Date(lastIngestAt),
      refusal,
    }));
    const last = logs.length < limit ? undefined : logs.at(-1)?.origin;
    return { logs: messages, nextPageToken: nextPage(last, question) };
  },

  getReceipt: async (call, { tenant, eventId }) => {
    let reader: Reader;
    if (call.caller?.kind === 'host') {
      const { name } = hostOf(call);
      requireReadable(call, tenant);
      if (!eventId.startsWith(`${name}/`)) throw new RegistryError('PERMISSION_DENIED');
      reader = { kind: 'host', name };
    } else reader = await readerOf(parts, call, { tenant, operation: 'get-receipt' });
    const { proof, row, publicJwk } = await parts.ledger.receipt(reader, tenant, eventId);
    return { proof, record: recordOf(row), publicJwk };
  },
});
