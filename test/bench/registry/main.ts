// npm run bench:registry [-- --quick] [-- --only PART]... [-- --json FILE]: measures the registry against its bars, prints
// tables, and after a full run stores them in docs/performance.md.
import { writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { describeMachine } from '../machine.ts';
import { asJson, asText, store } from '../report.ts';
import type { Findings, Settings } from '../run.ts';
import { inOrder } from './bars.ts';
import { measureFleet } from './fleet.ts';
import { measureGrowth } from './growth.ts';
import { measureIngest } from './ingest.ts';

const COMMAND = 'npm run bench:registry';
const PARTS: Readonly<Record<string, (settings: Settings) => Promise<Findings>>> = {
  fleet: measureFleet,
  ingest: measureIngest,
  growth: measureGrowth,
};

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    json: { type: 'string' },
  },
});
const { quick, only = Object.keys(PARTS), json } = values;
const unknown = only.filter((name) => !(name in PARTS));
if (unknown.length > 0)
  throw new Error(`no such part: ${unknown.join(', ')}; there are ${Object.keys(PARTS).join(', ')}`);

const startedAt = performance.now();
const elapsed = (): number => Math.round((performance.now() - startedAt) / 1000);
const say = (line: string): void => console.log(`${String(elapsed()).padStart(4)} s  ${line}`);
const settings: Settings = { rounds: quick ? 2 : 5, cellMs: 0, quick, say };
const machine = describeMachine();
const findings: Findings[] = [];
const missing: string[] = [];
for (const name of only) {
  try {
    findings.push(await (PARTS[name] as (typeof PARTS)[string])(settings));
  } catch (thrown) {
    process.exitCode = 1;
    missing.push(name);
    say(`${name} failed: ${thrown instanceof Error ? thrown.stack : thrown}`);
  }
}
const bars = inOrder(findings.flatMap((part) => part.bars));
const load = loadavg()
  .map((one) => one.toFixed(1))
  .join(', ');
const report = {
  machine: [
    ...machine.filter(([name]) => name !== 'SoftHSM'),
    ['load average at the end', load] as const,
    ['run', `${settings.rounds} rounds, ${elapsed()} s in all`] as const,
  ],
  method: [
    ...(quick ? ['A quick run: fewer hosts, smaller ledgers and fewer rounds than the bars ask for.'] : []),
    ...missing.map((name) => `The part "${name}" failed and is missing.`),
  ].join(' '),
  bars,
  tables: findings.flatMap((part) => part.tables),
};
console.log(`\n${asText(report)}\n`);
if (!quick && values.only === undefined && findings.length > 0) store(report, COMMAND);
if (json !== undefined) writeFileSync(json, asJson(bars));
console.log(`${bars.filter(({ holds }) => holds).length} of ${bars.length} bars hold`);
