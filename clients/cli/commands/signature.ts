// mortise sign, verify, verify-with: signatures as JWS and as bare bytes.
import { type Command, Option } from 'commander';
import type { SignatureForm, SignatureToVerify, StreamSignature, Verification } from '../../typescript/index.ts';
import { digestHelp } from '../algorithm-help.ts';
import { leaf, parseCount, parseHex, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import { sourceOf, streamForm, verifyStreamed, verifyStreamedWith } from '../data-streams.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import {
  decodeBytes,
  type Encoding,
  encodingFor,
  JOSE_LIMIT,
  MAX_DATA_BYTES,
  MESSAGE_LIMIT,
  readInput,
  readText,
  refuseExisting,
  writeFileWhole,
} from '../files.ts';
import { openInput } from '../input.ts';
import { envelopeText } from '../output.ts';
import { readPublicKey } from '../public-jwk.ts';
import { encodingOption, type OutOptions, outOptions, type StreamOptions, streamOption } from './data.ts';

interface SignOptions extends OutOptions, StreamOptions {
  readonly key: string;
  readonly form: SignatureForm;
  readonly type?: string;
  readonly digest?: Buffer;
  readonly context?: Buffer;
}

const signInput = async (context: Context, options: SignOptions, path: string) => {
  const { key, digest, form, type, context: string } = options;
  const call = {
    ...context.call,
    ...(type !== undefined && { type }),
    ...(string !== undefined && { context: string }),
  };
  if (digest !== undefined) return (await context.client()).sign(key, { digest }, { ...call, form });
  const mustStream = (): boolean => options.stream === true;
  const input = await openInput(context.io, path, { limit: MAX_DATA_BYTES, mustStream });
  if ('whole' in input) return (await context.client()).sign(key, { message: input.whole }, { ...call, form });
  const streamed = streamForm(form);
  return (await context.client()).streams.sign(key, sourceOf(context, input), { ...call, form: streamed });
};

const sign = async (context: Context, options: SignOptions, input?: string): Promise<void> => {
  await refuseExisting(options.out, options.force);
  if (options.digest !== undefined && (input !== undefined || options.form !== 'raw')) {
    throw new CliError('usage', '--digest stands in place of a file and needs --form raw');
  }
  if (options.context !== undefined && options.form !== 'raw') {
    throw new CliError('usage', '--context needs --form raw: JOSE signs with an empty one');
  }
  const { jws, signature, envelope } = await signInput(context, options, input ?? '-');
  const result =
    options.form === 'raw' ? { data: signature, name: 'signature', envelope } : { data: jws, name: 'jws', envelope };
  await context.deliver(result, { ...options, mode: 0o644 });
};

interface VerifyOptions {
  readonly message?: string;
  readonly digest?: Buffer;
  readonly raw?: boolean;
  readonly context?: Buffer;
  readonly encoding?: Encoding;
  readonly payload?: string;
  readonly force: boolean;
}

const refuseContext = ({ context }: VerifyOptions): void => {
  if (context !== undefined) throw new CliError('usage', '--context goes with --raw only');
};

const contextOf = ({ context }: VerifyOptions) => context && { context };

/** The signature, where its data has to be a stream. */
const signatureOfStream = async (context: Context, options: VerifyOptions, file: string): Promise<StreamSignature> => {
  if (options.digest !== undefined) throw new CliError('usage', 'give either --message FILE or --digest HEX');
  if (!options.raw) {
    refuseContext(options);
    return { jws: await readText(context.io, file, JOSE_LIMIT) };
  }
  const raw = decodeBytes(await readInput(context.io, file, JOSE_LIMIT), encodingFor(file, options.encoding), file);
  return { raw, ...contextOf(options) };
};

/** The signed data, where it is given. */
const openMessage = async (context: Context, { message, stream }: VerifyOptions & StreamOptions) => {
  if (message === undefined) return undefined;
  return openInput(context.io, message, { limit: MAX_DATA_BYTES, mustStream: () => stream === true });
};

const toVerify = async (
  context: Context,
  options: VerifyOptions,
  file: string,
  given?: Buffer,
): Promise<SignatureToVerify> => {
  const { io } = context;
  const message =
    given ?? (options.message === undefined ? undefined : await readInput(io, options.message, MESSAGE_LIMIT));
  if (!options.raw) {
    if (options.digest !== undefined) throw new CliError('usage', '--digest goes with --raw only');
    refuseContext(options);
    return { jws: await readText(io, file, JOSE_LIMIT), ...(message && { message }) };
  }
  const raw = decodeBytes(await readInput(io, file, JOSE_LIMIT), encodingFor(file, options.encoding), file);
  if (options.digest !== undefined && message === undefined)
    return { raw, digest: options.digest, ...contextOf(options) };
  if (message !== undefined && options.digest === undefined) return { raw, message, ...contextOf(options) };
  throw new CliError('usage', 'a raw signature needs the signed data: either --message FILE or --digest HEX');
};

const report = async (context: Context, verification: Verification, options: VerifyOptions): Promise<Exit> => {
  const { valid, payload, envelope } = verification;
  context.warn(envelope);
  if (valid && options.payload !== undefined) await writeFileWhole(options.payload, payload, options);
  const text = valid ? `valid (${envelopeText(envelope)})\n` : 'INVALID: not a signature of this data by this key\n';
  await context.print({ text, json: { valid, ...(valid && payload.length > 0 && { payload }), envelope } });
  return valid ? 'ok' : 'negative';
};

const verify = async (
  context: Context,
  options: VerifyOptions & StreamOptions & { readonly key?: string; readonly keyVersion?: number },
  file = '-',
): Promise<Exit> => {
  if (options.payload !== undefined) await refuseExisting(options.payload, options.force);
  const input = await openMessage(context, options);
  if (input !== undefined && 'pieces' in input) {
    const signature = await signatureOfStream(context, options, file);
    return report(context, await verifyStreamed(context, signature, input, options), options);
  }
  const what = await toVerify(context, options, file, input?.whole);
  const client = await context.client();
  const verification = await client.verify(what, {
    ...context.call,
    ...(options.key !== undefined && { key: options.key }),
    ...(options.keyVersion !== undefined && { version: options.keyVersion }),
  });
  return report(context, verification, options);
};

const verifyWith = async (
  context: Context,
  options: VerifyOptions & StreamOptions & { readonly jwk: string },
  file = '-',
): Promise<Exit> => {
  if (options.payload !== undefined) await refuseExisting(options.payload, options.force);
  const jwk = await readPublicKey(context.io, options.jwk);
  const input = await openMessage(context, options);
  if (input !== undefined && 'pieces' in input) {
    const signature = await signatureOfStream(context, options, file);
    return report(context, await verifyStreamedWith(context, jwk, signature, input), options);
  }
  const what = await toVerify(context, options, file, input?.whole);
  return report(context, await (await context.client()).verifyWith(jwk, what, context.call), options);
};

const verifyOptions = (command: Command): Command =>
  encodingOption(
    command
      .option('--message <file>', 'the signed data, where the signature does not carry it')
      .option('--raw', 'the signature is bare bytes, not a JWS')
      .option('--digest <hex>', 'digest of the signed data; with --raw', parseHex)
      .option('--context <hex>', 'context string that it was signed under; with --raw', parseHex)
      .option('--payload <file>', "write a valid JWS's payload to this file")
      .option('--force', 'replace an existing file', false),
  );

/** Declares the commands of this file. */
export const registerSignature = (registry: Registry, program: Command): void => {
  leaf<SignOptions>(registry, program, 'sign [file]', 'sign a file or standard input', sign, (command) =>
    encodingOption(
      outOptions(
        command
          .requiredOption('--key <key>', 'key id')
          .addOption(
            new Option('--form <form>', 'form of the signature')
              .choices(['jws', 'jws-detached', 'jws-unencoded', 'raw'])
              .default('jws'),
          )
          .option('--type <typ>', 'protected header "typ" of a JWS')
          .addOption(streamOption('sign as a stream, as data above 2 MiB; not with --form jws'))
          .option('--digest <hex>', 'sign this digest; with --form raw, and only what signs digests', parseHex)
          .option('--context <hex>', 'context string; with --form raw and ML-DSA, SLH-DSA or a composite', parseHex)
          .addHelpText('after', digestHelp()),
      ),
    ),
  );
  leaf(registry, program, 'verify [signature-file]', 'verify a signature', verify, (command) =>
    verifyOptions(
      command
        .option('--key <key>', 'key id (default: the one that the JWS names)')
        .option('--key-version <n>', 'version that made a raw signature (default: primary)', parseCount)
        .addOption(streamOption('verify --message as a stream, as above 2 MiB')),
    ),
  );
  leaf(
    registry,
    program,
    'verify-with [signature-file]',
    "verify against somebody's public key",
    verifyWith,
    (command) =>
      verifyOptions(
        command
          .requiredOption('--jwk <file>', 'file with the public key, a JWK or PEM')
          .addOption(streamOption('verify --message as a stream, as above 2 MiB')),
      ),
  );
};
