// 1 GiB encrypted as a stream, its chunks made by the client (with the content key of this one stream, which the agent gives
// after policy and record) and by the agent, against AES-256-GCM of node:crypto over the same pieces on one thread, which
// neither carries nor records anything.
import { join } from 'node:path';
import { judge } from './bars.ts';
import { Remote } from './remote.ts';
import type { Findings, Settings } from './run.ts';
import { median, ratios, spreadOf } from './statistics.ts';
import type { Parts } from './throughput.ts';

const MIB = 2 ** 20;

interface Rates {
  readonly bare: readonly number[];
  readonly carried: readonly number[];
  readonly throughAgent: readonly number[];
  readonly local: readonly number[];
  /** Local, in a process that counts buffers as heap. */
  readonly counted: readonly number[];
}

const measureRates = async ({ client, on }: Parts, bytes: number, rounds: number): Promise<Rates> => {
  const stream = on.connection('bench', 'pipeline');
  await using direct = new Remote('direct.ts');
  await using echoing = new Remote('direct.ts');
  await using counting = new Remote('client.ts');
  await counting.ask({ countBuffersAsHeap: true });
  const echo = join(on.agent.folder, 'echo.sock');
  await echoing.ask({ echoOn: echo });
  const rateOf = async (remote: Remote, question: object): Promise<number> =>
    (bytes / MIB / (await remote.ask<number>(question))) * 1000;
  const rates = { bare: [], carried: [], throughAgent: [], local: [], counted: [] } as Record<keyof Rates, number[]>;
  for (let round = 0; round < rounds; round += 1) {
    rates.local.push(await rateOf(client, { stream, bytes, isLocal: true }));
    rates.bare.push(await rateOf(direct, { gcmBytes: bytes }));
    rates.counted.push(await rateOf(counting, { stream, bytes, isLocal: true }));
    rates.carried.push(await rateOf(client, { echo, bytes }));
    rates.throughAgent.push(await rateOf(client, { stream, bytes, isLocal: false }));
  }
  return rates;
};

const rateText = (rates: readonly number[]): string => `${median(rates).toFixed(0)} MiB/s`;

export const measureStream = async (parts: Parts, { rounds, quick, say }: Settings): Promise<Findings> => {
  const bytes = quick ? 64 * MIB : 1024 * MIB;
  const { bare, carried, throughAgent, local, counted } = await measureRates(parts, bytes, rounds);
  say(
    `stream: ${rateText(counted)} by the client, ${rateText(throughAgent)} through the agent, node:crypto ${rateText(bare)}`,
  );
  const beside = (rates: readonly number[]): string => `${rateText(rates)}, ${median(ratios(rates, bare)).toFixed(2)}`;
  const note = [
    'chunks made by the client, in one thread, with a key of the agent, in a process that counts buffers as heap',
    `in any other ${beside(local)}`,
    `through the agent ${beside(throughAgent)}`,
    ...(quick ? ['scaled down: 64 MiB'] : []),
  ].join('; ');
  const row = (title: string, rates: readonly number[]): string[] => [
    title,
    median(rates).toFixed(0),
    spreadOf(rates)
      .map((rate) => rate.toFixed(0))
      .join('–'),
    median(ratios(rates, bare)).toFixed(2),
    median(ratios(rates, carried)).toFixed(2),
  ];
  return {
    bars: [judge('stream', counted, ratios(counted, bare), { note })],
    tables: [
      {
        title: `Encrypting ${bytes / MIB} MiB as a stream`,
        head: ['route', 'MiB/s', 'spread', '÷ node:crypto', '÷ grpc-js'],
        rows: [
          row('AES-256-GCM of node:crypto, one thread', bare),
          row('the same bytes up and back over grpc-js, nothing done with them', carried),
          row('encrypt stream, chunks by the agent: client to agent and back', throughAgent),
          row('encrypt stream, chunks by the client, in one thread (`streams.localKeys`, off by default)', local),
          row('the same in a process that counts buffers as heap, as `mortise` does', counted),
        ],
        notes: [
          'What grpc-js carries with nothing done to it is the limit of a stream over it.',
          'The bar is judged by the last row: policy, the wrapped key, both records and the wait for the last are in it; the bytes do not leave the process.',
        ],
      },
    ],
  };
};
