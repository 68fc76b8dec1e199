// Where the time of one request goes: CPU of each process, the agent's own stage metrics, and what its main thread does
// by --cpu-prof. The profiled agent is one of its own, because a profiler costs time.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { summarize } from './cpu-profile.ts';
import { BenchAgent, makeKeys, measure } from './lab.ts';
import { Remote } from './remote.ts';
import type { Findings, Settings, Table } from './run.ts';
import { scrape } from './scrape.ts';
import { WORKS, type WorkName } from './work.ts';

const WORK: readonly WorkName[] = ['ecdsa', 'encrypt'];
const PROFILE_MS = 4000;

/** Mean of each stage in microseconds between two scrapes. */
const stagesOf = (before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): string[] =>
  ['queue', 'token', 'audit'].map((stage) => {
    const gone = (what: string): number => {
      const name = `mortise_stage_duration_seconds_${what}{stage="${stage}"}`;
      return (after.get(name) ?? 0) - (before.get(name) ?? 0);
    };
    return `${((gone('sum') / gone('count')) * 1e6).toFixed(0)}`;
  });

const stages = async (client: Remote, on: BenchAgent, cellMs: number): Promise<Table> => {
  const rows: string[][] = [];
  for (const work of WORK) {
    for (const inFlight of [1, 64]) {
      const before = await scrape(on.metricsPath);
      const { load, agentCpu, tokenCpu } = await measure(client, on, { work, inFlight, door: 'pipeline', ms: cellMs });
      const after = await scrape(on.metricsPath);
      const cpu = [load.cpu, agentCpu, tokenCpu].map((micros) => micros.toFixed(0));
      rows.push([
        `${WORKS[work].title}, ${inFlight}`,
        (load.p50 * 1000).toFixed(0),
        ...stagesOf(before, after),
        ...cpu,
      ]);
    }
  }
  return {
    title: 'Where the time of one request goes (Pipeline, µs)',
    head: [
      'work, in flight',
      'p50 seen by the client',
      'queue',
      'in the token',
      'one audit commit',
      'CPU client',
      'CPU agent',
      'CPU token process',
    ],
    rows,
    notes: [
      'Queue, token and audit are means of `mortise_stage_duration_seconds`; an audit commit is shared by all operations of its group. CPU is per operation.',
    ],
  };
};

const profile = async (client: Remote, work: WorkName): Promise<Table> => {
  const on = await BenchAgent.start({ env: { NODE_OPTIONS: '--cpu-prof --cpu-prof-dir=profiles' } });
  const folder = join(on.agent.folder, 'profiles');
  await makeKeys(client, on, ['bench']);
  const from = performance.timeOrigin + performance.now();
  await measure(client, on, { work, door: 'pipeline', inFlight: 64, ms: PROFILE_MS });
  await on.agent.end();
  const file = readdirSync(folder).sort().at(-1); // named by time
  const shares = summarize(JSON.parse(readFileSync(join(folder, file as string), 'utf8')), from);
  await on[Symbol.asyncDispose]();
  return {
    title: `What the agent's main thread does: ${WORKS[work].title}, 64 in flight`,
    head: ['where', 'share of its busy time'],
    rows: shares.map(([place, share]) => [place, `${(share * 100).toFixed(0)} %`]),
    notes: [],
  };
};

export const measureBreakdown = async ({ cellMs, say }: Settings): Promise<Findings> => {
  await using client = new Remote('client.ts');
  const tables: Table[] = [];
  {
    await using on = await BenchAgent.start({ metrics: true });
    await makeKeys(client, on, ['bench']);
    tables.push(await stages(client, on, cellMs * 2));
  }
  for (const work of WORK) tables.push(await profile(client, work));
  say('breakdown done');
  return { bars: [], tables };
};
