// A secret of the receiver in a file that others cannot read.
import { open } from 'node:fs/promises';
import { CliError } from '../exit-codes.ts';

const MAX_BYTES = 64 * 1024;

/** Refuses a file that is open to others: whoever reads it can write to the SIEM, or read there. */
export const readSecretFile = async (path: string): Promise<Buffer> => {
  try {
    await using file = await open(path, 'r');
    const { mode, size } = await file.stat();
    if ((mode & 0o077) !== 0) throw new CliError('failure', `${path} can be read by others; chmod 0600 ${path}`);
    if (size > MAX_BYTES) throw new CliError('failure', `${path} is too large for a secret`);
    return await file.readFile();
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    throw new CliError('failure', `cannot read ${path}: ${(cause as Error).message}`, cause);
  }
};
