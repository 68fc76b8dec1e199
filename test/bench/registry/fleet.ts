// A thousand hosts on one registry: what each costs in memory, how fast a policy and a revocation are everywhere, and how
// they come back when the registry was gone.
import { setTimeout as sleep } from 'node:timers/promises';
import { CatalogServiceService } from '../../../proto/gen/mortise/registry/v1/catalog.ts';
import { serverStream } from '../../support/registry-client.ts';
import { judgeBy } from '../bars.ts';
import { Remote } from '../remote.ts';
import type { Findings, Settings, Table } from '../run.ts';
import { median, quantile } from '../statistics.ts';
import { BARS } from './bars.ts';
import { cpuOf } from './cpu-time.ts';
import type { Question } from './hosts-process.ts';
import { BenchRegistry, type StoreName, startDatabase } from './lab.ts';
import { sharedNow, TENANT } from './light-host.ts';

const PROCESSES = 4;
const ADMIT_AT_ONCE = 16;
const SETTLE_MS = 3_000;
const OUTAGE_MS = 15_000; // hosts that wait for this long pause for some seconds between attempts
const KIB = 1024;

class Fleet implements AsyncDisposable {
  readonly #children = Array.from({ length: PROCESSES }, () => new Remote('registry/hosts-process.ts'));

  all<T>(question: Question): Promise<T[]> {
    return Promise.all(this.#children.map((child) => child.ask<T>(question)));
  }

  first<T>(question: Question): Promise<T> {
    return (this.#children[0] as Remote).ask<T>(question);
  }

  async enrol(registry: BenchRegistry, size: number): Promise<void> {
    const hosts: { host: string; token: string }[] = [];
    const names = Array.from({ length: size }, (_, at) => `light-${at}`);
    const worker = async (): Promise<void> => {
      for (let host = names.pop(); host !== undefined; host = names.pop()) {
        hosts.push({ host, token: await registry.process.admit(host, [TENANT]) });
      }
    };
    await Promise.all(Array.from({ length: ADMIT_AT_ONCE }, worker));
    const { folder } = registry;
    const { port } = registry.process;
    await Promise.all(
      this.#children.map((child, at) => {
        const own = hosts.filter((_, index) => index % PROCESSES === at);
        return child.ask({ ask: 'enrol', folder, port, hosts: own } satisfies Question);
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#children.map((child) => child[Symbol.asyncDispose]()));
  }
}

/** Of one event: seconds until half of the hosts, 99 of a hundred and the last of them had it. */
interface Reach {
  readonly median: number;
  readonly p99: number;
  readonly last: number;
}

const reachOf = (sentAt: number, arrivals: readonly (readonly number[])[]): Reach => {
  const seconds = arrivals.flat().map((at) => (at - sentAt) / 1000);
  return { median: median(seconds), p99: quantile(seconds, 0.99), last: Math.max(...seconds) };
};

const policyReach = async (registry: BenchRegistry, fleet: Fleet): Promise<Reach> => {
  const { version } = await registry.policies.publishPlatform();
  const sentAt = sharedNow();
  await registry.publish();
  return reachOf(sentAt, await fleet.all({ ask: 'arrivals', of: 'policies', at: version }));
};

/** Also how long until the registry itself can name every host as having applied it. */
const revocationReach = async (
  registry: BenchRegistry,
  fleet: Fleet,
  size: number,
  round: number,
): Promise<Reach & { readonly proof: number }> => {
  await fleet.first({ ask: 'revoke', revision: 2 * round + 1 });
  await sleep(SETTLE_MS / 2);
  const { sentAt, position } = await fleet.first<{ sentAt: number; position: number }>({
    ask: 'revoke',
    revision: 2 * round + 2,
  });
  const request = { tenant: TENANT, position: BigInt(position) };
  const wait = serverStream(registry.process.admin, CatalogServiceService.waitForHosts, request);
  for (;;) {
    const { applied } = await wait.next();
    if (applied.length >= size) break;
  }
  const proof = (sharedNow() - sentAt) / 1000;
  wait.cancel();
  return { ...reachOf(sentAt, await fleet.all({ ask: 'arrivals', of: 'positions', at: position })), proof };
};

interface Storm {
  /** Seconds after READY. */
  readonly returns: readonly number[];
  readonly refused: number;
  readonly failedWhileGone: number;
}

const storm = async (registry: BenchRegistry, fleet: Fleet): Promise<Storm> => {
  const killedAt = sharedNow();
  await registry.process.stop('SIGKILL');
  await sleep(OUTAGE_MS);
  await registry.process.start();
  const readyAt = sharedNow();
  const ask = { ask: 'returns', after: killedAt } as const;
  const answers = await fleet.all<{ returns: number[]; failures: number[] }>(ask);
  const since = await fleet.all<{ failures: number[] }>({ ask: 'returns', after: readyAt });
  const sum = (rows: readonly { failures: number[] }[]): number =>
    rows.flatMap(({ failures }) => failures).reduce((all, one) => all + one, 0);
  return {
    returns: answers.flatMap(({ returns }) => returns).map((at) => (at - readyAt) / 1000),
    refused: sum(since),
    failedWhileGone: sum(answers) - sum(since),
  };
};

const busiestSecond = (returns: readonly number[]): number => {
  const counts = new Map<number, number>();
  for (const at of returns) counts.set(Math.floor(at), (counts.get(Math.floor(at)) ?? 0) + 1);
  return Math.max(...counts.values());
};

const BARS_OF = {
  LMDB: { policy: BARS.policyLmdb, revocation: BARS.revocationLmdb },
  PostgreSQL: { policy: BARS.policyPostgres, revocation: BARS.revocationPostgres },
} as const;

const seconds = (values: readonly number[]): string => median(values).toFixed(3);

const rowOf = (what: string, reaches: readonly Reach[]): string[] => [
  what,
  seconds(reaches.map((reach) => reach.median)),
  seconds(reaches.map(({ p99 }) => p99)),
  seconds(reaches.map(({ last }) => last)),
  Math.max(...reaches.map(({ last }) => last)).toFixed(3),
];

const stormTable = ({ returns, refused, failedWhileGone }: Storm, size: number): Table => ({
  title: `${size} hosts after ${OUTAGE_MS / 1000} s without their registry (LMDB)`,
  head: ['measure', ''],
  rows: [
    ['half of the hosts are back, s after READY', median(returns).toFixed(1)],
    ['99 of a hundred', quantile(returns, 0.99).toFixed(1)],
    ['the last', Math.max(...returns).toFixed(1)],
    ['most that came in one second', String(busiestSecond(returns))],
    ['attempts while it was gone, per host', (failedWhileGone / size).toFixed(1)],
    ['attempts refused or broken off once it was READY', String(refused)],
  ],
  notes: ['Pauses double from 0.25 s to 30 s, each of them between half of it and all of it at random.'],
});

/** One fleet over one store; what it costs and the storm are judged over LMDB, the default. */
const measureOver = async (store: StoreName, settings: Settings): Promise<Findings> => {
  const { quick, rounds, say } = settings;
  const size = quick ? 200 : 1_000;
  await using postgres = store === 'PostgreSQL' ? await startDatabase() : undefined;
  await using registry = await BenchRegistry.start(postgres);
  await using fleet = new Fleet();
  await fleet.enrol(registry, size);
  say(`${store}: ${size} hosts enrolled`);
  await sleep(SETTLE_MS);
  const before = await registry.resident();
  const cpu = { from: cpuOf(registry.process.pid), connect: 0, told: 0 };
  await fleet.all({ ask: 'connect' });
  cpu.connect = cpuOf(registry.process.pid) - cpu.from;
  await sleep(SETTLE_MS);
  const perHost = ((await registry.resident()) - before) / size;
  say(`${store}: connected, ${perHost.toFixed(0)} KiB for each`);
  const connected = cpuOf(registry.process.pid);
  const policies: Reach[] = [];
  const revocations: (Reach & { readonly proof: number })[] = [];
  for (let round = 0; round < rounds; round += 1) {
    policies.push(await policyReach(registry, fleet));
    await sleep(SETTLE_MS / 2);
    revocations.push(await revocationReach(registry, fleet, size, round));
  }
  cpu.told = (cpuOf(registry.process.pid) - connected) / (3 * rounds);
  const rows = [rowOf(`policy, ${store}`, policies), rowOf(`revocation of a key, ${store}`, revocations)];
  rows.push([
    `every host named as having it, ${store}`,
    '–',
    '–',
    seconds(revocations.map(({ proof }) => proof)),
    Math.max(...revocations.map(({ proof }) => proof)).toFixed(3),
  ]);
  say(`${store}: ${rows.map((row) => row.join(' ')).join('; ')}`);
  const tables: Table[] = [
    {
      title: `Until ${size} hosts have it, ${store}: seconds, medians over ${rounds} rounds`,
      head: ['what', 'half of the hosts', '99 of a hundred', 'the last', 'the last, worst round'],
      rows,
      notes: [
        `CPU time of the registry for each host: ${(cpu.connect / size).toFixed(1)} ms to connect it, ${(cpu.told / size).toFixed(2)} ms to tell it of one change and take its word for it.`,
      ],
    },
  ];
  const lasts = (reaches: readonly Reach[]): number[] => reaches.map(({ last }) => last);
  const { policy, revocation } = BARS_OF[store];
  const reached = [
    judgeBy(policy, lasts(policies), lasts(policies), { note: `${size} hosts` }),
    judgeBy(revocation, lasts(revocations), lasts(revocations), { note: `${size} hosts` }),
  ];
  if (store === 'PostgreSQL') return { bars: reached, tables };
  const after = await storm(registry, fleet);
  say(`${store}: all back ${Math.max(...after.returns).toFixed(1)} s after READY, ${after.refused} refused`);
  tables.push(stormTable(after, size));
  const last = Math.max(...after.returns);
  return {
    bars: [
      judgeBy(BARS.memory, [perHost], [perHost], { note: `${Math.round(before / KIB)} MiB before the first` }),
      ...reached,
      judgeBy(BARS.storm, [last], [last], { note: `${size} hosts, killed and ${OUTAGE_MS / 1000} s gone` }),
    ],
    tables,
  };
};

export const measureFleet = async (settings: Settings): Promise<Findings> => {
  const lmdb = await measureOver('LMDB', settings);
  const postgres = await measureOver('PostgreSQL', settings);
  return { bars: [...lmdb.bars, ...postgres.bars], tables: [...lmdb.tables, ...postgres.tables] };
};
