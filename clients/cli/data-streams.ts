// Encrypt, decrypt, sign and verify of data that is too large for one call. Invariant: a file appears only when the
// agent has said that all of it is there.
import type { DataStream, SignStreamOptions, StreamSignature } from '../typescript/index.ts';
import type { Context } from './context.ts';
import { CliError } from './exit-codes.ts';
import { STREAM, writeFilePieces, writeStream } from './files.ts';
import type { Input } from './input.ts';
import { envelopeText } from './output.ts';
import { withProgress } from './progress.ts';

type Pieces = Extract<Input, { pieces: object }>;

/** The first bytes of a container (docs/spec/chunked.md). */
const CONTAINER_MAGIC = Buffer.from('4d434501', 'hex');
export const isContainer = (beginning: Buffer): boolean =>
  beginning.subarray(0, CONTAINER_MAGIC.length).equals(CONTAINER_MAGIC);

export const sourceOf = (context: Context, { pieces, size }: Pieces): AsyncIterable<Buffer> =>
  context.json ? pieces : withProgress(context.io, pieces, size);

/** Sends the bytes of a stream where they belong, and says what did the work. */
export const deliverStream = async (
  context: Context,
  stream: DataStream,
  { out, force, mode }: { readonly out: string; readonly force: boolean; readonly mode?: number },
): Promise<void> => {
  if (out === STREAM) {
    if (context.json) throw new CliError('usage', 'a stream of bytes does not fit into JSON; give --out FILE');
    for await (const piece of stream) await writeStream(context.io, piece);
    context.warn(stream.envelope);
    return;
  }
  await writeFilePieces(out, stream, { force, ...(mode !== undefined && { mode }) });
  context.warn(stream.envelope);
  if (context.json) await context.print({ text: '', json: { out, envelope: stream.envelope } });
  else context.note(`wrote ${out} (${envelopeText(stream.envelope)})\n`);
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
