// A long-running program of the laboratory as a child process, its log in a file. Invariant: neither it nor its children
// outlive us, however we end.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { ROOT } from './lab.ts';
import { within } from './patience.ts';

const TAIL_LINES = 5;

export interface Program extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Resolves with the exit code when it ends, for whatever reason; null where a signal ended it. */
  readonly ended: Promise<number | null>;
  /** SIGTERM, and the wait for the end. */
  stop(): Promise<number | null>;
  /** SIGKILL to it and its children, and the wait for the end. */
  kill(): Promise<void>;
}

export interface ProgramOptions {
  readonly name: string;
  /** Of Node: a program's file and its arguments. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly logFile: string;
}

export const launch = ({ name, args, env, logFile }: ProgramOptions): Program => {
  const log = openSync(logFile, 'a', 0o600);
  const child: ChildProcess = spawn(process.execPath, args, {
    cwd: ROOT,
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', log, log],
    detached: true, // Ctrl-C is for us: we stop it in our own order; and a group of its own can be killed whole
  });
  closeSync(log);
  const pid = child.pid ?? 0;
  const killGroup = (): void => {
    try {
      if (pid > 0) process.kill(-pid, 'SIGKILL');
    } catch {
      // ESRCH: nobody is left
    }
  };
  process.once('exit', killGroup);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('exit', (code) => {
      process.off('exit', killGroup);
      resolve(code);
    });
    child.once('error', reject);
  });
  ended.catch(() => undefined); // whoever needs it awaits it
  const stop = async (): Promise<number | null> => {
    child.kill('SIGTERM');
    try {
      return await within(`${name} ends after SIGTERM`, ended);
    } finally {
      killGroup();
    }
  };
  const kill = async (): Promise<void> => {
    killGroup();
    await within(`${name} ends after SIGKILL`, ended);
  };
  return { name, pid, logFile, ended, stop, kill, [Symbol.asyncDispose]: async () => void (await stop()) };
};

/** Rejects with the end of its log when the program ends. */
export const failedToStart = async ({ name, ended, logFile }: Program): Promise<never> => {
  const code = await ended;
  const lines = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-TAIL_LINES);
  throw new Error(`${name} ended with ${code}; its log is ${logFile} and ends so:\n${lines.join('\n')}`);
};
