// npm run bench:peers: the same signatures through other ways of reaching one token from another process, where they are
// installed. They offer the PKCS#11 calls themselves, without callers, policy or audit; the direct process loads their
// client library in place of the token's.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunningAgent } from '../support/agent.ts';
import { Direct } from './lab.ts';
import type { Load } from './loops.ts';
import { type Findings, micros, type Settings, thousands } from './run.ts';
import { median, ratios } from './statistics.ts';
import { directLabel, type Parts } from './throughput.ts';
import type { WorkName } from './work.ts';

interface Peer {
  readonly name: string;
  readonly program: string;
  /** The PKCS#11 library that its clients load. */
  readonly library: string;
  readonly args: (agent: RunningAgent, folder: string) => readonly string[];
  readonly env: (agent: RunningAgent, folder: string) => Readonly<Record<string, string>>;
  readonly socket: (folder: string) => string;
  readonly clientEnv: (folder: string) => Readonly<Record<string, string>>;
}

const LIBRARIES = '/usr/lib/x86_64-linux-gnu';
const PEERS: readonly Peer[] = [
  {
    name: 'p11-kit server',
    program: '/usr/bin/p11-kit',
    library: `${LIBRARIES}/pkcs11/p11-kit-client.so`,
    args: ({ token }, folder) => [
      'server',
      '--foreground',
      '--provider',
      token.library,
      '--name',
      join(folder, 'p11'),
      `pkcs11:token=${token.label}`,
    ],
    env: () => ({}),
    socket: (folder) => join(folder, 'p11'),
    clientEnv: (folder) => ({ P11_KIT_SERVER_ADDRESS: `unix:path=${join(folder, 'p11')}` }),
  },
  {
    name: 'pkcs11-daemon',
    program: '/usr/bin/pkcs11-daemon',
    library: `${LIBRARIES}/libpkcs11-proxy.so`,
    args: ({ token }) => [token.library],
    env: (_agent, folder) => ({ PKCS11_DAEMON_SOCKET: folder }),
    socket: (folder) => join(folder, 'socket.pkcs11'),
    clientEnv: (folder) => ({ PKCS11_PROXY_SOCKET: join(folder, 'socket') }),
  },
];
const WORK: readonly WorkName[] = ['ecdsa', 'rsa', 'encrypt'];
const PATIENCE_MS = 5000;

const isInstalled = ({ program, library }: Peer): boolean => existsSync(program) && existsSync(library);

const start = async (peer: Peer, agent: RunningAgent, folder: string): Promise<ChildProcess> => {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const child = spawn(peer.program, peer.args(agent, folder), {
    env: { PATH: '/usr/bin:/bin', ...agent.token.env, ...peer.env(agent, folder) },
    stdio: 'ignore',
  });
  for (let waited = 0; !existsSync(peer.socket(folder)); waited += 10) {
    if (child.exitCode !== null || waited > PATIENCE_MS) throw new Error(`${peer.name} did not start`);
    await sleep(10);
  }
  return child;
};

const measurePeer = async (peer: Peer, { on, direct }: Parts, settings: Settings): Promise<string[][]> => {
  const folder = join(on.agent.folder, 'peer');
  const child = await start(peer, on.agent, folder);
  try {
    const { library } = peer;
    const env = { ...on.agent.token.env, ...peer.clientEnv(folder) };
    await using clients = await Direct.start(on.agent, { library, env });
    const rows: string[][] = [];
    for (const work of WORK) {
      const cells = { one: [] as Load[], four: [] as Load[], direct: [] as Load[] };
      try {
        for (let round = 0; round < settings.rounds; round += 1) {
          cells.direct.push(await direct.measure(work, directLabel(work), settings.cellMs));
          cells.one.push(await clients.measure(work, directLabel(work), settings.cellMs, 1));
          cells.four.push(await clients.measure(work, directLabel(work), settings.cellMs));
        }
      } catch (thrown) {
        rows.push([peer.name, work, `refused: ${/CKR_\w+/.exec(String(thrown))?.[0] ?? thrown}`, '–', '–', '–']);
        continue;
      }
      const rates = (loads: readonly Load[]): number[] => loads.map((load) => load.rate);
      rows.push([
        peer.name,
        work,
        micros(median(cells.one.map((load) => load.p50))),
        thousands(median(rates(cells.one))),
        thousands(median(rates(cells.four))),
        median(ratios(rates(cells.four), rates(cells.direct))).toFixed(2),
      ]);
    }
    return rows;
  } finally {
    child.kill('SIGKILL'); // pkcs11-daemon now and then sits through SIGTERM
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
};

export const measurePeers = async (parts: Parts, settings: Settings): Promise<Findings> => {
  const rows: string[][] = [];
  for (const peer of PEERS) {
    if (isInstalled(peer)) rows.push(...(await measurePeer(peer, parts, settings)));
    else settings.say(`${peer.name}: not installed (${peer.program}, ${peer.library})`);
  }
  const head = ['peer', 'work', 'one caller, p50 µs', 'operations/s', 'four processes, operations/s', '÷ direct'];
  const notes = ['Peers that are not installed are left out.'];
  return { bars: [], tables: [{ title: 'Other ways to reach the token from another process', head, rows, notes }] };
};
