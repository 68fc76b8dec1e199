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

export const measureStream = async ({ client, on }: Parts, { rounds, quick, say }: Settings): Promise<Findings> => {
  const bytes = quick ? 64 * MIB : 1024 * MIB;
  const stream = on.connection('bench', 'pipeline');
  await using direct = new Remote('direct.ts');
  await using echoing = new Remote('direct.ts');
  await using counting = new Remote('client.ts');
  await counting.ask({ countBuffersAsHeap: true });
  const echo = join(on.agent.folder, 'echo.sock');
  await echoing.ask({ echoOn: echo });
  const carried: number[] = [];
  const own: number[] = [];
  const local: number[] = [];
  const counted: number[] = [];
  const bare: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const rateOf = async (remote: Remote, question: object): Promise<number> =>
      (bytes / MIB / (await remote.ask<number>(question))) * 1000;
    local.push(await rateOf(client, { stream, bytes, isLocal: true }));
    bare.push(await rateOf(direct, { gcmBytes: bytes }));
    counted.push(await rateOf(counting, { stream, bytes, isLocal: true }));
    carried.push(await rateOf(client, { echo, bytes }));
    own.push(await rateOf(client, { stream, bytes, isLocal: false }));
  }
  const rate = (rates: readonly number[]): string => `${median(rates).toFixed(0)} MiB/s`;
  say(`stream: ${rate(counted)} by the client, ${rate(own)} through the agent, node:crypto ${rate(bare)}`);
  const judged = (rates: readonly number[]): string => `${rate(rates)}, ${median(ratios(rates, bare)).toFixed(2)}`;
  const note = [
    'chunks made by the client, in one thread, with a key of the agent, in a process that counts buffers as heap',
    `in any other ${judged(local)}`,
    `through the agent ${judged(own)}`,
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
          row('encrypt stream, chunks by the agent: client to agent and back', own),
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
