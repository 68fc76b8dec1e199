// Idle memory and the time from spawn to serving, of agents started from the sources over one data folder.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { startAgent } from '../support/agent.ts';
import { judge } from './bars.ts';
import type { Findings, Settings } from './run.ts';
import { median, spreadOf } from './statistics.ts';

export const SETTLE_MS = 1500; // garbage of the start is collected and the token process has its one worker

export const FROM_THIRD = 'from the third start over one data folder on: two starts fill the cache of compiled code';
const MB = 1000; // of /proc, in kB

export const residentMb = (pid: number, field: 'Rss' | 'Pss'): number =>
  Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]) / MB;

/** A median with its spread, for a table. */
export const range = (values: readonly number[], digits: number): string =>
  `${median(values).toFixed(digits)} (${spreadOf(values)
    .map((value) => value.toFixed(digits))
    .join('–')})`;

export const measureResources = async ({ rounds, say }: Settings): Promise<Findings> => {
  const starts: number[] = [];
  const resident: number[] = [];
  const shared: number[] = [];
  const parts = { agent: [] as number[], token: [] as number[] };
  await using agent = await startAgent();
  const first = agent.logs.find(({ msg }) => msg === 'agent is READY');
  await agent.end();
  await agent.start(); // the second start compiles what later ones find in the cache
  for (let round = 0; round < rounds; round += 1) {
    await agent.end();
    const from = performance.now();
    await agent.start();
    starts.push((performance.now() - from) / 1000);
    await sleep(SETTLE_MS);
    const pids = [agent.pid, agent.tokenPid()] as const;
    const [agentMb = 0, tokenMb = 0] = pids.map((pid) => residentMb(pid, 'Rss'));
    parts.agent.push(agentMb);
    parts.token.push(tokenMb);
    resident.push(agentMb + tokenMb);
    shared.push(pids.reduce((sum, pid) => sum + residentMb(pid, 'Pss'), 0));
  }
  say(`idle ${median(resident).toFixed(0)} MB, start ${median(starts).toFixed(2)} s`);
  const rows = [
    ['resident memory idle, both processes, MB (RSS)', range(resident, 0)],
    ['of it the agent', range(parts.agent, 0)],
    ['of it the token process', range(parts.token, 0)],
    ['proportional set size, both, MB (PSS: shared pages counted once)', range(shared, 0)],
    ['from spawn to READY, s', range(starts, 2)],
    [
      'the very first start (token objects made, token tested in full), s',
      `${Number(first?.['durationMs'] ?? Number.NaN) / 1000}`,
    ],
  ];
  return {
    bars: [
      judge('memory', resident, resident, { note: FROM_THIRD }),
      judge('start', starts, starts, { note: FROM_THIRD }),
    ],
    tables: [{ title: 'Memory and start, from the sources', head: ['measure', 'median (spread)'], rows, notes: [] }],
  };
};
