// Metrics as one object made from the table in names.ts. Invariant: no series is made but from that table.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { METRICS, type MetricRow } from './names.ts';

type Rows = typeof METRICS;
type Labels<K extends keyof Rows> = { readonly [L in Rows[K]['labels'][number]]: string };
type KeysOf<T extends MetricRow['type']> = { [K in keyof Rows]: Rows[K]['type'] extends T ? K : never }[keyof Rows];
export type CounterKey = KeysOf<'counter'>;
export type GaugeKey = KeysOf<'gauge'>;
export type HistogramKey = KeysOf<'histogram'>;

/** What a gauge shows when it is read. */
export type Sample<K extends GaugeKey> = { readonly value: number; readonly labels: Labels<K> };

export interface Metrics {
  count<K extends CounterKey>(key: K, labels: Labels<K>, by?: number): void;
  /** Seconds. */
  observe<K extends HistogramKey>(key: K, labels: Labels<K>, seconds: number): void;
  /** `read` is asked at each scrape. */
  gauge<K extends GaugeKey>(key: K, read: () => number | readonly Sample<K>[]): void;
  /** Prometheus text format. */
  text(): Promise<string>;
  readonly contentType: string;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export const createMetrics = ({ processMetrics = false } = {}): Metrics => {
  const registry = new Registry();
  const sources = new Map<GaugeKey, () => number | readonly Sample<GaugeKey>[]>();
  const counters = new Map<string, Counter>();
  const histograms = new Map<string, Histogram>();
  for (const [key, row] of Object.entries(METRICS) as [keyof Rows, MetricRow][]) {
    const { name, help } = row;
    const options = { name, help, labelNames: [...row.labels], registers: [registry] };
    if (row.type === 'counter') counters.set(key, new Counter(options));
    else if (row.type === 'histogram') histograms.set(key, new Histogram({ ...options, buckets: SECONDS }));
    else new Gauge({ ...options, collect: collectFrom(() => sources.get(key as GaugeKey)) });
  }
  if (processMetrics) collectDefaultMetrics({ register: registry });
  return {
    count: (key, labels, by = 1) => (counters.get(key) as Counter).inc(labels as Record<string, string>, by),
    observe: (key, labels, seconds) =>
      (histograms.get(key) as Histogram).observe(labels as Record<string, string>, seconds),
    gauge: (key, read) => void sources.set(key, read as () => number | readonly Sample<GaugeKey>[]),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
};

/** A gauge's `collect`: asks the source afresh, and shows nothing rather than an old value where there is none. */
const collectFrom = (source: () => (() => number | readonly Sample<GaugeKey>[]) | undefined) =>
  function collect(this: Gauge): void {
    this.reset();
    const value = source()?.();
    if (typeof value === 'number') this.set(value);
    else for (const sample of value ?? []) this.set({ ...sample.labels }, sample.value);
  };
