// Runs the agent program for what needs the token itself: its configuration and PIN are the agent's, so this is for the
// agent's user on the agent's host.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Context } from './context.ts';
import { CliError, type Exit } from './exit-codes.ts';

const CHECKOUT_PROGRAM = join(import.meta.dirname, '../../agent/main.ts');

/** The agent's exit codes (docs/operations.md) as ours; what is absent is `failure`. */
const EXIT_OF: Readonly<Record<number, Exit>> = { 0: 'ok', 2: 'negative', 64: 'usage' };

/** Runs `agent/main.ts ARGS` on this terminal. */
export const runAgentProgram = async (context: Context, args: readonly string[]): Promise<Exit> => {
  const { signal } = context.io;
  // Our own variables are not the agent's: its doctor would call them misspelt.
  const { MORTISE_SOCKET: _socket, MORTISE_TOKEN_FILE: _file, MORTISE_AGENT_PROGRAM: named, ...env } = context.io.env;
  const program = named || CHECKOUT_PROGRAM;
  if (!existsSync(program)) {
    throw new CliError('failure', `no agent program at ${program}; name it with $MORTISE_AGENT_PROGRAM`);
  }
  const child = spawn(process.execPath, [program, ...args], { stdio: 'inherit', env, signal });
  const code = await new Promise<number | null>((resolve, reject) => child.once('error', reject).once('exit', resolve));
  return EXIT_OF[code ?? -1] ?? 'failure';
};
