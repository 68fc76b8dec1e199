// Post-quantum keys through Pipeline against the bare primitive in one thread, and what slow signatures do to another
// tenant. Invariant: the cells of one round follow one another, and a ratio is only ever taken within a round.
import type { Implementation } from './bare-post-quantum.ts';
import { type BarResult, judge } from './bars.ts';
import { BenchAgent, type Cell, cpuMicros, type Tenant } from './lab.ts';
import type { Load } from './loops.ts';
import { POST_QUANTUM_WORKS, type PostQuantumWorkName } from './post-quantum-work.ts';
import { Remote } from './remote.ts';
import { type Findings, micros, type Settings, type Table, thousands } from './run.ts';
import { median, ratios, spreadOf } from './statistics.ts';

const WORKS = ['kemEncrypt', 'kemDecrypt', 'dsaSign', 'dsaVerify', 'rsaKemDecrypt', 'compositeSign'] as const;
/** Measured with private bytes kept in memory, too, as the policy of the tenant `unwrapped` allows. */
const KEPT: readonly PostQuantumWorkName[] = ['kemDecrypt', 'dsaSign', 'rsaKemDecrypt', 'compositeSign'];
type Keeper = 'bench' | 'unwrapped';
const IN_FLIGHT = [1, 64] as const;
const IMPLEMENTATIONS: readonly Implementation[] = ['node', 'noble'];
const QUIET_PER_SECOND = 200;
const QUIET_MS = 3000;

interface Parts {
  readonly on: BenchAgent;
  readonly client: Remote;
  readonly bare: Remote;
}

/** One cell through the agent. */
const measure = async (
  { on, client }: Pick<Parts, 'on' | 'client'>,
  what: { tenant?: Tenant; work: PostQuantumWorkName; ms: number; inFlight?: number; perSecond?: number },
): Promise<Cell> => {
  const { tenant = 'bench', ...rest } = what;
  const pids = [on.agent.pid, on.agent.tokenPid()] as const;
  const before = pids.map(cpuMicros);
  const load = await client.ask<Load>({ ...rest, by: on.connection(tenant, 'pipeline') });
  const warmed = load.operations * 1.25; // see lab.ts
  const [agentCpu = 0, tokenCpu = 0] = pids.map((pid, at) => (cpuMicros(pid) - (before[at] ?? 0)) / warmed);
  return { load, agentCpu, tokenCpu };
};

interface Rounds {
  readonly bare: Record<Implementation, number[]>;
  /** CPU of one bare operation, microseconds. */
  readonly bareCpu: number[];
  readonly agent: Record<Keeper, Record<(typeof IN_FLIGHT)[number], Cell[]>>;
}

const keepersOf = (work: PostQuantumWorkName): readonly Keeper[] =>
  KEPT.includes(work) ? ['bench', 'unwrapped'] : ['bench'];

const measureWork = async (parts: Parts, work: PostQuantumWorkName, { rounds, cellMs: ms }: Settings) => {
  const found: Rounds = {
    bare: { node: [], noble: [] },
    bareCpu: [],
    agent: { bench: { 1: [], 64: [] }, unwrapped: { 1: [], 64: [] } },
  };
  for (let round = 0; round < rounds; round += 1) {
    for (const by of IMPLEMENTATIONS) {
      const load = await parts.bare.ask<Load | undefined>({ primitive: work, by, ms });
      found.bare[by].push(load?.rate ?? Number.NaN);
      if (by === 'node' && load !== undefined) found.bareCpu.push(load.cpu);
    }
    for (const tenant of keepersOf(work)) {
      for (const inFlight of IN_FLIGHT) {
        found.agent[tenant][inFlight].push(await measure(parts, { tenant, work, inFlight, ms }));
      }
    }
  }
  return found;
};

const ratesOf = (cells: readonly Cell[]): number[] => cells.map(({ load }) => load.rate);

const row = (work: PostQuantumWorkName, { bare, bareCpu, agent: by }: Rounds, tenant: Keeper): string[] => {
  const agent = by[tenant];
  const rates = ratesOf(agent[64]);
  const of = (pick: (cell: Cell) => number): number => median(agent[64].map(pick));
  const [least, most] = spreadOf(rates);
  const over = (by: Implementation): string => {
    const ratio = median(ratios(rates, bare[by]));
    return Number.isNaN(ratio) ? '–' : ratio.toFixed(2);
  };
  const shown = (value: number): string => (Number.isNaN(value) ? '–' : thousands(value));
  const cpu = [of(({ load }) => load.cpu), of(({ agentCpu }) => agentCpu), of(({ tokenCpu }) => tokenCpu)];
  return [
    tenant === 'bench' ? POST_QUANTUM_WORKS[work].title : 'the same, private bytes kept in memory',
    shown(median(bare.node)),
    shown(median(bare.noble)),
    thousands(median(ratesOf(agent[1]))),
    micros(median(agent[1].map(({ load }) => load.p50))),
    thousands(median(rates)),
    `${thousands(least)}–${thousands(most)}`,
    over('node'),
    over('noble'),
    Math.round(median(bareCpu)).toString(),
    cpu.map((part) => Math.round(part)).join(' + '),
  ];
};

const HEAD = [
  'work',
  'node:crypto, /s',
  'noble, /s',
  'Pipeline, 1 in flight, /s',
  'p50 µs',
  '64 in flight, /s',
  'spread',
  '÷ node:crypto',
  '÷ noble',
  'CPU µs of node:crypto',
  'CPU µs, client + agent + token process',
];

/** The p99 of a tenant's AES encryption, alone and while another signs back to back. */
const measureSlow = async (parts: Parts, { rounds, quick, say }: Settings): Promise<Findings> => {
  await using signing = new Remote('post-quantum-client.ts');
  const ms = quick ? QUIET_MS / 2 : QUIET_MS;
  const quietly = async (): Promise<number> => {
    const what = { tenant: 'quiet', work: 'aesEncrypt', perSecond: QUIET_PER_SECOND, ms } as const;
    return (await measure(parts, what)).load.p99;
  };
  const alone: number[] = [];
  const beside: number[] = [];
  const signed: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    alone.push(await quietly());
    const slow = measure({ on: parts.on, client: signing }, { work: 'slowSign', inFlight: 2, ms });
    beside.push(await quietly());
    signed.push((await slow).load.rate);
  }
  const slower = ratios(beside, alone);
  say(`slow signatures: p99 ${median(alone).toFixed(2)} ms alone, ${median(beside).toFixed(2)} ms beside them`);
  const cells = (values: readonly number[]): string[] => [
    median(values).toFixed(2),
    spreadOf(values)
      .map((value) => value.toFixed(2))
      .join('–'),
  ];
  return {
    bars: [judge('slowSign', beside, slower)],
    tables: [
      {
        title: 'AES-256 JWE encryption beside SLH-DSA-SHA2-256s signatures of another tenant, two in flight',
        head: ['measure', 'median', 'spread'],
        rows: [
          [`p99 of ${QUIET_PER_SECOND} operations/s alone, ms`, ...cells(alone)],
          ['p99 of the same beside the signatures, ms', ...cells(beside)],
          ['the second divided by the first', ...cells(slower)],
          ['signatures per second meanwhile', ...cells(signed)],
        ],
        notes: [],
      },
    ],
  };
};

export const measurePostQuantum = async (settings: Settings): Promise<Findings> => {
  const allow = [...new Set(Object.values(POST_QUANTUM_WORKS).map(({ key }) => key.algorithm))];
  await using on = await BenchAgent.start({ platform: { algorithms: { allow } } });
  await using client = new Remote('post-quantum-client.ts');
  await using bare = new Remote('bare-post-quantum.ts');
  const parts = { on, client, bare };
  await client.ask({ makeKeys: on.connection('bench', 'pipeline'), works: [...WORKS, 'slowSign'] });
  await client.ask({ makeKeys: on.connection('unwrapped', 'pipeline'), works: KEPT });
  await client.ask({ makeKeys: on.connection('quiet', 'pipeline'), works: ['aesEncrypt'] });
  const bars: BarResult[] = [];
  const rows: string[][] = [];
  for (const work of WORKS) {
    const found = await measureWork(parts, work, settings);
    for (const tenant of keepersOf(work)) {
      rows.push(row(work, found, tenant));
      settings.say(`${POST_QUANTUM_WORKS[work].title}, ${tenant}: ${rows.at(-1)?.slice(5).join(', ')}`);
    }
    if (work !== 'kemDecrypt' && work !== 'dsaSign') continue;
    const rates = ratesOf(found.agent.unwrapped[64]);
    bars.push(judge(work, rates, ratios(rates, found.bare.node)));
  }
  const table: Table = {
    title: 'Post-quantum and composite keys',
    head: HEAD,
    rows,
    notes: [
      'The bare primitives run in one thread with keys at hand; of a composite both halves, one after the other.',
      'The bars are judged by the rows with private bytes kept in memory (`caches.unwrappedKeys`, off by default): the bare primitive that they are divided by has its key at hand, too. The rows above them unwrap the key in the token for each operation and expand it.',
    ],
  };
  const slow = await measureSlow(parts, settings);
  return { bars: [...bars, ...slow.bars], tables: [table, ...slow.tables] };
};
