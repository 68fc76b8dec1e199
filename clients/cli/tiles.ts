// Makes a folder of C2SP tlog-tiles of a bundle, which any web server can serve. Invariant: the bundle is verified on the
// way, and the folder appears whole, under its name, only where every record is covered by the checkpoint in it.
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type BundleOptions, BundleVerifier, MAX_BUNDLE_LINE } from '../../proto/documents/audit-bundle.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { TileBuilder, type TileFile } from '../../proto/documents/tlog-tiles.ts';

export interface Tiles {
  readonly origin: string;
  /** Records in it; all are covered by its checkpoint. */
  readonly size: number;
}

export interface TileOptions extends BundleOptions {
  /** The log that was asked for. */
  readonly origin?: string;
}

/** The lines of a bundle that comes in pieces; a line beyond the limit ends the reading before it fills the memory. */
export async function* linesIn(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const piece of pieces) {
    rest = Buffer.concat([rest, piece]);
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      yield rest.toString('utf8', 0, end);
      rest = rest.subarray(end + 1);
    }
    if (rest.length > MAX_BUNDLE_LINE) throw new DocumentError('a line is longer than the limit');
  }
  if (rest.length > 0) yield rest.toString('utf8');
}

const place = async (folder: string, { path, bytes }: TileFile): Promise<void> => {
  const file = join(folder, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, bytes);
};

const fill = async (folder: string, lines: AsyncIterable<string>, options: TileOptions): Promise<Tiles> => {
  const verifier = new BundleVerifier(options);
  const builder = new TileBuilder();
  let newest: { readonly checkpoint: string; readonly size: number } | undefined;
  for await (const line of lines) {
    const taken = verifier.line(line);
    if (taken === undefined) continue;
    if ('checkpoint' in taken) newest = { ...taken, size: builder.size };
    else for (const file of builder.add(taken.entry)) await place(folder, file);
  }
  const { logs, findings } = verifier.end();
  const [log] = logs;
  if (findings[0] !== undefined)
    throw new DocumentError(`${findings[0].code} at ${findings[0].index}: ${findings[0].message}`);
  if (log === undefined || logs.length > 1 || log.from > 0) throw new DocumentError('not one log from its beginning');
  if (log.origin !== (options.origin ?? log.origin)) throw new DocumentError(`the log ${log.origin} came in its place`);
  if (newest?.size !== log.size || log.proven !== log.size) {
    throw new DocumentError(`no checkpoint covers all ${log.size} records`);
  }
  for (const file of builder.end()) await place(folder, file);
  await place(folder, { path: 'checkpoint', bytes: Buffer.from(newest.checkpoint) });
  return { origin: log.origin, size: log.size };
};

/** `lines`: a bundle of one log from its beginning to a checkpoint. Rejects with DocumentError where it is none. */
export const writeTiles = async (
  folder: string,
  lines: AsyncIterable<string>,
  options: TileOptions = {},
): Promise<Tiles> => {
  await mkdir(dirname(folder), { recursive: true });
  const part = await mkdtemp(join(dirname(folder), `.${basename(folder)}.`));
  try {
    const tiles = await fill(part, lines, options);
    await rename(part, folder);
    return tiles;
  } catch (cause) {
    await rm(part, { recursive: true, force: true });
    throw cause;
  }
};
