// npm run bench [-- --quick] [-- --only PART]... [-- --json FILE]: measures the agent against the bars, prints tables and
// ratios, and after a full run stores them in docs/performance.md.
import { writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { BARS, type BarResult } from './bars.ts';
import { measureBreakdown } from './breakdown.ts';
import { measureDataKeys } from './data-keys.ts';
import { measureDurability } from './durability.ts';
import { measureFairness } from './fairness.ts';
import { BenchAgent, Direct, makeKeys, TENANTS } from './lab.ts';
import { describeMachine } from './machine.ts';
import { measurePackage } from './package.ts';
import { measurePeers } from './peers.ts';
import { measurePostQuantum } from './post-quantum.ts';
import { Remote } from './remote.ts';
import { asJson, asText, store } from './report.ts';
import { measureResources } from './resources.ts';
import type { Findings, Settings } from './run.ts';
import { measureScale } from './scale.ts';
import { measureStream } from './stream.ts';
import { measureThroughput, type Parts } from './throughput.ts';
import { WORKS, type WorkName } from './work.ts';

const FULL = { rounds: 5, cellMs: 800 };
const QUICK = { rounds: 3, cellMs: 250 };

/** Parts that share one agent, and parts that start their own. */
const SHARED: Readonly<Record<string, (parts: Parts, settings: Settings) => Promise<Findings>>> = {
  ...Object.fromEntries(
    (Object.keys(WORKS) as WorkName[]).map((work) => [
      work,
      (parts: Parts, settings: Settings) => measureThroughput(parts, [work], settings),
    ]),
  ),
  dataKeys: measureDataKeys,
  stream: measureStream,
  durability: measureDurability,
  fairness: measureFairness,
  peers: measurePeers,
};
const OWN: Readonly<Record<string, (settings: Settings) => Promise<Findings>>> = {
  resources: measureResources,
  package: measurePackage,
  breakdown: measureBreakdown,
  scale: measureScale,
  postQuantum: measurePostQuantum,
};
const NAMES = [...Object.keys(SHARED), ...Object.keys(OWN)];
/** Of a run that is not told otherwise. */
const USUAL = NAMES.filter((name) => name !== 'peers');

/** A part that fails is told and leaves the others alone; what it would have judged does not count as measured. */
const orFailed = async (name: string, part: () => Promise<Findings>, { say }: Settings): Promise<Findings> => {
  try {
    return await part();
  } catch (thrown) {
    process.exitCode = 1;
    say(`${name} failed: ${thrown instanceof Error ? thrown.stack : thrown}`);
    return { bars: [], tables: [] };
  }
};

const measureShared = async (names: readonly string[], settings: Settings): Promise<Findings[]> => {
  if (names.length === 0) return [];
  await using on = await BenchAgent.start();
  await using client = new Remote('client.ts');
  await makeKeys(client, on, TENANTS);
  await using direct = await Direct.start(on.agent);
  const findings: Findings[] = [];
  for (const name of names) {
    const measurePart = SHARED[name] as (typeof SHARED)[string];
    findings.push(await orFailed(name, () => measurePart({ client, on, direct }, settings), settings));
  }
  return findings;
};

/** In the order of the table of bars. */
const inOrder = (bars: readonly BarResult[]): BarResult[] =>
  Object.values(BARS).flatMap(({ name }) => bars.filter((bar) => bar.name === name));

const run = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true },
      json: { type: 'string' },
    },
  });
  const { quick, only = USUAL, json } = values;
  const unknown = only.filter((name) => !NAMES.includes(name));
  if (unknown.length > 0) throw new Error(`no such part: ${unknown.join(', ')}; there are ${NAMES.join(', ')}`);
  const startedAt = performance.now();
  const say = (line: string): void =>
    console.log(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(4)} s  ${line}`);
  const settings: Settings = { ...(quick ? QUICK : FULL), quick, say };
  const machine = describeMachine();
  const findings = await measureShared(
    only.filter((name) => name in SHARED),
    settings,
  );
  for (const name of only) {
    const measureOwn = OWN[name];
    if (measureOwn !== undefined) findings.push(await orFailed(name, () => measureOwn(settings), settings));
  }
  const bars = inOrder(findings.flatMap((part) => part.bars));
  const took = Math.round((performance.now() - startedAt) / 1000);
  const load = loadavg()
    .map((one) => one.toFixed(1))
    .join(', ');
  const report = {
    machine: [
      ...machine,
      ['load average at the end', load] as const,
      ['run', `${settings.rounds} rounds of ${settings.cellMs} ms, ${took} s in all`] as const,
    ],
    method: quick ? 'A quick run: shorter cells and smaller stores than the bars ask for.' : '',
    bars,
    tables: findings.flatMap((part) => part.tables),
  };
  console.log(`\n${asText(report)}\n`);
  if (!quick && values.only === undefined && process.exitCode === undefined) store(report);
  if (json !== undefined) writeFileSync(json, asJson(bars));
  console.log(`${bars.filter(({ holds }) => holds).length} of ${bars.length} bars hold`);
};

await run();
