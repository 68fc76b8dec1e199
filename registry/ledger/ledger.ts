// What is read of the ledger: queries, exports, verification, receipts. Invariant: every record is verified again when it
// is read, and one that does not verify is named, never handed out.
import { type AuditRecord, decodeAuditRecord, MAC_BYTES, parseEventId } from '../../proto/documents/audit-record.ts';
import { type LogFinding, LogWalk } from '../../proto/documents/audit-walk.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { type Checkpoint, parseCheckpointText, parseSignedNote } from '../../proto/documents/checkpoint.ts';
import type { Cosigner } from '../../proto/documents/cosignature.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { formatProof } from '../../proto/documents/tlog-proof.ts';
import type { Actor } from '../actor.ts';
import { invalid, RegistryError } from '../errors.ts';
import { cursorOf, type Filter, placeOf } from './cursor.ts';
import { type BundlePart, bundle, bundleOf, CSV_HEADER, csvLine, type ExportedRecord, jsonLine } from './export.ts';
import type { MacKeys } from './mac-keys.ts';
import type { LedgerStore, LogRow, RecordRow } from './store.ts';
import { storedTree } from './tree.ts';
import { macFits } from './verify-batch.ts';

export interface LedgerOptions {
  readonly store: { forTenant(tenant: string, actor: Actor): LedgerStore };
  readonly macKeys: Pick<MacKeys, 'of'>;
  /** Verifier key of the registry's countersignatures. */
  readonly cosigner: Cosigner & { readonly text: string };
}

export type ExportFormat = 'json-lines' | 'csv' | 'bundle';

/** The records of a log between two of its checkpoints, named by their sizes. */
export interface LogPart {
  readonly origin: string;
  /** 0: the beginning of the log. */
  readonly fromSize: number;
  /** 0: the newest checkpoint. */
  readonly toSize: number;
}

export interface Verification {
  readonly intact: boolean;
  readonly logs: number;
  readonly records: number;
  /** Up to 100, by origin and position. */
  readonly findings: readonly LogFinding[];
}

const PAGE = 500;
const PAGE_BYTES = 3 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
const MAX_FINDINGS = 100;
const BREATHE_EVERY = 256; // records between two looks at the event loop

const corrupt = (origin: string, index: number): RegistryError =>
  new RegistryError('LEDGER_CORRUPT', { metadata: { origin, index: String(index) } });

export class Ledger {
  readonly #options: LedgerOptions;

  constructor(options: LedgerOptions) {
    this.#options = options;
  }

  /** Oldest first within each log, logs by origin. */
  async query(
    actor: Actor,
    tenant: string,
    query: { readonly filter: Filter; readonly limit: number; readonly cursor?: string },
  ): Promise<{ readonly rows: readonly ExportedRecord[]; readonly next: string }> {
    const { filter, limit, cursor } = query;
    const after = cursor ? { after: placeOf(tenant, filter, cursor) } : {};
    const found = await this.#store(actor, tenant).query({ ...filter, ...after, limit: limit + 1 });
    const rows: ExportedRecord[] = [];
    let bytes = 0;
    for (const row of found.slice(0, limit)) {
      bytes += row.record.length + MAC_BYTES;
      if (bytes > PAGE_BYTES && rows.length > 0) break;
      await this.#check(tenant, row);
      rows.push(row);
    }
    const last = rows.at(-1);
    return { rows, next: last && rows.length < found.length ? cursorOf(tenant, filter, last) : '' };
  }

  /** One log from a position on. A log that is not there has no records. */
  async read(
    actor: Actor,
    tenant: string,
    query: { readonly origin: string; readonly from: number; readonly limit: number },
  ): Promise<{ readonly rows: readonly ExportedRecord[]; readonly size: number }> {
    const { origin } = query;
    const store = this.#store(actor, tenant);
    const log = await store.log(origin);
    if (log === undefined) return { rows: [], size: 0 };
    const rows: ExportedRecord[] = [];
    let bytes = 0;
    for (const found of await store.records(query)) {
      const row = { ...found, origin };
      bytes += row.record.length + MAC_BYTES;
      if (bytes > PAGE_BYTES && rows.length > 0) break;
      await this.#check(tenant, row);
      rows.push(row);
    }
    return { rows, size: log.size };
  }

  /** The file in pieces. A bundle has whole logs, of which its filter may name the host, or a part of one. */
  export(
    actor: Actor,
    tenant: string,
    filter: Filter,
    format: ExportFormat,
    part?: LogPart,
  ): AsyncGenerator<Buffer, void, undefined> {
    if (format !== 'bundle') {
      if (part !== undefined) throw invalid('part', 'goes with a bundle only');
      return pieces(this.#lines(actor, tenant, filter, format));
    }
    const { host, ...others } = filter;
    if (Object.values(others).some((value) => value !== undefined)) throw invalid('filter', 'a bundle has whole logs');
    const store = this.#store(actor, tenant);
    const cosigner = this.#options.cosigner.text;
    const source = { store, tenant, cosigner, check: (row: ExportedRecord) => this.#check(tenant, row) };
    if (part === undefined) return pieces(bundle({ ...source, ...(host !== undefined && { host }) }));
    if (host !== undefined) throw invalid('filter.host', 'the part names the log');
    return pieces(bundleOf(source, () => findPart(store, part)));
  }

  logs(actor: Actor, tenant: string, page: { readonly after?: string; readonly limit: number }) {
    return this.#store(actor, tenant).logs(page);
  }

  /** Whole logs as they are stored. `trusted`: checkpoints that the caller kept. */
  async verify(
    actor: Actor,
    tenant: string,
    options: { readonly host?: string; readonly trusted: readonly string[] },
  ): Promise<Verification> {
    const store = this.#store(actor, tenant);
    const trusted = options.trusted.map(readTrusted);
    const findings: LogFinding[] = [];
    const origins = new Set<string>();
    let records = 0;
    const found = (finding: LogFinding): void => void findings.push(finding);
    for (let after: string | undefined; ; ) {
      const host = options.host === undefined ? {} : { host: options.host };
      const logs = await store.logs({ limit: PAGE, ...host, ...(after !== undefined && { after }) });
      for (const log of logs) {
        origins.add(log.origin);
        records += await this.#walk(store, log, trusted, found);
      }
      after = logs.at(-1)?.origin;
      if (logs.length < PAGE) break;
    }
    for (const { origin } of trusted) {
      if (!origins.has(origin)) found({ code: 'LOG_TRUNCATED', origin, index: 0, message: 'the log is not here' });
    }
    const kept = findings.slice(0, MAX_FINDINGS);
    return { intact: findings.length === 0, logs: origins.size, records, findings: kept };
  }

  /** C2SP tlog-proof with the newest countersigned checkpoint. RECORD_UNKNOWN, RECEIPT_PENDING. */
  async receipt(
    actor: Actor,
    tenant: string,
    eventId: string,
  ): Promise<{ readonly proof: string; readonly row: RecordRow; readonly publicJwk: string }> {
    const store = this.#store(actor, tenant);
    const { host, epoch, sequence } = readEventId(eventId);
    const place = await store.locate({ host, event: `${epoch}/${sequence}` });
    const log = place && (await store.log(place.origin));
    const [row] = place === undefined ? [] : await store.records({ origin: place.origin, from: place.index, limit: 1 });
    if (place === undefined || log === undefined || row?.index !== place.index)
      throw new RegistryError('RECORD_UNKNOWN');
    const { origin, index } = place;
    await this.#check(tenant, { ...row, origin });
    if (log.checkpointSize <= index) throw new RegistryError('RECEIPT_PENDING');
    const hashes = await storedTree(store, origin).inclusion(index, log.checkpointSize);
    return { proof: formatProof({ index, hashes, checkpoint: log.checkpoint }), row, publicJwk: log.publicJwk };
  }

  #store(actor: Actor, tenant: string): LedgerStore {
    return this.#options.store.forTenant(tenant, actor);
  }

  async *#lines(actor: Actor, tenant: string, filter: Filter, format: 'json-lines' | 'csv'): AsyncGenerator<string> {
    if (format === 'csv') yield CSV_HEADER;
    let cursor = '';
    do {
      const { rows, next } = await this.query(actor, tenant, { filter, limit: PAGE, cursor });
      for (const row of rows) yield format === 'csv' ? csvLine(row) : jsonLine(row);
      cursor = next;
    } while (cursor !== '');
  }

  async #walk(
    store: LedgerStore,
    log: LogRow,
    trusted: readonly Checkpoint[],
    found: (finding: LogFinding) => void,
  ): Promise<number> {
    const { origin, size } = log;
    const { cosigner } = this.#options;
    const publicJwk = JSON.parse(log.publicJwk) as PublicJwk;
    const mine = trusted.filter((checkpoint) => checkpoint.origin === origin);
    const walk = new LogWalk({ origin, publicJwk, cosigner, trusted: mine, found });
    let due = await store.checkpoints({ origin, from: 0, limit: PAGE });
    while (walk.size < size) {
      const rows = await store.records({ origin, from: walk.size, limit: Math.min(PAGE, size - walk.size) });
      if (rows.length === 0 || rows[0]?.index !== walk.size) break;
      for (const row of rows) {
        const record = walk.add(row.record, row.mac);
        if (record !== undefined && !(await this.#fits(record, row))) walk.edited(row.index, 'the MAC does not fit');
        while (due[0] !== undefined && due[0].size <= walk.size) {
          walk.checkpoint(due[0].text);
          const rest = due.slice(1);
          due = rest.length > 0 ? rest : await store.checkpoints({ origin, from: due[0].size + 1, limit: PAGE });
        }
        if (row.index % BREATHE_EVERY === 0) await new Promise(setImmediate);
      }
    }
    walk.end();
    const truncated = (message: string): void => found({ code: 'LOG_TRUNCATED', origin, index: walk.size, message });
    if (walk.size < size) truncated(`${walk.size} records are there, of ${size}`);
    else if (due.length > 0) truncated(`a checkpoint is of ${due[0]?.size} records`);
    return walk.size;
  }

  async #fits(record: AuditRecord, row: RecordRow): Promise<boolean> {
    const { host, epoch } = parseEventId(record.eventId);
    const key = await this.#options.macKeys.of(host, epoch);
    return key !== undefined && macFits(key, row, row.index);
  }

  async #check(tenant: string, row: ExportedRecord): Promise<void> {
    try {
      const { record } = decodeAuditRecord(row.record);
      const { host } = parseEventId(record.eventId);
      const isOurs = record.tenant === tenant && row.origin.startsWith(`${host}/${tenant}/`);
      if (isOurs && (await this.#fits(record, row))) return;
    } catch (cause) {
      if (!(cause instanceof DocumentError)) throw cause;
    }
    throw corrupt(row.origin, row.index);
  }
}

/** Both ends are checkpoints that the registry has countersigned, or the beginning of the log. */
const findPart = async (store: LedgerStore, { origin, fromSize, toSize }: LogPart): Promise<BundlePart> => {
  const log = await store.log(origin);
  if (log === undefined) throw invalid('part.origin', 'there is no such log of this tenant');
  const to = toSize === 0 ? log.checkpointSize : toSize;
  for (const [field, size] of [
    ['part.from_size', fromSize],
    ['part.to_size', to],
  ] as const) {
    if (size === 0 && field === 'part.from_size') continue;
    const [found] = await store.checkpoints({ origin, from: size, limit: 1 });
    if (found?.size !== size) throw invalid(field, `no checkpoint of ${size} records was countersigned`);
  }
  if (fromSize > to) throw invalid('part.to_size', 'is before the beginning of the part');
  return { log, from: fromSize, to };
};

const readEventId = (text: string) => {
  try {
    return parseEventId(text);
  } catch (cause) {
    if (!(cause instanceof DocumentError)) throw cause;
    throw invalid('event_id', cause.message);
  }
};

const readTrusted = (note: string): Checkpoint => {
  try {
    return parseCheckpointText(parseSignedNote(note).text);
  } catch (cause) {
    if (!(cause instanceof DocumentError)) throw cause;
    throw invalid('trusted_checkpoints', cause.message);
  }
};

/** Lines put together to pieces worth a message. */
async function* pieces(lines: AsyncGenerator<string>): AsyncGenerator<Buffer, void, undefined> {
  let waiting: string[] = [];
  let length = 0;
  for await (const line of lines) {
    waiting.push(line);
    length += line.length;
    if (length < CHUNK_BYTES) continue;
    yield Buffer.from(waiting.join(''));
    [waiting, length] = [[], 0];
  }
  if (waiting.length > 0) yield Buffer.from(waiting.join(''));
}
