// What the data-key cache saves: the same work of two tenants, of which the policy of one allows the cache.
import { judge } from './bars.ts';
import { measure } from './lab.ts';
import { type Findings, micros, type Settings, thousands } from './run.ts';
import { median, ratios, spreadOf } from './statistics.ts';
import type { Parts } from './throughput.ts';
import { WORKS, type WorkName } from './work.ts';

const WORK: readonly WorkName[] = ['encrypt', 'decrypt'];
const TENANTS = ['bench', 'cached'] as const;
const IN_FLIGHT = 64;

export const measureDataKeys = async ({ client, on }: Parts, { rounds, cellMs, say }: Settings): Promise<Findings> => {
  const rows: string[][] = [];
  const bars: Findings['bars'][number][] = [];
  for (const work of WORK) {
    const rates = { bench: [] as number[], cached: [] as number[] };
    const p50s = { bench: [] as number[], cached: [] as number[] };
    for (let round = 0; round < rounds; round += 1) {
      for (const tenant of TENANTS) {
        const { load } = await measure(client, on, { tenant, work, inFlight: IN_FLIGHT, door: 'pipeline', ms: cellMs });
        rates[tenant].push(load.rate);
        p50s[tenant].push(load.p50);
      }
    }
    const gain = ratios(rates.cached, rates.bench);
    if (work === 'encrypt') bars.push(judge('cached', rates.cached, gain));
    const spread = spreadOf(gain).map((value) => value.toFixed(2));
    rows.push([
      WORKS[work].title,
      ...TENANTS.flatMap((tenant) => [thousands(median(rates[tenant])), micros(median(p50s[tenant]))]),
      median(gain).toFixed(2),
      spread.join('–'),
    ]);
  }
  say(`data-key cache: ${median(bars.map(({ ratio }) => ratio)).toFixed(2)} × without`);
  const head = ['Pipeline, 64 in flight', 'without, /s', 'p50 µs', 'with, /s', 'p50 µs', 'with ÷ without', 'spread'];
  return { bars, tables: [{ title: 'Data-key cache', head, rows, notes: [] }] };
};
