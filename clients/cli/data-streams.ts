// Encrypt, decrypt, sign and verify of data that is too large for one call. Invariant: a file appears only when the
// agent has said that all of it is there.
import { open } from 'node:fs/promises';
import { InvalidArgumentError, Option } from 'commander';
import { CONTAINER_MAGIC } from '../../proto/documents/chunked/layout.ts';
import type {
  ByteRange,
  DataStream,
  LocalChunks,
  ReadAt,
  SignStreamOptions,
  StreamSignature,
} from '../typescript/index.ts';
import type { Context } from './context.ts';
import { CliError } from './exit-codes.ts';
import { STREAM, writeFileBatches, writeStream } from './files.ts';
import type { Input } from './input.ts';
import { envelopeText } from './output.ts';
import { withProgress } from './progress.ts';

type Pieces = Extract<Input, { pieces: object }>;

export const isContainer = (beginning: Buffer): boolean =>
  beginning.subarray(0, CONTAINER_MAGIC.length).equals(CONTAINER_MAGIC);

export const sourceOf = (context: Context, { pieces, size }: Pieces): AsyncIterable<Buffer> =>
  context.json ? pieces : withProgress(context.io, pieces, size);

/** Who encrypts or decrypts the chunks of a container. */
export const localOption = (): Option =>
  new Option('--local <when>', 'work on the chunks here, with the key of this one container')
    .choices(['auto', 'always', 'never'] satisfies LocalChunks[])
    .default('auto');

/** "0-499" is the first 500 bytes, "500-" all after them, as curl has it. */
export const parseRange = (text: string): ByteRange => {
  const [, from = '', to = ''] = /^([0-9]{1,16})-([0-9]{0,16})$/.exec(text) ?? [];
  const offset = Number(from);
  if (from === '' || (to !== '' && Number(to) < offset)) {
    throw new InvalidArgumentError('give the first and the last byte, as in 0-499, or 500- for all from there');
  }
  return to === '' ? { offset } : { offset, length: Number(to) - offset + 1 };
};

/** Reads a container here and there; only a file can be read so. */
export const withReadAt = async (path: string, use: (read: ReadAt) => Promise<void>): Promise<void> => {
  if (path === STREAM)
    throw new CliError('usage', '--range needs a file: it is not read from the beginning to the end');
  const failed = (cause: unknown): CliError =>
    new CliError('failure', `cannot read ${path}: ${(cause as Error).message}`, cause);
  const file = await open(path).catch((cause: unknown) => {
    throw failed(cause);
  });
  try {
    await use(async (position, length) => {
      const buffer = Buffer.alloc(length);
      const { bytesRead } = await file.read(buffer, 0, length, position).catch((cause: unknown) => {
        throw failed(cause);
      });
      return buffer.subarray(0, bytesRead);
    });
  } finally {
    await file.close();
  }
};

/** Sends the bytes of a stream where they belong, and says what did the work. */
export const deliverStream = async (
  context: Context,
  stream: DataStream,
  { out, force, mode }: { readonly out: string; readonly force: boolean; readonly mode?: number },
): Promise<void> => {
  if (out === STREAM) {
    if (context.json) throw new CliError('usage', 'a stream of bytes does not fit into JSON; give --out FILE');
    for await (const pieces of stream.batches()) await writeStream(context.io, Buffer.concat(pieces));
    context.warn(stream.envelope);
    return;
  }
  await writeFileBatches(out, stream.batches(), { force, ...(mode !== undefined && { mode }) });
  context.warn(stream.envelope);
  if (context.json) await context.print({ text: '', json: { out, envelope: stream.envelope, local: stream.isLocal } });
  else context.note(`wrote ${out} (${envelopeText(stream.envelope)}${stream.isLocal ? ', local' : ''})\n`);
};

/** The form as a stream can have it; a JWS that carries its payload cannot. */
export const streamForm = (form: string): NonNullable<SignStreamOptions['form']> => {
  if (form === 'jws') {
    throw new CliError(
      'usage',
      'a JWS that carries so much is not made: take --form jws-detached, jws-unencoded or raw',
    );
  }
  return form as NonNullable<SignStreamOptions['form']>;
};

export const verifyStreamed = async (
  context: Context,
  what: StreamSignature,
  input: Pieces,
  options: { readonly key?: string; readonly keyVersion?: number },
) => {
  const { valid, envelope } = await (await context.client()).streams.verify(what, sourceOf(context, input), {
    ...context.call,
    ...(options.key !== undefined && { key: options.key }),
    ...(options.keyVersion !== undefined && { version: options.keyVersion }),
  });
  return { valid, payload: Buffer.alloc(0), envelope };
};

export const verifyStreamedWith = async (
  context: Context,
  jwk: object | string,
  what: StreamSignature,
  input: Pieces,
) => {
  const { streams } = await context.client();
  const { valid, envelope } = await streams.verifyWith(jwk, what, sourceOf(context, input), context.call);
  return { valid, payload: Buffer.alloc(0), envelope };
};
