// An agent of the laboratory as a child process: started, waited for until it serves, stopped.
import { connect } from '../../clients/typescript/index.ts';
import { AGENT_PROGRAM, type Lab } from './lab.ts';
import { PATIENCE_MS, until } from './patience.ts';
import { failedToStart, launch, type Program } from './program.ts';

/** Starts the agent, its log in `logFile`, and resolves when it serves. */
export const startAgent = async (
  agent: Pick<Lab, 'agentEnv' | 'socketPath'>,
  logFile: string,
  name = 'the agent',
): Promise<Program> => {
  const program = launch({ name, args: [AGENT_PROGRAM], env: agent.agentEnv, logFile });
  const waiting = new AbortController();
  try {
    await Promise.race([serving(agent.socketPath, name, waiting.signal), failedToStart(program)]);
  } catch (error) {
    await program.kill();
    throw error;
  } finally {
    waiting.abort();
  }
  return program;
};

/** The client waits for the socket and repeats until the agent is there. */
const serving = async (socketPath: string, name: string, signal: AbortSignal): Promise<void> => {
  using client = connect({ socketPath, deadlineMs: PATIENCE_MS, retry: { maxAttempts: 1000, maxDelayMs: 50 } });
  await until(
    `${name} answers and serves; see "mortise status"`,
    async () => {
      signal.throwIfAborted();
      return (await client.health('', { signal })) === 'SERVING' ? true : undefined;
    },
    { everyMs: 20 },
  );
};
