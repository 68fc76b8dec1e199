// The certificate files of a connection to a receiver, read once at the start.

import { readInput } from '../files.ts';
import type { Io } from '../io.ts';
import { readSecretFile } from './secret-file.ts';

const LIMIT = { bytes: 1024 * 1024, advice: 'certificates are a few kilobytes' };

export interface TlsFiles {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

export const readTlsFiles = async (
  io: Io,
  options: { readonly ca?: string; readonly certificate?: string; readonly privateKey?: string },
): Promise<TlsFiles> => ({
  ...(options.ca !== undefined && { ca: await readInput(io, options.ca, LIMIT) }),
  ...(options.certificate !== undefined && { cert: await readInput(io, options.certificate, LIMIT) }),
  ...(options.privateKey !== undefined && { key: await readSecretFile(options.privateKey) }),
});
