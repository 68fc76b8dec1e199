// Runs the registry program: its configuration and keys are the registry's, so this is for its user on its host.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';

const CHECKOUT_PROGRAM = join(import.meta.dirname, '../../../registry/main.ts');
const EXIT_OF: Readonly<Record<number, Exit>> = { 0: 'ok', 64: 'usage' };

/** Runs `registry/main.ts ARGS` on this terminal. */
export const runRegistryProgram = async (context: Context, args: readonly string[]): Promise<Exit> => {
  const { signal } = context.io;
  const { MORTISE_REGISTRY_PROGRAM: named, ...env } = context.io.env;
  const program = named || CHECKOUT_PROGRAM;
  if (!existsSync(program)) {
    throw new CliError('failure', `no registry program at ${program}; name it with $MORTISE_REGISTRY_PROGRAM`);
  }
  const child = spawn(process.execPath, [program, ...args], { stdio: 'inherit', env });
  const stop = (): void => void child.kill('SIGTERM'); // it drains, then ends by itself
  signal.addEventListener('abort', stop, { once: true });
  const code = await new Promise<number | null>((resolve, reject) => child.once('error', reject).once('exit', resolve));
  return EXIT_OF[code ?? -1] ?? 'failure';
};
