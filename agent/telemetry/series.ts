// Counters and histograms as the registry reads them, added up here, because prom-client checks and joins all labels anew
// on every call: 1.3 µs for the metrics of one operation where a look-up by label values costs 0.55, and garbage.
import type { MetricRow } from './names.ts';

type Labels = Readonly<Record<string, string>>;

/** What a registry asks of a metric when it is scraped. */
interface Exported {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly aggregator: 'sum';
  readonly values: readonly { readonly labels: object; readonly value: number; readonly metricName?: string }[];
}

/** A label's value after those of the labels before it. */
interface Branch<T> {
  readonly next: Map<string | undefined, Branch<T>>;
  kept: T | undefined;
}

const branch = <T>(): Branch<T> => ({ next: new Map(), kept: undefined });

/** What is kept for each combination of label values, found label by label: a joined key would be hashed every time. */
class Series<T> {
  readonly row: MetricRow;
  readonly #make: () => T;
  readonly #root = branch<T>();
  readonly #all: { readonly labels: Labels; readonly kept: T }[] = [];

  constructor(row: MetricRow, make: () => T) {
    this.row = row;
    this.#make = make;
  }

  of(labels: Labels): T {
    let at = this.#root;
    for (const name of this.row.labels) {
      const value = labels[name];
      let next = at.next.get(value);
      if (next === undefined) {
        next = branch();
        at.next.set(value, next);
      }
      at = next;
    }
    if (at.kept === undefined) {
      at.kept = this.#make();
      this.#all.push({ labels: { ...labels }, kept: at.kept });
    }
    return at.kept;
  }

  all(): readonly { readonly labels: Labels; readonly kept: T }[] {
    return this.#all;
  }
}

const exported = ({ name, help, type }: MetricRow, values: Exported['values']): Exported => ({
  name,
  help,
  type,
  aggregator: 'sum',
  values,
});

export class CounterSeries {
  readonly name: string;
  readonly #series: Series<{ value: number }>;

  constructor(row: MetricRow) {
    this.name = row.name;
    this.#series = new Series(row, () => ({ value: 0 }));
    if (row.labels.length === 0) this.#series.of({}); // a counter without labels shows its 0
  }

  add(labels: Labels, by: number): void {
    this.#series.of(labels).value += by;
  }

  get(): Exported {
    const values = this.#series.all().map(({ labels, kept: { value } }) => ({ labels, value }));
    return exported(this.#series.row, values);
  }
}

interface Distribution {
  /** One for each bound, and one for what lies above the last. */
  readonly counts: number[];
  sum: number;
}

export class HistogramSeries {
  readonly name: string;
  readonly #bounds: readonly number[];
  readonly #series: Series<Distribution>;

  constructor(row: MetricRow, bounds: readonly number[]) {
    this.name = row.name;
    this.#bounds = bounds;
    this.#series = new Series(row, () => ({ counts: new Array<number>(bounds.length + 1).fill(0), sum: 0 }));
  }

  add(labels: Labels, value: number): void {
    const kept = this.#series.of(labels);
    let at = 0;
    while (at < this.#bounds.length && value > (this.#bounds[at] as number)) at += 1;
    kept.counts[at] = (kept.counts[at] as number) + 1;
    kept.sum += value;
  }

  get(): Exported {
    const { row } = this.#series;
    const values = this.#series.all().flatMap(({ labels, kept: { counts, sum } }) => {
      let count = 0;
      const buckets = counts.map((inBucket, at) => {
        count += inBucket;
        return {
          labels: { le: this.#bounds[at] ?? '+Inf', ...labels },
          value: count,
          metricName: `${row.name}_bucket`,
        };
      });
      return [
        ...buckets,
        { labels, value: sum, metricName: `${row.name}_sum` },
        { labels, value: count, metricName: `${row.name}_count` },
      ];
    });
    return exported(row, values);
  }
}
