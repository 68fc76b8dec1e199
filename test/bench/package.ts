// The packaged agent against the same agent from its sources: idle memory, and the time from spawn to serving. The two
// take turns, so that what the machine does besides falls on both.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stage } from '../../systemd/package/stage.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { judge } from './bars.ts';
import { cpuMicros } from './lab.ts';
import { FROM_THIRD, range, residentMb, SETTLE_MS } from './resources.ts';
import type { Findings, Settings } from './run.ts';
import { median } from './statistics.ts';

class Side {
  readonly agent: RunningAgent;
  readonly starts: number[] = [];
  readonly resident: number[] = [];
  readonly shared: number[] = [];
  readonly cpu: number[] = [];

  constructor(agent: RunningAgent) {
    this.agent = agent;
  }

  async restart(): Promise<void> {
    const { agent } = this;
    await agent.end();
    const from = performance.now();
    await agent.start();
    this.starts.push((performance.now() - from) / 1000);
    this.cpu.push((cpuMicros(agent.pid) + cpuMicros(agent.tokenPid())) / 1e6);
    await sleep(SETTLE_MS);
    const both = (field: 'Rss' | 'Pss'): number => residentMb(agent.pid, field) + residentMb(agent.tokenPid(), field);
    this.resident.push(both('Rss'));
    this.shared.push(both('Pss'));
  }
}

export const measurePackage = async ({ rounds, say }: Settings): Promise<Findings> => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-package-'));
  try {
    await stage(join(folder, 'mortise'));
    const program = { node: join(folder, 'mortise/bin/node'), main: join(folder, 'mortise/agent/main.js') };
    await using fromSources = await startAgent();
    // As the unit and the image say it.
    const env = { NODE_COMPILE_CACHE: join(folder, 'compile-cache') };
    await using fromPackage = await startAgent({ program, env });
    const [sources, packaged] = [new Side(fromSources), new Side(fromPackage)];
    for (const { agent } of [sources, packaged]) {
      await agent.end();
      await agent.start(); // the second start compiles what later ones find in the cache
    }
    for (let round = 0; round < rounds; round += 1) {
      await sources.restart();
      await packaged.restart();
    }
    say(`packaged: idle ${median(packaged.resident).toFixed(0)} MB, start ${median(packaged.starts).toFixed(2)} s`);
    const row = (name: string, digits: number, of: (side: Side) => readonly number[]): readonly string[] => [
      name,
      range(of(packaged), digits),
      range(of(sources), digits),
    ];
    return {
      bars: [
        judge('packagedMemory', packaged.resident, packaged.resident, { note: FROM_THIRD }),
        judge('packagedStart', packaged.starts, packaged.starts, { note: FROM_THIRD }),
      ],
      tables: [
        {
          title: 'As packaged, against the sources in turns',
          head: ['measure', 'packaged, median (spread)', 'from the sources'],
          rows: [
            row('resident memory idle, both processes, MB (RSS)', 0, ({ resident }) => resident),
            row('proportional set size, both, MB (PSS: a shared page counts in part)', 0, ({ shared }) => shared),
            row('from spawn to READY, s', 2, ({ starts }) => starts),
            row('CPU time of both until READY, s', 2, ({ cpu }) => cpu),
          ],
          notes: [],
        },
      ],
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};
