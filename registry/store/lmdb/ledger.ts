// The ledger of one tenant in LMDB. Every key begins with the tenant. Records are found by rows `found` (field, hash of the
// value, log, position), and by time through `span` rows, which have the least and greatest time of 256 records.
import { hash } from 'node:crypto';
import type { Actor } from '../../actor.ts';
import type {
  CheckpointRow,
  LedgerStore,
  LogAppend,
  LogRow,
  RecordFacts,
  RecordQuery,
  RecordRow,
} from '../../ledger/store.ts';
import { keyIdOf, refuseForeignLog, SPAN, type Span, spansOf, widened } from '../rules.ts';
import type { Environment } from './environment.ts';
import type { Gate } from './gate.ts';

interface Stored extends RecordRow {
  readonly facts: RecordFacts;
}

interface Place {
  readonly origin: string;
  readonly index: number;
}

const SHORT = /^[\x20-\x7e]{0,48}$/;

/** Values may be longer than a key of LMDB; most are short, and a hash costs more than a few bytes. */
const digest = (value: string): string =>
  SHORT.test(value) ? `=${value}` : `#${hash('sha256', value, 'base64url').slice(0, 22)}`;

/** What a record is found by; "ok" is what most records have, so it is not worth a row. */
const foundBy = ({ key, principal, operation, outcome, correlationId }: RecordFacts) => [
  ...(key === '-' ? [] : [['key', keyIdOf(key)] as const]),
  ...(outcome === 'ok' ? [] : [['outcome', outcome] as const]),
  ['principal', principal] as const,
  ['operation', operation] as const,
  ['correlation', correlationId] as const,
];

/** The narrowest index that the query can use. */
const indexOf = ({ correlationId, key, outcome, principal, operation }: RecordQuery) => {
  if (correlationId !== undefined) return ['correlation', correlationId] as const;
  if (key !== undefined && key !== '-') return ['key', keyIdOf(key)] as const;
  if (outcome !== undefined && outcome !== 'ok') return ['outcome', outcome] as const;
  if (principal !== undefined) return ['principal', principal] as const;
  if (operation !== undefined) return ['operation', operation] as const;
  return undefined;
};

const matches = (facts: RecordFacts, query: RecordQuery): boolean => {
  const { fromTime, toTime, key, principal, operation, outcome, correlationId } = query;
  if (fromTime !== undefined && facts.time < fromTime) return false;
  if (toTime !== undefined && facts.time >= toTime) return false;
  if (key !== undefined && facts.key !== key && keyIdOf(facts.key) !== key) return false;
  if (principal !== undefined && facts.principal !== principal) return false;
  if (operation !== undefined && facts.operation !== operation) return false;
  if (outcome !== undefined && facts.outcome !== outcome) return false;
  return correlationId === undefined || facts.correlationId === correlationId;
};

/** Where a range over origins begins: behind the last page, but not before the first log of the host. */
const startOf = (host: string | undefined, after: readonly (string | number)[] | undefined) => {
  const first = host === undefined ? undefined : `${host}/`;
  if (after !== undefined && (first === undefined || (after[0] as string) >= first)) return { after };
  return first === undefined ? {} : { from: [first] };
};

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
    for (const { row, facts } of records) {
      env.put(['record', tenant, origin, row.index], { ...row, facts } satisfies Stored);
      env.put(['event', tenant, log.host, facts.event], { origin, index: row.index } satisfies Place);
      for (const [field, value] of foundBy(facts)) {
        env.put(['found', tenant, field, digest(value), origin, row.index], null);
      }
    }
    this.#addToSpans(origin, records);
    for (const { level, index, hash } of nodes) env.put(['node', tenant, origin, level, index], hash);
    for (const row of checkpoints) env.put(['checkpoint', tenant, origin, row.size], row);
    env.put(['log', tenant, origin], log);
    return true;
  }

  *find(query: RecordQuery): Generator<Stored & Place> {
    for (const place of this.#places(query)) {
      const row = this.#env.get<Stored>('record', this.#tenant, place.origin, place.index);
      if (row !== undefined && matches(row.facts, query)) yield { ...row, origin: place.origin };
    }
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

  #addToSpans(origin: string, records: LogAppend['records']): void {
    for (const span of spansOf(records)) {
      const key = ['span', this.#tenant, origin, span.at] as const;
      this.#env.put(key, widened(this.#env.get<Span>(...key), span));
    }
  }

  *#places(query: RecordQuery): Generator<Place> {
    const { after } = query;
    const index = indexOf(query);
    if (index !== undefined) {
      const prefix = ['found', this.#tenant, index[0], digest(index[1])] as const;
      const from = startOf(query.host, after && [after.origin, after.index]);
      for (const { key } of this.#env.rows({ prefix, ...from })) {
        const [origin, position] = key as [string, number];
        if (query.host !== undefined && !origin.startsWith(`${query.host}/`)) return;
        yield { origin, index: position };
      }
      return;
    }
    for (const { value: log } of this.logs(query.host, undefined)) {
      if (after !== undefined && log.origin < after.origin) continue;
      const from = after?.origin === log.origin ? after.index + 1 : 0;
      yield* this.#inTime(log.origin, from, query);
    }
  }

  *#inTime(origin: string, from: number, { fromTime, toTime }: RecordQuery): Generator<Place> {
    const range = { prefix: ['span', this.#tenant, origin] as const, numbers: true, from: [Math.floor(from / SPAN)] };
    for (const { key, value } of this.#env.rows<Span>(range)) {
      if (fromTime !== undefined && value.greatest < fromTime) continue;
      if (toTime !== undefined && value.least >= toTime) continue;
      const start = (key[0] as number) * SPAN;
      for (let index = Math.max(from, start); index < start + SPAN; index += 1) yield { origin, index };
    }
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
        return [...env.rows<Stored>({ prefix, numbers: true, from: [from], limit })].map(({ value }) => plain(value));
      }),
    query: async (query) =>
      gate.read(() => firstOf(ledger.find(query), query.limit).map((row) => ({ ...plain(row), origin: row.origin }))),
    locate: async ({ host, event }) => gate.read(() => env.get<Place>('event', tenant, host, event)),
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
