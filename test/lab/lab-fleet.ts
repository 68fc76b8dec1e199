// The laboratory with a registry: the registry's program over its embedded store, and hosts that share the laboratory's
// token, each with a data folder and a socket of its own.
import { readFileSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { startAgent } from './agent-process.ts';
import { CLI_PROGRAM, type Lab, socketFolder } from './lab.ts';
import { until } from './patience.ts';
import { failedToStart, launch, type Program } from './program.ts';

export const HOSTS = ['host-a', 'host-b'] as const;
export type HostName = (typeof HOSTS)[number];

export interface Host extends Pick<Lab, 'agentEnv' | 'socketPath'> {
  readonly name: HostName;
}

/** The environment of the registry; init makes it what the folders then hold. */
export const registryEnvironment = ({ folder }: Lab): Record<string, string> => ({
  REGISTRY_AUTHORITY_DIR: join(folder, 'registry/authority'),
  REGISTRY_DATA_DIR: join(folder, 'registry/data'),
  REGISTRY_STORE_MAP_SIZE: String(2 ** 30),
  REGISTRY_REPLICA: 'lab',
  REGISTRY_REQUIRE_HYBRID_TLS: 'yes',
  ...(process.getuid?.() === 0 && { REGISTRY_ALLOW_ROOT: 'yes' }),
});

export interface Registry {
  readonly program: Program;
  readonly port: number;
}

/** The port of a registry that is READY, by what it logged from `offset` on. */
const readyPort = async (logFile: string, offset: number): Promise<number | undefined> => {
  const text = readFileSync(logFile).subarray(offset).toString();
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    if (!line.includes('registry is READY')) continue;
    const { address } = JSON.parse(line) as { address: string };
    return Number(address.split(':').at(-1));
  }
  return undefined;
};

/** `mortise registry serve`, on a port of its choice where none is given; resolves when it is READY. */
export const startRegistry = async (lab: Lab, logFile: string, port = 0): Promise<Registry> => {
  const env = { ...registryEnvironment(lab), REGISTRY_LISTEN_ADDRESS: `127.0.0.1:${port}` };
  const offset = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  const program = launch({ name: 'the registry', args: [CLI_PROGRAM, 'registry', 'serve'], env, logFile });
  try {
    const ready = until('the registry is READY', () => readyPort(logFile, offset));
    return { program, port: await Promise.race([ready, failedToStart(program)]) };
  } catch (error) {
    await program.kill();
    throw error;
  }
};

/** A host of the registry on this port. Its policies come from there, so it has no folder of them. */
export const prepareHost = async (lab: Lab, name: HostName, port: number): Promise<Host> => {
  const folder = join(lab.folder, name);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const sockets = await socketFolder(folder);
  const socketPath = join(sockets, 'agent.sock');
  const { MORTISE_POLICY_DIR: _, ...shared } = lab.agentEnv;
  const own = {
    MORTISE_SOCKET_PATH: socketPath,
    MORTISE_METRICS_ADDRESS: join(sockets, 'metrics.sock'),
    MORTISE_DATA_DIR: join(folder, 'data'),
    MORTISE_HOST_ID: name,
    MORTISE_REGISTRY_URL: `https://localhost:${port}`,
    MORTISE_AUDIT_CHECKPOINT_SECONDS: '1',
  };
  return { name, socketPath, agentEnv: { ...shared, ...own } };
};

/** The host's agent, serving. */
export const startHost = (lab: Lab, host: Host): Promise<Program> =>
  startAgent(host, join(lab.folder, `${host.name}.log`), `the agent of ${host.name}`);
