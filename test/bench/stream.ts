// 1 GiB through the encrypting stream and back to the client, against AES-256-GCM of node:crypto over the same pieces on
// one thread, which neither carries nor records anything.
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
  const echo = join(on.agent.folder, 'echo.sock');
  await echoing.ask({ echoOn: echo });
  const carried: number[] = [];
  const own: number[] = [];
  const bare: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    bare.push((bytes / MIB / (await direct.ask<number>({ gcmBytes: bytes }))) * 1000);
    carried.push((bytes / MIB / (await client.ask<number>({ echo, bytes }))) * 1000);
    own.push((bytes / MIB / (await client.ask<number>({ stream, bytes }))) * 1000);
  }
  say(`stream: ${median(own).toFixed(0)} MiB/s, node:crypto ${median(bare).toFixed(0)} MiB/s`);
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
    bars: [judge('stream', own, ratios(own, bare), quick ? { note: 'scaled down: 64 MiB' } : {})],
    tables: [
      {
        title: `Encrypting ${bytes / MIB} MiB as a stream`,
        head: ['route', 'MiB/s', 'spread', '÷ node:crypto', '÷ grpc-js'],
        rows: [
          row('AES-256-GCM of node:crypto, one thread', bare),
          row('the same bytes up and back over grpc-js, nothing done with them', carried),
          row('encrypt stream, client to agent and back', own),
        ],
        notes: ['What grpc-js carries with nothing done to it is the limit of a stream over it.'],
      },
    ],
  };
};
