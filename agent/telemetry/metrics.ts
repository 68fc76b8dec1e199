// Metrics as one object made from the table in names.ts. Invariant: no series is made but from that table, and the
// number of tenants in labels is bounded.
import { collectDefaultMetrics, Gauge, type Metric, Registry } from 'prom-client';
import { METRICS, type MetricRow } from './names.ts';
import { CounterSeries, HistogramSeries } from './series.ts';

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
  /** `read` is asked at each scrape; where it throws, the gauge shows nothing. */
  gauge<K extends GaugeKey>(key: K, read: () => number | readonly Sample<K>[]): void;
  /** Prometheus text format. */
  text(): Promise<string>;
  readonly contentType: string;
}

const MAX_TENANTS = 200; // label values of `tenant`; later ones count as "other"
const OTHER = 'other';
// From a hundredth of a millisecond (software verify) to the longest deadline.
const SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];

const boundTenants = (): (<T extends object>(labels: T) => T) => {
  const seen = new Set<string>();
  return (labels) => {
    const { tenant } = labels as { tenant?: string };
    if (tenant === undefined || seen.has(tenant)) return labels;
    if (seen.size >= MAX_TENANTS) return { ...labels, tenant: OTHER };
    seen.add(tenant);
    return labels;
  };
};

export const createMetrics = ({ processMetrics = false } = {}): Metrics => {
  const registry = new Registry();
  const sources = new Map<GaugeKey, () => number | readonly Sample<GaugeKey>[]>();
  const bound = boundTenants();
  const counters = new Map<string, CounterSeries>();
  const histograms = new Map<string, HistogramSeries>();
  for (const [key, row] of Object.entries(METRICS) as [keyof Rows, MetricRow][]) {
    if (row.type === 'counter') counters.set(key, new CounterSeries(row));
    else if (row.type === 'histogram') histograms.set(key, new HistogramSeries(row, SECONDS));
    else {
      const { name, labels, help } = row;
      const collect = collectFrom(labels.length, () => sources.get(key as GaugeKey));
      registry.registerMetric(new Gauge({ name, help, labelNames: [...labels], registers: [], collect }));
    }
  }
  // The registry asks them for their name, and at each scrape for what `get` gives.
  for (const series of [...counters.values(), ...histograms.values()]) {
    registry.registerMetric(series as unknown as Metric);
  }
  if (processMetrics) collectDefaultMetrics({ register: registry });
  return {
    count: (key, labels, by = 1) => (counters.get(key) as CounterSeries).add(bound(labels), by),
    observe: (key, labels, seconds) => (histograms.get(key) as HistogramSeries).add(labels, seconds),
    gauge: (key, read) => void sources.set(key, read as () => number | readonly Sample<GaugeKey>[]),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
};

/** A gauge's `collect`: asks the source afresh, and shows nothing rather than an old value where it fails. */
const collectFrom = (labels: number, source: () => (() => number | readonly Sample<GaugeKey>[]) | undefined) =>
  function collect(this: Gauge): void {
    this.reset();
    if (labels === 0) this.remove(); // reset leaves a 0 there
    let value: number | readonly Sample<GaugeKey>[] | undefined;
    try {
      value = source()?.();
    } catch {
      return; // a part that is down has no value; mortise_part_healthy says that it is down
    }
    if (typeof value === 'number') this.set(value);
    else for (const sample of value ?? []) this.set({ ...sample.labels }, sample.value);
  };
