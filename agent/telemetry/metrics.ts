// Metrics as one object made from the table in names.ts. Invariant: no series is made but from that table, and the
// number of tenants in labels is bounded.
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
  const made = new Map<string, Counter | Gauge | Histogram>();
  for (const [key, { name, type, labels, help }] of Object.entries(METRICS) as [keyof Rows, MetricRow][]) {
    const common = { name, help, labelNames: [...labels], registers: [registry] };
    if (type === 'counter') made.set(key, new Counter(common));
    else if (type === 'histogram') made.set(key, new Histogram({ ...common, buckets: SECONDS }));
    else
      made.set(key, new Gauge({ ...common, collect: collectFrom(labels.length, () => sources.get(key as GaugeKey)) }));
  }
  if (processMetrics) collectDefaultMetrics({ register: registry });
  return {
    count: (key, labels, by = 1) => (made.get(key) as Counter).inc(bound({ ...labels }), by),
    observe: (key, labels, seconds) => (made.get(key) as Histogram).observe({ ...labels }, seconds),
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
