// Every kind of work, directly and through both doors. Invariant: the cells of one round follow one another, and a ratio
// is only ever taken within a round.
import { type BarResult, judge } from './bars.ts';
import type { Door } from './client.ts';
import { type BenchAgent, type Cell, DIRECT_PROCESSES, type Direct, measure } from './lab.ts';
import type { Load } from './loops.ts';
import type { Remote } from './remote.ts';
import { type Findings, micros, type Settings, type Table, thousands } from './run.ts';
import { median, ratios, spreadOf } from './statistics.ts';
import { WORKS, type WorkName } from './work.ts';

const IN_FLIGHT = [1, 8, 64] as const;
const DOORS: readonly Door[] = ['unary', 'pipeline'];

/** All rounds of one kind of work, by the name of the cell. */
type Cells = Map<string, Cell[]>;

const withoutAgent = (load: Load): Cell => ({ load, agentCpu: 0, tokenCpu: 0 });

export const directLabel = (work: WorkName): string =>
  `mortise:key:bench:${WORKS[work].key.keyId}:v1:${WORKS[work].key.jose}`;

/** The direct processes work one by one, or all at once, between the cells of the agent that they are compared with. */
const oneRound = async (parts: Parts, work: WorkName, ms: number, cells: Cells): Promise<void> => {
  const { client, on, direct } = parts;
  const keep = (name: string, cell: Cell): void => void cells.set(name, [...(cells.get(name) ?? []), cell]);
  const directly = async (processes: number): Promise<void> =>
    keep(`direct ${processes}`, withoutAgent(await direct.measure(work, directLabel(work), ms, processes)));
  for (const inFlight of IN_FLIGHT) {
    await directly({ 1: 1, 8: 2, 64: DIRECT_PROCESSES }[inFlight]);
    for (const door of DOORS) {
      keep(`${door} ${inFlight}`, await measure(client, on, { work, door, inFlight, ms }));
    }
  }
};

export interface Parts {
  readonly client: Remote;
  readonly on: BenchAgent;
  readonly direct: Direct;
}

const ratesOf = (cells: Cells, name: string): number[] => (cells.get(name) ?? []).map(({ load }) => load.rate);
const ofCells = (cells: Cells, name: string, of: (cell: Cell) => number): number =>
  median((cells.get(name) ?? []).map(of));

const row = (cells: Cells, name: string, title: string, base: string): string[] => {
  const rates = ratesOf(cells, name);
  const [least, most] = spreadOf(rates);
  const ratio = median(ratios(rates, ratesOf(cells, base)));
  const cpu = [
    ofCells(cells, name, ({ load }) => load.cpu),
    ofCells(cells, name, ({ agentCpu }) => agentCpu),
    ofCells(cells, name, ({ tokenCpu }) => tokenCpu),
  ];
  const isDirect = name.startsWith('direct');
  return [
    title,
    thousands(median(rates)),
    `${thousands(least)}–${thousands(most)}`,
    ratio.toFixed(2),
    micros(ofCells(cells, name, ({ load }) => load.p50)),
    micros(ofCells(cells, name, ({ load }) => load.p99)),
    isDirect ? `${Math.round(cpu[0] ?? 0)}` : cpu.map((part) => Math.round(part)).join(' + '),
  ];
};

const tableOf = (work: WorkName, cells: Cells): Table => {
  const base = work === 'verify' ? 'direct 1' : `direct ${DIRECT_PROCESSES}`;
  const what = work === 'verify' ? 'node:crypto' : 'pkcs11js';
  const names = [1, 2, DIRECT_PROCESSES].map((count) => [
    `direct ${count}`,
    `${what}, ${count === 1 ? 'one synchronous session' : `${count} processes`}`,
  ]);
  const doors = DOORS.flatMap((door) =>
    IN_FLIGHT.map((inFlight) => [
      `${door} ${inFlight}`,
      `${door === 'unary' ? 'unary' : 'Pipeline'}, ${inFlight} in flight`,
    ]),
  );
  return {
    title: WORKS[work].title,
    head: [
      'route',
      'operations/s',
      'spread',
      `÷ ${base === 'direct 1' ? 'one thread' : 'all processes'}`,
      'p50 µs',
      'p99 µs',
      'CPU µs',
    ],
    rows: [...names, ...doors].map(([name = '', title = '']) => row(cells, name, title, base)),
    notes: [],
  };
};

const latencyBar = (cells: Cells): BarResult => {
  const p50s = (name: string): number[] => (cells.get(name) ?? []).map(({ load }) => load.p50);
  const allowed = p50s('direct 1').map((p50) => 5 * p50 + 0.3);
  return judge('latency', p50s('pipeline 1'), ratios(p50s('pipeline 1'), allowed), {
    note: 'the ratio is to 5 × direct + 0.3 ms and may be 1 at most',
  });
};

const barsOf = (work: WorkName, cells: Cells): BarResult[] => {
  const pipeline = ratesOf(cells, 'pipeline 64');
  const against = (name: string): number[] => ratios(pipeline, ratesOf(cells, name));
  switch (work) {
    case 'ecdsa': {
      const unary = ratesOf(cells, 'unary 64');
      return [
        judge('ecdsa', pipeline, against(`direct ${DIRECT_PROCESSES}`)),
        latencyBar(cells),
        judge('unary', unary, ratios(unary, pipeline)),
      ];
    }
    case 'rsa':
    case 'encrypt':
      return [judge(work, pipeline, against(`direct ${DIRECT_PROCESSES}`))];
    case 'verify':
      return [judge('verify', pipeline, against('direct 1'))];
    default:
      return [];
  }
};

export const measureThroughput = async (
  parts: Parts,
  works: readonly WorkName[],
  { rounds, cellMs, say }: Settings,
): Promise<Findings> => {
  const bars: BarResult[] = [];
  const tables: Table[] = [];
  for (const work of works) {
    const cells: Cells = new Map();
    for (let round = 0; round < rounds; round += 1) await oneRound(parts, work, cellMs, cells);
    const table = tableOf(work, cells);
    say(`${WORKS[work].title}: Pipeline at 64 in flight ${table.rows.at(-1)?.slice(1, 4).join(', ')}`);
    tables.push(table);
    bars.push(...barsOf(work, cells));
  }
  return { bars, tables };
};
