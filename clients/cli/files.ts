// Files and streams of a command. Invariants: input is bounded before it is read whole, and a file that is written
// appears complete under its name or not at all, with mode 0600 unless it is public.
import { randomBytes } from 'node:crypto';
import { type FileHandle, link, open, readFile, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CliError } from './exit-codes.ts';
import type { Io } from './io.ts';

/** "-" is standard input or output. */
export const STREAM = '-';
/** Most data of one call (crypto.proto). */
export const MAX_DATA_BYTES = 2 * 1024 * 1024;
/** Most bytes of a JWE or JWS (crypto.proto). */
export const MAX_JOSE_BYTES = 3 * 1024 * 1024;
export const MAX_ASSOCIATED_DATA_BYTES = 16 * 1024;
export const MAX_DOCUMENT_BYTES = 1024 * 1024;

export interface InputLimit {
  readonly bytes: number;
  /** What to do where the input is larger. */
  readonly advice: string;
}

export const DATA_LIMIT: InputLimit = {
  bytes: MAX_DATA_BYTES,
  advice: 'split it, or encrypt it with a random key of its own ("mortise random 32") and encrypt that key here',
};
export const MESSAGE_LIMIT: InputLimit = {
  bytes: MAX_DATA_BYTES,
  advice: 'hash it and sign the digest: --form raw --digest HEX',
};
export const JOSE_LIMIT: InputLimit = { bytes: MAX_JOSE_BYTES, advice: 'no JWE or JWS of the agent is so large' };

const tooLarge = (name: string, limit: InputLimit): CliError =>
  new CliError('usage', `${name} is larger than the limit of ${limit.bytes} bytes; ${limit.advice}`);

const readStream = async (io: Io, limit: InputLimit): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of io.stdin as AsyncIterable<Buffer | string>) {
    const bytes = Buffer.from(chunk as Buffer);
    length += bytes.length;
    if (length > limit.bytes) throw tooLarge('standard input', limit);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
};

/** The bytes of a file, or of standard input for "-". */
export const readInput = async (io: Io, path: string, limit: InputLimit): Promise<Buffer> => {
  if (path === STREAM) return readStream(io, limit);
  try {
    const { size } = await stat(path);
    if (size > limit.bytes) throw tooLarge(path, limit);
    return await readFile(path);
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    throw new CliError('failure', `cannot read ${path}: ${(cause as Error).message}`, cause);
  }
};

export const readText = async (io: Io, path: string, limit: InputLimit): Promise<string> =>
  (await readInput(io, path, limit)).toString('utf8').trim();

export interface WriteOptions {
  /** Replace an existing file. */
  readonly force: boolean;
  readonly mode?: number;
}

/** Refuses early, before work is done, what writeFileWhole would refuse at the end. */
export const refuseExisting = async (path: string, force: boolean): Promise<void> => {
  if (path === STREAM || force) return;
  const exists = await stat(path).then(
    () => true,
    () => false,
  );
  if (exists) throw new CliError('usage', `${path} exists; --force replaces it`);
};

/** Writes beside the target, then moves it there in one step: without `force` an existing file wins every race. */
const place = async (path: string, options: WriteOptions, fill: (file: FileHandle) => Promise<void>): Promise<void> => {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.part`);
  try {
    const file = await open(temporary, 'wx', options.mode ?? 0o600);
    try {
      await fill(file);
      await file.sync();
    } finally {
      await file.close();
    }
    if (options.force) await rename(temporary, path);
    else await link(temporary, path);
  } finally {
    await unlink(temporary).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error; // renamed away, or never made
    });
  }
};

const cannotWrite = (path: string, cause: unknown): CliError =>
  (cause as NodeJS.ErrnoException).code === 'EEXIST'
    ? new CliError('usage', `${path} exists; --force replaces it`, cause)
    : new CliError('failure', `cannot write ${path}: ${(cause as Error).message}`, cause);

export const writeFileWhole = async (path: string, data: Uint8Array | string, options: WriteOptions): Promise<void> => {
  try {
    await place(path, options, (file) => file.writeFile(data));
  } catch (cause) {
    throw cannotWrite(path, cause);
  }
};

/** A file out of a source; where the source fails, no file appears and its error is the answer. */
const placeFrom = async <T>(
  path: string,
  source: AsyncIterable<T>,
  options: WriteOptions,
  fill: (file: FileHandle, source: AsyncIterable<T>) => Promise<void>,
): Promise<void> => {
  let failure: unknown;
  const watched = async function* (): AsyncGenerator<T> {
    try {
      yield* source;
    } catch (thrown) {
      failure = thrown;
      throw thrown;
    }
  };
  try {
    await place(path, options, (file) => fill(file, watched()));
  } catch (cause) {
    throw failure ?? cannotWrite(path, cause);
  }
};

/** The same as writeFileWhole, piece by piece. */
export const writeFilePieces = (
  path: string,
  pieces: AsyncIterable<Uint8Array>,
  options: WriteOptions,
): Promise<void> => placeFrom(path, pieces, options, (file, all) => file.writeFile(all));

const writeAll = async (file: FileHandle, pieces: readonly Buffer[]): Promise<void> => {
  const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
  const { bytesWritten } = await file.writev(pieces);
  // From where it stopped; a full disk says so now.
  if (bytesWritten < bytes) await file.writeFile(Buffer.concat(pieces).subarray(bytesWritten));
};

/** Many pieces at a time; the next ones are made while the last ones are written. */
export const writeFileBatches = (
  path: string,
  batches: AsyncIterable<readonly Buffer[]>,
  options: WriteOptions,
): Promise<void> =>
  placeFrom(path, batches, options, async (file, all) => {
    let written = Promise.resolve();
    for await (const pieces of all) {
      await written;
      written = writeAll(file, pieces);
      written.catch(() => undefined); // told by the await
    }
    await written;
  });

/** Writes to standard output and waits until it is taken. A reader that has gone, as `head` does, wants no more. */
export const writeStream = (io: Io, data: Uint8Array | string): Promise<void> =>
  new Promise((resolve, reject) => {
    io.stdout.write(data, (error) => {
      if (error && (error as NodeJS.ErrnoException).code !== 'EPIPE')
        reject(new CliError('failure', `cannot write to standard output: ${error.message}`, error));
      else resolve();
    });
  });

/** How bytes are written where they are not text. */
export type Encoding = 'binary' | 'base64url' | 'hex';

/** Bytes in files are bytes; on standard output, where people look, they are base64url. */
export const encodingFor = (path: string, encoding: Encoding | undefined): Encoding =>
  encoding ?? (path === STREAM ? 'base64url' : 'binary');

export const encodeBytes = (bytes: Buffer, encoding: Encoding): Buffer | string =>
  encoding === 'binary' ? bytes : `${bytes.toString(encoding)}\n`;

export const decodeBytes = (bytes: Buffer, encoding: Encoding, name: string): Buffer => {
  if (encoding === 'binary') return bytes;
  const text = bytes.toString('latin1').trim();
  const decoded = Buffer.from(text, encoding);
  if (decoded.toString(encoding) !== text.replace(/=+$/, '').toLowerCase() && decoded.toString(encoding) !== text) {
    throw new CliError('usage', `${name} is not ${encoding}`);
  }
  return decoded;
};
