// Builds shim.c, a PKCS#11 library over SoftHSM that hangs, crashes or lies on demand.
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { SoftHsm } from './softhsm.ts';

export interface Shim {
  readonly library: string;
  /** Gives an order, as shim.c describes. */
  order(name: 'sign' | 'generate' | 'sessions' | 'login' | 'weak' | 'stubborn' | 'calls', what?: string): Promise<void>;
  withdraw(name: string): Promise<void>;
  /** The calls noted since the order `calls`. */
  calls(): Promise<string[]>;
}

export const makeShim = async (hsm: SoftHsm): Promise<Shim> => {
  const control = join(hsm.folder, 'control');
  const library = join(hsm.folder, 'shim.so');
  await mkdir(control, { recursive: true });
  await promisify(execFile)('gcc', [
    '-shared',
    '-fPIC',
    '-O1',
    `-DCONTROL="${control}"`,
    `-DREAL="${hsm.library}"`,
    '-o',
    library,
    join(import.meta.dirname, 'shim.c'),
    '-ldl',
  ]);
  return {
    library,
    order: (name, what = '') => writeFile(join(control, name), what),
    withdraw: (name) => rm(join(control, name), { force: true }),
    calls: async () => (await readFile(join(control, 'calls'), 'utf8')).split('\n').filter(Boolean),
  };
};
