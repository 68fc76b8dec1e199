// The laboratory's agent as a child process: started, waited for until it serves, stopped.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../../clients/typescript/index.ts';
import { AGENT_PROGRAM, type Lab, ROOT } from './lab.ts';

const START_MS = 30_000;

export interface AgentProcess extends AsyncDisposable {
  readonly pid: number;
  /** Resolves with the exit code when the agent ends, for whatever reason. */
  readonly ended: Promise<number | null>;
  /** SIGTERM, and the wait for the end. */
  stop(): Promise<number | null>;
}

/** Starts the agent, its log in `logFile`, and resolves when it serves. */
export const startAgent = async (lab: Lab, logFile: string): Promise<AgentProcess> => {
  const log = openSync(logFile, 'a', 0o600);
  const child: ChildProcess = spawn(process.execPath, [AGENT_PROGRAM], {
    cwd: ROOT,
    env: { PATH: process.env['PATH'], ...lab.agentEnv },
    stdio: ['ignore', log, log],
    detached: true, // Ctrl-C is for us: we stop the agent in our own order
  });
  closeSync(log);
  const ended = new Promise<number | null>((resolve, reject) => child.once('exit', resolve).once('error', reject));
  const stop = (): Promise<number | null> => {
    child.kill('SIGTERM');
    return ended;
  };
  const waiting = new AbortController();
  try {
    await Promise.race([serving(lab, waiting.signal), failedToStart(ended, logFile)]);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    waiting.abort();
  }
  return { pid: child.pid as number, ended, stop, [Symbol.asyncDispose]: async () => void (await stop()) };
};

const TAIL_LINES = 5;

const failedToStart = async (ended: Promise<number | null>, logFile: string): Promise<never> => {
  const code = await ended;
  const lines = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-TAIL_LINES);
  throw new Error(`the agent ended with ${code}; its log is ${logFile} and ends so:\n${lines.join('\n')}`);
};

/** The client waits for the socket and repeats until the agent is there. */
const serving = async (lab: Lab, signal: AbortSignal): Promise<void> => {
  using client = connect({
    socketPath: lab.socketPath,
    deadlineMs: START_MS,
    retry: { maxAttempts: 1000, maxDelayMs: 50 },
  });
  const deadline = Date.now() + START_MS;
  while ((await client.health('', { signal })) !== 'SERVING') {
    if (Date.now() > deadline) throw new Error('the agent answers but does not serve; see "mortise status"');
    await sleep(20, undefined, { signal });
  }
};
