// Input of any size: held whole where one call takes it, else read piece by piece. Invariant: no more than the limit of
// one call is in memory, and what was read to find that out is not lost.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { CliError } from './exit-codes.ts';
import { STREAM } from './files.ts';
import type { Io } from './io.ts';

/** Data for one call, or for a stream; `size` is known for files. */
export type Input =
  | { readonly whole: Buffer }
  | { readonly pieces: AsyncIterable<Buffer>; readonly size: number | undefined };

const PIECE_BYTES = 240 * 1024; // as the client sends them

const unreadable = (path: string, cause: unknown): CliError =>
  new CliError('failure', `cannot read ${path}: ${(cause as Error).message}`, cause);

async function* readPieces(io: Io, path: string): AsyncGenerator<Buffer> {
  const stream = path === STREAM ? io.stdin : createReadStream(path, { highWaterMark: PIECE_BYTES });
  try {
    for await (const piece of stream as AsyncIterable<Buffer | string>) {
      yield typeof piece === 'string' ? Buffer.from(piece) : piece;
    }
  } catch (cause) {
    throw unreadable(path === STREAM ? 'standard input' : path, cause);
  }
}

const sizeOf = async (path: string): Promise<number | undefined> => {
  if (path === STREAM) return undefined;
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : undefined; // a pipe has no size
  } catch (cause) {
    throw unreadable(path, cause);
  }
};

async function* joined(first: readonly Buffer[], rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  yield* first;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

/** The input; whole where it is not above the limit, unless `mustStream` says of its beginning that it has to be a stream. */
export const openInput = async (
  io: Io,
  path: string,
  options: { readonly limit: number; mustStream(beginning: Buffer): boolean },
): Promise<Input> => {
  const size = await sizeOf(path);
  const pieces = readPieces(io, path);
  const first: Buffer[] = [];
  let bytes = 0;
  for (let next = await pieces.next(); !next.done; next = await pieces.next()) {
    first.push(next.value);
    bytes += next.value.length;
    const isStream = bytes > options.limit || (size ?? 0) > options.limit;
    if (isStream || options.mustStream(first[0] as Buffer)) return { pieces: joined(first, pieces), size };
  }
  const whole = Buffer.concat(first);
  if (!options.mustStream(whole)) return { whole };
  return {
    pieces: joined(
      [whole].filter(({ length }) => length > 0),
      pieces,
    ),
    size,
  };
};
