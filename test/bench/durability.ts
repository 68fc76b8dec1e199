// What it costs to wait for the disk: the same work of two tenants that differ only in `audit.durability`.
import { measure } from './lab.ts';
import { type Findings, micros, type Settings, thousands } from './run.ts';
import { median, ratios, spreadOf } from './statistics.ts';
import type { Parts } from './throughput.ts';
import { WORKS, type WorkName } from './work.ts';

const WORK: readonly WorkName[] = ['ecdsa', 'encrypt'];
const IN_FLIGHT = [1, 8, 64] as const;
const TENANTS = ['bench', 'flushed'] as const; // `bench` is committed, as the default policy has it

export const measureDurability = async (
  { client, on }: Parts,
  { rounds, cellMs, say }: Settings,
): Promise<Findings> => {
  const rows: string[][] = [];
  for (const work of WORK) {
    for (const inFlight of IN_FLIGHT) {
      const rates = { bench: [] as number[], flushed: [] as number[] };
      const p50s = { bench: [] as number[], flushed: [] as number[] };
      for (let round = 0; round < rounds; round += 1) {
        for (const tenant of TENANTS) {
          const { load } = await measure(client, on, { tenant, work, inFlight, door: 'pipeline', ms: cellMs });
          rates[tenant].push(load.rate);
          p50s[tenant].push(load.p50);
        }
      }
      const ratio = ratios(rates.flushed, rates.bench);
      rows.push([
        `${WORKS[work].title}, ${inFlight} in flight`,
        thousands(median(rates.bench)),
        micros(median(p50s.bench)),
        thousands(median(rates.flushed)),
        micros(median(p50s.flushed)),
        median(ratio).toFixed(2),
        spreadOf(ratio)
          .map((value) => value.toFixed(2))
          .join('–'),
      ]);
    }
  }
  say('audit durability measured');
  const head = ['Pipeline', 'committed, /s', 'p50 µs', 'flushed, /s', 'p50 µs', 'flushed ÷ committed', 'spread'];
  return { bars: [], tables: [{ title: 'Audit durability', head, rows, notes: [] }] };
};
