// The files of a campaign: of folders, of single files, and of a list. Invariant: symbolic links are not followed, what the
// campaign itself writes is left out, and one folder's names are in memory.
import { createReadStream } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { CliError } from '../exit-codes.ts';
import { STREAM } from '../files.ts';
import type { Io } from '../io.ts';

/** Begins the name of a new file before it takes the place of the old one. */
export const TEMPORARY_PREFIX = '.mortise-migrate.';

export interface Sources {
  readonly paths: readonly string[];
  /** File with one path a line. */
  readonly list: string | undefined;
  /** Absolute paths that are the campaign's own. */
  readonly own: ReadonlySet<string>;
  /** Suffix of old files that are kept. */
  readonly keptSuffix: string | undefined;
}

async function* walk(path: string, sources: Sources): AsyncGenerator<string> {
  if (sources.own.has(path)) return;
  const found = await lstat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined; // gone since its folder was read
    throw new CliError('failure', `cannot read ${path}: ${cause.message}`, cause);
  });
  if (found?.isFile()) yield path;
  if (!found?.isDirectory()) return;
  for (const name of (await readdir(path)).sort()) {
    const isOld = sources.keptSuffix !== undefined && name.endsWith(sources.keptSuffix);
    if (!name.startsWith(TEMPORARY_PREFIX) && !isOld) yield* walk(join(path, name), sources);
  }
}

const linesOf = async function* (io: Io, list: string): AsyncGenerator<string> {
  const input = list === STREAM ? io.stdin : createReadStream(list);
  try {
    for await (const line of createInterface({ input })) if (line.trim() !== '') yield line.trim();
  } catch (cause) {
    throw new CliError('failure', `cannot read ${list}: ${(cause as Error).message}`, cause);
  }
};

/** Absolute paths, each as often as the sources name it. */
export async function* filesOf(io: Io, sources: Sources): AsyncGenerator<string> {
  for (const path of sources.paths) {
    await lstat(path).catch((cause: Error) => {
      throw new CliError('usage', `cannot read ${path}: ${cause.message}`, cause);
    });
    yield* walk(resolve(path), sources);
  }
  if (sources.list !== undefined)
    for await (const path of linesOf(io, sources.list)) yield* walk(resolve(path), sources);
}
