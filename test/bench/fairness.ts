// A quiet tenant beside one that floods. The quiet one asks at random moments, far below half of what the agent can do;
// then both ask for all they can get, which shows how the agent divides.
import { judge } from './bars.ts';
import { type BenchAgent, measure, type Tenant } from './lab.ts';
import type { Load } from './loops.ts';
import { Remote } from './remote.ts';
import type { Findings, Settings } from './run.ts';
import { median, spreadOf } from './statistics.ts';

const PER_SECOND = 200;
const QUIET_MS = 3000; // some 600 answers: six of them lie above the p99
const FLOOD = 64;
const FAIR_PART = 0.9; // of its share, within what the same cell differs from itself

const quietly = async (client: Remote, on: BenchAgent, ms: number): Promise<Load> =>
  (await measure(client, on, { tenant: 'quiet', work: 'ecdsa', door: 'pipeline', perSecond: PER_SECOND, ms })).load;
const flooding = async (client: Remote, on: BenchAgent, tenant: Tenant, ms: number): Promise<Load> =>
  (await measure(client, on, { tenant, work: 'ecdsa', door: 'pipeline', inFlight: FLOOD, ms })).load;

export const measureFairness = async (
  { client, on }: { readonly client: Remote; readonly on: BenchAgent },
  { rounds, quick, say }: Settings,
): Promise<Findings> => {
  await using flooder = new Remote('client.ts');
  const quietMs = quick ? QUIET_MS / 3 : QUIET_MS;
  const alone: number[] = [];
  const beside: number[] = [];
  const served: number[] = [];
  const halves: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    alone.push((await quietly(client, on, quietMs)).p99);
    const flood = flooding(flooder, on, 'flood', quietMs); // warms up for a quarter and then goes on as long
    const quiet = await quietly(client, on, quietMs);
    await flood;
    beside.push(quiet.p99);
    served.push(quiet.rate / PER_SECOND);
    const both = [flooding(flooder, on, 'flood', quietMs / 3), flooding(client, on, 'quiet', quietMs / 3)];
    const [other, own] = (await Promise.all(both)) as [Load, Load];
    halves.push(own.rate / (own.rate + other.rate));
  }
  const ratios = beside.map((p99, round) => p99 / (alone[round] as number));
  const isFair = median(served) >= FAIR_PART && median(halves) >= FAIR_PART / 2;
  say(`fairness: p99 ${median(alone).toFixed(2)} ms alone, ${median(beside).toFixed(2)} ms beside a flood`);
  const range = (values: readonly number[], digits: number): string[] => [
    median(values).toFixed(digits),
    spreadOf(values)
      .map((value) => value.toFixed(digits))
      .join('–'),
  ];
  const rows = [
    [`p99 of ${PER_SECOND} operations/s alone, ms`, ...range(alone, 2)],
    ['p99 of the same beside a flood, ms', ...range(beside, 2)],
    ['the second divided by the first', ...range(ratios, 2)],
    ['part of what it asked for that it got beside the flood', ...range(served, 2)],
    [`part of the throughput where both have ${FLOOD} in flight (a fair share is 0.5)`, ...range(halves, 2)],
  ];
  return {
    bars: [judge('fairness', beside, ratios, { also: isFair })],
    tables: [
      {
        title: 'Fairness between tenants (ECDSA P-256, Pipeline)',
        head: ['measure', 'median', 'spread'],
        rows,
        notes: [],
      },
    ],
  };
};
