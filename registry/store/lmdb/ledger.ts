// The ledger of one tenant in LMDB. Every key begins with the tenant. Records are found by rows `found` (field, value, log,
// span of 256 positions), which hold the positions inside of the span, and by time through `span` rows, which have the
// least and greatest time of a span. An event is found by bisection: in a log event ids ascend.
import type { Actor } from '../../actor.ts';
import type { CheckpointRow, LedgerStore, LogAppend, LogRow, RecordQuery, RecordRow } from '../../ledger/store.ts';
import { refuseForeignLog, SPAN, type Span, spansOf, WIDE_SPAN, widened } from '../rules.ts';
import type { Environment, Parts } from './environment.ts';
import type { Gate } from './gate.ts';
import {
  compareEvents,
  digest,
  foundBy,
  indexOf,
  matches,
  type Packed,
  type Place,
  pack,
  type Stored,
  unpack,
} from './ledger-rows.ts';

/** Where a range over origins begins: behind the last page, but not before the first log of the host. */
const startOf = (host: string | undefined, after: readonly (string | number)[] | undefined) => {
  const first = host === undefined ? undefined : `${host}/`;
  if (after !== undefined && (first === undefined || (after[0] as string) >= first)) return { after };
  return first === undefined ? {} : { from: [first] };
};

/** Where the rows of an index begin that a query has to look at: the page before may have ended inside of a span. */
const foundFrom = ({ host, after }: RecordQuery) => {
  const start = startOf(host, after && [after.origin, Math.floor(after.index / SPAN)]);
  return start.after === undefined ? start : { from: start.after };
};

const overlaps = ({ least, greatest }: Span, { fromTime, toTime }: RecordQuery): boolean =>
  (fromTime === undefined || greatest >= fromTime) && (toTime === undefined || least < toTime);

class TenantLedger {
  readonly #env: Environment;
  readonly #tenant: string;

  constructor(env: Environment, tenant: string) {
    this.#env = env;
    this.#tenant = tenant;
  }

  append({ log, records, nodes, checkpoints }: LogAppend): boolean {
    const env = this.#env;
    const tenant = this.#tenant;
    const { origin } = log;
    if ((env.get<LogRow>('log', tenant, origin)?.revision ?? 0) + 1 !== log.revision) return false;
    for (const record of records) env.put(['record', tenant, origin, record.row.index], pack(record));
    this.#addToFound(origin, records);
    this.#addToSpans(origin, records);
    for (const { level, index, hash } of nodes) env.put(['node', tenant, origin, level, index], hash);
    for (const row of checkpoints) env.put(['checkpoint', tenant, origin, row.size], row);
    env.put(['log', tenant, origin], log);
    return true;
  }

  *find(query: RecordQuery): Generator<Stored & Place> {
    for (const place of this.#places(query)) {
      const row = this.stored(place);
      if (row !== undefined && matches(row.facts, query)) yield { ...row, origin: place.origin };
    }
  }

  stored({ origin, index }: Place): Stored | undefined {
    const packed = this.#env.get<Packed>('record', this.#tenant, origin, index);
    return packed && unpack(index, packed);
  }

  locate(host: string, event: string): Place | undefined {
    for (const { value: log } of this.logs(host, undefined)) {
      let [low, high] = [0, log.size];
      while (low < high) {
        const middle = Math.floor((low + high) / 2);
        const order = compareEvents(this.stored({ origin: log.origin, index: middle })?.facts.event ?? '', event);
        if (order === 0) return { origin: log.origin, index: middle };
        if (order < 0) low = middle + 1;
        else high = middle;
      }
    }
    return undefined;
  }

  logs(host: string | undefined, after: string | undefined): Generator<{ readonly value: LogRow }> {
    const env = this.#env;
    const range = {
      prefix: ['log', this.#tenant] as const,
      ...startOf(host, after === undefined ? undefined : [after]),
    };
    return (function* () {
      for (const row of env.rows<LogRow>(range)) {
        if (host !== undefined && row.value.host !== host) return;
        yield row;
      }
    })();
  }

  /** Positions that a batch adds to one span of one value go into its row together. */
  #addToFound(origin: string, records: LogAppend['records']): void {
    const rows = new Map<string, { readonly key: Parts; readonly positions: number[] }>();
    for (const { row, facts } of records) {
      const at = Math.floor(row.index / SPAN);
      for (const [field, value] of foundBy(facts)) {
        const name = `${field} ${at} ${value}`;
        let found = rows.get(name);
        if (found === undefined) {
          found = { key: ['found', this.#tenant, field, digest(value), origin, at], positions: [] };
          rows.set(name, found);
        }
        found.positions.push(row.index % SPAN);
      }
    }
    const before = records[0]?.row.index ?? 0;
    for (const { key, positions } of rows.values()) {
      // Only the span that the log ended in before can have a row already.
      const isOld = before % SPAN !== 0 && key.at(-1) === Math.floor(before / SPAN);
      const known = isOld ? this.#env.get<Buffer>(...key) : undefined;
      this.#env.put(key, known === undefined ? Buffer.from(positions) : Buffer.concat([known, Buffer.from(positions)]));
    }
  }

  #addToSpans(origin: string, records: LogAppend['records']): void {
    for (const span of spansOf(records)) {
      const key = ['span', this.#tenant, origin, span.level, span.at] as const;
      this.#env.put(key, widened(this.#env.get<Span>(...key), span));
    }
  }

  *#places(query: RecordQuery): Generator<Place> {
    const { after } = query;
    const index = indexOf(query);
    if (index !== undefined) return yield* this.#found(['found', this.#tenant, index[0], digest(index[1])], query);
    for (const { value: log } of this.logs(query.host, undefined)) {
      if (after !== undefined && log.origin < after.origin) continue;
      const from = after?.origin === log.origin ? after.index + 1 : 0;
      yield* this.#inTime(log.origin, from, query);
    }
  }

  /** By an index; spans without a record of such a time are passed over, wide ones by one step. */
  *#found(prefix: Parts, query: RecordQuery): Generator<Place> {
    const { host, after } = query;
    let start: ReturnType<typeof foundFrom> | undefined = foundFrom(query);
    while (start !== undefined) {
      const range = { prefix, ...start };
      start = undefined;
      for (const { key, value } of this.#env.rows<Buffer>(range)) {
        const [origin, span] = key as [string, number];
        if (host !== undefined && !origin.startsWith(`${host}/`)) return;
        const wide = Math.floor(span / (WIDE_SPAN / SPAN));
        if (!this.#isTime(origin, 2, wide, query)) {
          start = { from: [origin, (wide + 1) * (WIDE_SPAN / SPAN)] };
          break;
        }
        if (!this.#isTime(origin, 1, span, query)) continue;
        for (const position of value) {
          const at = { origin, index: span * SPAN + position };
          if (after === undefined || at.origin !== after.origin || at.index > after.index) yield at;
        }
      }
    }
  }

  /** Whether records of the span may have a time that is asked for. */
  #isTime(origin: string, level: number, at: number, query: RecordQuery): boolean {
    if (query.fromTime === undefined && query.toTime === undefined) return true;
    const span = this.#env.get<Span>('span', this.#tenant, origin, level, at);
    return span !== undefined && overlaps(span, query);
  }

  *#inTime(origin: string, from: number, query: RecordQuery): Generator<Place> {
    for (const wide of this.#spans(origin, 2, Math.floor(from / WIDE_SPAN), query)) {
      const [first, behind] = [wide.at * WIDE_SPAN, (wide.at + 1) * WIDE_SPAN];
      for (const { at } of this.#spans(origin, 1, Math.floor(Math.max(from, first) / SPAN), query)) {
        const start = at * SPAN;
        if (start >= behind) break;
        for (let index = Math.max(from, start); index < start + SPAN; index += 1) yield { origin, index };
      }
    }
  }

  *#spans(origin: string, level: number, from: number, query: RecordQuery): Generator<Span> {
    const range = { prefix: ['span', this.#tenant, origin, level] as const, numbers: true, from: [from] };
    for (const { value } of this.#env.rows<Span>(range)) if (overlaps(value, query)) yield value;
  }
}

const firstOf = <T>(rows: Iterable<T>, limit: number): T[] => {
  const found: T[] = [];
  if (limit <= 0) return found;
  for (const row of rows) {
    found.push(row);
    if (found.length === limit) break;
  }
  return found;
};

const plain = ({ index, record, mac, ingestedAt }: Stored): RecordRow => ({ index, record, mac, ingestedAt });

export const ledgerStore = (options: {
  readonly env: Environment;
  readonly tenant: string;
  readonly actor: Actor;
  readonly gate: Gate;
}): LedgerStore => {
  const { env, tenant, actor, gate } = options;
  const ledger = new TenantLedger(env, tenant);
  return {
    log: async (origin) => gate.read(() => env.get<LogRow>('log', tenant, origin)),
    logs: async ({ host, after, limit }) =>
      gate.read(() => firstOf(ledger.logs(host, after), limit).map(({ value }) => value)),
    append: (append) =>
      gate.write(
        () => {
          refuseForeignLog(append.log, tenant, actor);
          return ledger.append(append);
        },
        { bulk: true },
      ),
    records: async ({ origin, from, limit }) =>
      gate.read(() => {
        const prefix = ['record', tenant, origin] as const;
        const range = { prefix, numbers: true, from: [from], limit };
        return [...env.rows<Packed>(range)].map(({ key, value }) => plain(unpack(key[0] as number, value)));
      }),
    query: async (query) =>
      gate.read(() => firstOf(ledger.find(query), query.limit).map((row) => ({ ...plain(row), origin: row.origin }))),
    locate: async ({ host, event }) => gate.read(() => ledger.locate(host, event)),
    nodes: async ({ origin, level, from, limit }) =>
      gate.read(() => {
        const range = { prefix: ['node', tenant, origin, level] as const, numbers: true, from: [from], limit };
        return [...env.rows<Buffer>(range)].map(({ key, value }) => ({ level, index: key[0] as number, hash: value }));
      }),
    checkpoints: async ({ origin, from, limit }) =>
      gate.read(() => {
        const range = { prefix: ['checkpoint', tenant, origin] as const, numbers: true, from: [from], limit };
        return [...env.rows<CheckpointRow>(range)].map(({ value }) => value);
      }),
  };
};
