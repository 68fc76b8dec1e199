// The bars: what each measure has to reach, and one result for each.
import { median, type Spread, spreadOf } from './statistics.ts';

export interface BarResult {
  readonly name: string;
  /** What was measured, in `unit`: the median over the rounds. */
  readonly value: number;
  readonly unit: string;
  /** What the bar judges: the median of the ratios of the rounds, or the value itself where nothing is divided. */
  readonly ratio: number;
  readonly bar: string;
  readonly holds: boolean;
  /** Of the ratio, over the rounds. */
  readonly spread: Spread;
  /** What the figure leaves out, where it leaves something out. */
  readonly note?: string;
}

export interface Bar {
  readonly name: string;
  readonly unit: string;
  readonly bar: string;
  readonly holds: (ratio: number) => boolean;
}

export const atLeast =
  (least: number) =>
  (ratio: number): boolean =>
    ratio >= least;
export const atMost =
  (most: number) =>
  (ratio: number): boolean =>
    ratio <= most;
export const below =
  (limit: number) =>
  (ratio: number): boolean =>
    ratio < limit;

const RATE = 'operations/s';
export const BARS = {
  ecdsa: {
    name: 'ECDSA P-256, Pipeline, 64 in flight',
    unit: RATE,
    bar: '≥ 0.45 of direct multi-process',
    holds: atLeast(0.45),
  },
  latency: {
    name: 'the same, one in flight, median',
    unit: 'ms',
    bar: '≤ 5 × direct synchronous + 0.3 ms',
    holds: atMost(1), // of that sum
  },
  unary: { name: 'unary, 64 in flight, against Pipeline', unit: RATE, bar: '≥ 0.25', holds: atLeast(0.25) },
  rsa: { name: 'RSA-2048 sign, Pipeline', unit: RATE, bar: '≥ 0.85 of direct multi-process', holds: atLeast(0.85) },
  encrypt: {
    name: 'AES-256 JWE encrypt 256 B, no cache, Pipeline',
    unit: RATE,
    bar: '≥ 0.30 of direct multi-process C_Encrypt, 0.35 the aim',
    holds: atLeast(0.3),
  },
  cached: { name: 'the same with the data-key cache', unit: RATE, bar: '≥ 2 × without', holds: atLeast(2) },
  verify: {
    name: 'verify ES256, Pipeline',
    unit: RATE,
    bar: '≥ 0.5 of one thread of node:crypto verify, without blocking other callers',
    holds: atLeast(0.5),
  },
  stream: {
    name: '1 GiB stream encrypt',
    unit: 'MiB/s',
    bar: '≥ 0.5 of node:crypto on one thread',
    holds: atLeast(0.5),
  },
  fairness: {
    name: 'p99 of a quiet tenant while another floods at 64 in flight',
    unit: 'ms',
    bar: '≤ 3 × its p99 alone, and its throughput at least its fair share',
    holds: atMost(3),
  },
  scale: {
    name: 'cost per operation with 2,000 keys on the token against 2 (10,000 key records); with 5 million audit records against none',
    unit: 'µs',
    bar: '≤ 1.1 ×',
    holds: atMost(1.1),
  },
  memory: {
    name: 'resident memory idle, agent and token process together, from the sources',
    unit: 'MB',
    bar: '< 190 MB, workers of the token process started on demand',
    holds: below(190),
  },
  start: { name: 'start to serving, from the sources', unit: 's', bar: '< 0.7 s', holds: below(0.7) },
  packagedMemory: {
    name: 'resident memory idle, agent and token process together, as packaged',
    unit: 'MB',
    bar: '< 140 MB',
    holds: below(140),
  },
  packagedStart: { name: 'start to serving, as packaged', unit: 's', bar: '< 0.45 s', holds: below(0.45) },
  dsaSign: {
    name: 'ML-DSA-65 sign, Pipeline, private bytes kept in memory',
    unit: RATE,
    bar: '≥ 1.2 of the bare primitive in one thread',
    holds: atLeast(1.2),
  },
  kemDecrypt: {
    name: 'ML-KEM-768 JWE decrypt, Pipeline, private bytes kept in memory',
    unit: RATE,
    bar: '≥ 0.35 of bare decapsulation in one thread',
    holds: atLeast(0.35),
  },
  slowSign: {
    name: 'p99 of an AES encrypt while another tenant signs by SLH-DSA-256s back to back',
    unit: 'ms',
    bar: '≤ 2 × alone',
    holds: atMost(2),
  },
} as const satisfies Record<string, Bar>;

export type BarName = keyof typeof BARS;

interface Rest {
  readonly also?: boolean;
  readonly note?: string;
}

/** The result of a bar over its rounds. `also`: a further condition that has to hold. */
export const judgeBy = (
  { holds, ...row }: Bar,
  values: readonly number[],
  ratios: readonly number[],
  { also = true, note }: Rest = {},
): BarResult => {
  const ratio = median(ratios);
  return {
    ...row,
    value: median(values),
    ratio,
    holds: holds(ratio) && also,
    spread: spreadOf(ratios),
    ...(note !== undefined && { note }),
  };
};

export const judge = (
  name: BarName,
  values: readonly number[],
  ratios: readonly number[],
  rest: Rest = {},
): BarResult => judgeBy(BARS[name], values, ratios, rest);
