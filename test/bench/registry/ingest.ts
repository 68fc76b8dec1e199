// How many audit records a second the registry takes in over gRPC, verified and durable, on either store, against a plain
// COPY into the table of records.
import { judgeBy } from '../bars.ts';
import { Remote } from '../remote.ts';
import { type Findings, type Settings, thousands } from '../run.ts';
import { median, ratios, spreadOf } from '../statistics.ts';
import { BARS } from './bars.ts';
import { measureCopy } from './copy.ts';
import type { FeederQuestion } from './feeder.ts';
import { BenchRegistry, type StoreName, startDatabase } from './lab.ts';
import { TENANT } from './light-host.ts';

const HOSTS = 8;
const FULL = 24_000; // records of a round
const QUICK = 8_000;

/** Hosts of one registry that hand in. */
export class Feeder implements AsyncDisposable {
  readonly #child = new Remote('registry/feeder.ts');
  readonly hosts: string[] = [];

  async enrol(registry: BenchRegistry, name: string, count: number): Promise<string[]> {
    const { process } = registry;
    const roots = process.roots;
    const added = Array.from({ length: count }, (_, at) => `${name}-${at}`);
    for (const host of added) {
      const token = await process.admit(host, [TENANT]);
      await this.#ask({ ask: 'enrol', port: process.port, roots, host, token });
    }
    this.hosts.push(...added);
    return added;
  }

  /** Records a second, over all of the hosts together. */
  async feed(hosts: readonly string[], records: number): Promise<number> {
    const each = Math.ceil(records / hosts.length);
    await this.#ask({ ask: 'make', hosts, records: each });
    const ms = await this.#ask<number>({ ask: 'feed', hosts });
    return ((each * hosts.length) / ms) * 1000;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }

  #ask<T>(question: FeederQuestion): Promise<T> {
    return this.#child.ask<T>(question);
  }
}

export const measureIngest = async ({ quick, rounds, say }: Settings): Promise<Findings> => {
  const records = quick ? QUICK : FULL;
  await using postgres = await startDatabase();
  await using onPostgres = await BenchRegistry.start(postgres);
  await using onLmdb = await BenchRegistry.start();
  await using feeder = new Feeder();
  const hosts = {
    PostgreSQL: await feeder.enrol(onPostgres, 'on-postgres', HOSTS),
    LMDB: await feeder.enrol(onLmdb, 'on-lmdb', HOSTS),
  };
  const rates: Record<StoreName | 'one' | 'COPY', number[]> = { PostgreSQL: [], LMDB: [], one: [], COPY: [] };
  // Round 0 warms code and files and does not count.
  for (let round = 0; round <= rounds; round += 1) {
    const url = onPostgres.database?.superUrl ?? '';
    const cells = {
      PostgreSQL: await feeder.feed(hosts.PostgreSQL, records),
      COPY: (records / (await measureCopy(url, records))) * 1000,
      LMDB: await feeder.feed(hosts.LMDB, records),
      one: await feeder.feed(hosts.PostgreSQL.slice(0, 1), records / 4),
    };
    if (round > 0) for (const name of ['PostgreSQL', 'COPY', 'LMDB', 'one'] as const) rates[name].push(cells[name]);
  }
  const toCopy = (name: StoreName): number[] => ratios(rates[name], rates.COPY);
  const row = (what: string, name: keyof typeof rates): string[] => [
    what,
    thousands(median(rates[name])),
    spreadOf(rates[name]).map(thousands).join('–'),
    median(ratios(rates[name], rates.COPY)).toFixed(2),
  ];
  const rows = [
    row('plain COPY into `mortise.records`, one connection', 'COPY'),
    row(`PostgreSQL, ${HOSTS} hosts at once`, 'PostgreSQL'),
    row('PostgreSQL, one host', 'one'),
    row(`LMDB, ${HOSTS} hosts at once`, 'LMDB'),
  ];
  say(rows.map((cells) => `${cells[0]} ${cells[1]}/s`).join('; '));
  return {
    bars: [
      judgeBy(BARS.ingestPostgres, rates.PostgreSQL, toCopy('PostgreSQL')),
      judgeBy(BARS.ingestLmdb, rates.LMDB, toCopy('LMDB')),
    ],
    tables: [
      {
        title: `Ledger ingest: records a second, ${thousands(records)} a round`,
        head: ['route', 'records/s', 'spread', '÷ COPY'],
        rows,
        notes: [
          'Records and MACs are made beforehand; batches of 512 with a checkpoint each, four under way per host. Sender, registry and database share the cores.',
        ],
      },
    ],
  };
};
