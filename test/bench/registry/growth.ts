// Does a record or a query cost more where the ledger is long? Two registries over each store, alike but for the length of
// their ledgers, in alternating cells.
import { join } from 'node:path';
import type { Client } from '@grpc/grpc-js';
import { LedgerServiceService } from '../../../proto/gen/mortise/registry/v1/ledger.ts';
import { unary } from '../../support/registry-client.ts';
import { aFilter } from '../../support/registry-messages.ts';
import { judgeBy } from '../bars.ts';
import { Remote } from '../remote.ts';
import { type Findings, type Settings, thousands } from '../run.ts';
import { median, ratios, spreadOf } from '../statistics.ts';
import { BARS } from './bars.ts';
import { cpuOf } from './cpu-time.ts';
import { APART_MS, correlationIdOf, type FillQuestion, fillerHost, LOGS_FROM, PRINCIPALS } from './filler.ts';
import { Feeder } from './ingest.ts';
import { BenchRegistry, STORES, type StoreName, startDatabase } from './lab.ts';

const HOSTS = 50;
const LENGTHS = { full: { short: 100_000, long: 5_000_000 }, quick: { short: 100_000, long: 250_000 } };
const SIZES = ['short', 'long'] as const;
type Size = (typeof SIZES)[number];
const QUERIES = 40; // of a kind in a cell
const TURNS = 4; // of the two ledgers in a cell
const FED = { full: 16_384, quick: 8_192 };
const PAGE = 10; // as many as the short ledgers have of each kind

/** Both, the one that was second first. */
const inTurns = (turn: number): readonly Size[] => (turn % 2 === 0 ? SIZES : SIZES.toReversed());

/** Picks of a cell, the same for both ledgers as parts of their lengths. */
interface Pick {
  readonly host: string;
  readonly index: number;
}

const wholeSeconds = (index: number, seconds: number): { fromTime: Date; toTime: Date } => {
  const from = LOGS_FROM + index * APART_MS;
  return { fromTime: new Date(from), toTime: new Date(from + seconds * 1000) };
};

const KINDS: Readonly<Record<string, (pick: Pick) => Parameters<typeof aFilter>[0]>> = {
  'a correlation id': ({ host, index }) => ({ correlationId: correlationIdOf(host, index) }),
  'a principal on one host, first page': ({ host, index }) => ({ host, principal: `svc-${index % PRINCIPALS}` }),
  'refusals of one host, first page': ({ host }) => ({ host, outcome: 'KEY_STATE' }),
  'five seconds of all hosts': ({ index }) => wholeSeconds(index, 5),
  'a principal in five seconds of all hosts': ({ index }) => ({
    ...wholeSeconds(index, 5),
    principal: `svc-${index % PRINCIPALS}`,
  }),
};
type Kind = keyof typeof KINDS;

const query = async (client: Client, filter: ReturnType<typeof aFilter>): Promise<number> => {
  const from = performance.now();
  const { records } = await unary(client, LedgerServiceService.queryRecords, { filter, pageSize: PAGE, pageToken: '' });
  if (records.length === 0) throw new Error(`nothing was found: ${JSON.stringify(filter)}`);
  return performance.now() - from;
};

/** Medians of the queries of a cell, in milliseconds; the two ledgers are asked in turns. */
const queryCells = async (
  on: Ledgers['on'],
  kind: Kind,
  { lengths, round }: { readonly lengths: Record<Size, number>; readonly round: number },
): Promise<Record<Size, number>> => {
  const times: Record<Size, number[]> = { short: [], long: [] };
  const filterOf = KINDS[kind] as (typeof KINDS)[string];
  for (let count = 0; count < QUERIES; count += 1) {
    const part = (count * 0.618 + round * 0.1) % 0.9;
    for (const size of inTurns(count)) {
      const pick = { host: fillerHost((count * 7) % HOSTS), index: Math.floor((part * lengths[size]) / HOSTS) };
      times[size].push(await query(on[size].process.admin, aFilter(filterOf(pick))));
    }
  }
  return { short: median(times.short), long: median(times.long) };
};

/** Microseconds for a record, and of them the registry's CPU time; the two ledgers are fed in turns. */
const ingestCells = async ({ on, feeder, hosts }: Ledgers, records: number) => {
  const each = Math.ceil(records / TURNS);
  const spent = { short: { micros: 0, cpu: 0 }, long: { micros: 0, cpu: 0 } };
  for (let turn = 0; turn < TURNS; turn += 1) {
    for (const size of inTurns(turn)) {
      const { pid } = on[size].process;
      const before = cpuOf(pid);
      spent[size].micros += 1e6 / (await feeder.feed(hosts[size], each)) / TURNS;
      spent[size].cpu += ((cpuOf(pid) - before) * 1000) / each / TURNS;
    }
  }
  return spent;
};

const fill = async (on: BenchRegistry, records: number): Promise<void> => {
  await using child = new Remote('registry/filler.ts');
  await on.process.stop('SIGTERM');
  const store = on.database === undefined ? { path: join(on.process.dataDir, 'store') } : { url: on.database.url };
  await child.ask({
    store,
    hosts: HOSTS,
    records: records / HOSTS,
    sealingJwk: on.process.pinned.sealingJwk,
  } satisfies FillQuestion);
  await on.process.start();
};

interface Ledgers {
  readonly on: Readonly<Record<Size, BenchRegistry>>;
  readonly feeder: Feeder;
  readonly hosts: Readonly<Record<Size, readonly string[]>>;
}

interface Cells {
  readonly ingest: Record<Size, number[]>;
  readonly cpu: Record<Size, number[]>;
  readonly queries: Map<Kind, Record<Size, number[]>>;
}

const measureCells = async (ledgers: Ledgers, { quick, rounds }: Settings): Promise<Cells> => {
  const lengths = quick ? LENGTHS.quick : LENGTHS.full;
  const cells: Cells = {
    ingest: { short: [], long: [] },
    cpu: { short: [], long: [] },
    queries: new Map(Object.keys(KINDS).map((kind) => [kind, { short: [], long: [] }])),
  };
  // Round 0 warms and does not count.
  for (let round = 0; round <= rounds; round += 1) {
    const spent = await ingestCells(ledgers, quick ? FED.quick : FED.full);
    for (const size of round > 0 ? SIZES : []) {
      cells.ingest[size].push(spent[size].micros);
      cells.cpu[size].push(spent[size].cpu);
    }
    for (const [kind, times] of cells.queries) {
      const asked = await queryCells(ledgers.on, kind, { lengths, round });
      for (const size of round > 0 ? SIZES : []) times[size].push(asked[size]);
    }
  }
  return cells;
};

const rowOf = (what: string, cells: Record<Size, number[]>, digits: number): string[] => {
  const growth = ratios(cells.long, cells.short);
  return [
    what,
    median(cells.short).toFixed(digits),
    median(cells.long).toFixed(digits),
    median(growth).toFixed(2),
    spreadOf(growth)
      .map((value) => value.toFixed(2))
      .join('–'),
  ];
};

const BARS_OF = {
  LMDB: { ingest: BARS.growthIngestLmdb, query: BARS.growthQueryLmdb },
  PostgreSQL: { ingest: BARS.growthIngestPostgres, query: BARS.growthQueryPostgres },
} as const;

const findingsOf = (store: StoreName, { ingest, cpu, queries }: Cells, { quick }: Settings): Findings => {
  const { short, long } = quick ? LENGTHS.quick : LENGTHS.full;
  const [worst] = [...queries].sort(
    ([, a], [, b]) => median(ratios(b.long, b.short)) - median(ratios(a.long, a.short)),
  ) as [[Kind, Record<Size, number[]>]];
  const note = `${thousands(long)} records against ${thousands(short)}`;
  return {
    bars: [
      judgeBy(BARS_OF[store].ingest, ingest.long, ratios(ingest.long, ingest.short), { note }),
      judgeBy(BARS_OF[store].query, worst[1].long, ratios(worst[1].long, worst[1].short), {
        note: `${worst[0]}; ${note}`,
      }),
    ],
    tables: [
      {
        title: `${store}: a ledger of ${thousands(long)} records against one of ${thousands(short)}`,
        head: ['work', 'short', 'long', 'long ÷ short', 'spread'],
        rows: [
          rowOf('taking a record, µs', ingest, 1),
          rowOf("of it the registry's CPU time, µs", cpu, 1),
          ...[...queries].map(([kind, times]) => rowOf(`query by ${kind}, ms`, times, 2)),
        ],
        notes: [`${HOSTS} logs; a page has up to ${PAGE} records, each of which is verified before it is answered.`],
      },
    ],
  };
};

export const measureGrowth = async (settings: Settings): Promise<Findings> => {
  const { quick, say } = settings;
  const lengths = quick ? LENGTHS.quick : LENGTHS.full;
  await using postgres = await startDatabase();
  await using stack = new AsyncDisposableStack();
  const all = new Map<StoreName, Ledgers>();
  for (const store of STORES) {
    const start = async (): Promise<BenchRegistry> =>
      stack.use(await BenchRegistry.start(store === 'LMDB' ? undefined : postgres));
    all.set(store, {
      on: { short: await start(), long: await start() },
      feeder: stack.use(new Feeder()),
      hosts: { short: [], long: [] },
    });
  }
  // Both stores at once: the filling of one leaves a core to the other.
  await Promise.all(
    [...all].map(async ([, { on }]) => {
      for (const size of SIZES) await fill(on[size], lengths[size]);
    }),
  );
  const filled = all.get('PostgreSQL')?.on.long.database?.superUrl ?? '';
  for (const text of ['VACUUM ANALYZE', 'CHECKPOINT']) await postgres.query(filled, text);
  say(`${thousands(lengths.long)} records in each of two ledgers`);
  const findings: Findings[] = [];
  for (const [store, { on, feeder }] of all) {
    const hosts = { short: await feeder.enrol(on.short, 'short', 2), long: await feeder.enrol(on.long, 'long', 2) };
    findings.push(findingsOf(store, await measureCells({ on, feeder, hosts }, settings), settings));
    say(
      `${store}: ${findings
        .at(-1)
        ?.tables[0]?.rows.map((row) => row.join(' '))
        .join('; ')}`,
    );
  }
  return { bars: findings.flatMap(({ bars }) => bars), tables: findings.flatMap(({ tables }) => tables) };
};
