// mortise encrypt, decrypt, encrypt-to, mac, verify-mac, random: operations on data.
import { type Command, Option } from 'commander';
import type { ByteRange, LocalChunks } from '../../typescript/index.ts';
import { leaf, parseCount, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import { deliverStream, isContainer, localOption, parseRange, sourceOf, withReadAt } from '../data-streams.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import {
  DATA_LIMIT,
  decodeBytes,
  type Encoding,
  encodingFor,
  MAX_ASSOCIATED_DATA_BYTES,
  MAX_DATA_BYTES,
  MAX_JOSE_BYTES,
  readInput,
  refuseExisting,
  writeFileWhole,
  writeStream,
} from '../files.ts';
import { openInput } from '../input.ts';
import { envelopeText } from '../output.ts';
import { readPublicKey } from '../public-jwk.ts';

export interface OutOptions {
  readonly out: string;
  readonly force: boolean;
  readonly encoding?: Encoding;
}
export interface AadOptions {
  readonly aadFile?: string;
}

export const AAD_LIMIT = {
  bytes: MAX_ASSOCIATED_DATA_BYTES,
  advice: 'associated data is a name or a hash, not a document',
};

export const associatedData = async (
  context: Context,
  { aadFile }: AadOptions,
): Promise<{ associatedData?: Buffer }> =>
  aadFile === undefined ? {} : { associatedData: await readInput(context.io, aadFile, AAD_LIMIT) };

export interface StreamOptions {
  readonly stream?: boolean;
}
interface LocalOptions {
  readonly local: LocalChunks;
}

const encrypt = async (
  context: Context,
  options: OutOptions & AadOptions & StreamOptions & LocalOptions & { readonly key: string },
  path = '-',
): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const { local } = options;
  const mustStream = (): boolean => options.stream === true || local === 'always';
  const input = await openInput(context.io, path, { limit: MAX_DATA_BYTES, mustStream });
  const aad = await associatedData(context, options);
  const client = await context.client();
  const call = { ...context.call, ...aad };
  if ('pieces' in input) {
    const stream = client.streams.encrypt(options.key, sourceOf(context, input), { ...call, local });
    return deliverStream(context, stream, { ...options, mode: 0o644 });
  }
  const { jwe, envelope } = await client.encrypt(options.key, input.whole, call);
  await context.deliver({ data: jwe, name: 'jwe', envelope }, { ...options, mode: 0o644 });
};

const encryptTo = async (
  context: Context,
  options: OutOptions & AadOptions & { readonly jwk: string },
  input = '-',
): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const jwk = await readPublicKey(context.io, options.jwk);
  const plaintext = await readInput(context.io, input, DATA_LIMIT);
  const aad = await associatedData(context, options);
  const { jwe, envelope } = await (await context.client()).encryptTo(jwk, plaintext, { ...context.call, ...aad });
  await context.deliver({ data: jwe, name: 'jwe', envelope }, { ...options, mode: 0o644 });
};

const decryptRange = async (
  context: Context,
  options: OutOptions & AadOptions & { readonly key?: string; readonly range: ByteRange },
  path: string,
): Promise<void> => {
  const aad = await associatedData(context, options);
  const call = { ...context.call, ...aad, ...(options.key !== undefined && { key: options.key }) };
  const client = await context.client();
  await withReadAt(path, (read) =>
    deliverStream(context, client.streams.decryptRange(read, options.range, call), options),
  );
};

/** Plaintext goes out as it is; a file appears only once it is whole. */
const decrypt = async (
  context: Context,
  options: OutOptions & AadOptions & LocalOptions & { readonly key?: string; readonly range?: ByteRange },
  path = '-',
): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const { local } = options;
  if (options.range !== undefined && local === 'always')
    throw new CliError('usage', 'a range is decrypted by the agent: not with --local always');
  if (options.range !== undefined) return decryptRange(context, { ...options, range: options.range }, path);
  const input = await openInput(context.io, path, { limit: MAX_JOSE_BYTES, mustStream: isContainer });
  const aad = await associatedData(context, options);
  const call = { ...context.call, ...aad, ...(options.key !== undefined && { key: options.key }) };
  const client = await context.client();
  if ('pieces' in input) {
    return deliverStream(context, client.streams.decrypt(sourceOf(context, input), { ...call, local }), options);
  }
  if (local === 'always') throw new CliError('usage', 'a JWE is decrypted by the agent: not with --local always');
  const { plaintext, envelope } = await client.decrypt(input.whole.toString('utf8').trim(), call);
  context.warn(envelope);
  const toStream = options.out === '-';
  if (!toStream) await writeFileWhole(options.out, plaintext, { force: options.force });
  if (context.json)
    await context.print({ text: '', json: { ...(toStream ? { plaintext } : { out: options.out }), envelope } });
  else if (toStream) await writeStream(context.io, plaintext);
  else context.note(`wrote ${options.out} (${envelopeText(envelope)})\n`);
  plaintext.fill(0);
};

/** The token takes the message of a MAC whole. */
const MAC_LIMIT = { bytes: 1024 * 1024, advice: 'hash it and make the MAC of the digest' };

const mac = async (context: Context, options: OutOptions & { readonly key: string }, input = '-'): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const message = await readInput(context.io, input, MAC_LIMIT);
  const answer = await (await context.client()).mac(options.key, message, context.call);
  await context.deliver({ data: answer.mac, name: 'mac', envelope: answer.envelope }, { ...options, mode: 0o644 });
};

interface VerifyMacOptions {
  readonly key: string;
  readonly mac?: string;
  readonly macText?: string;
  readonly encoding?: Encoding;
  readonly keyVersion?: number;
}

const macBytes = async (context: Context, options: VerifyMacOptions): Promise<Buffer> => {
  if ((options.mac === undefined) === (options.macText === undefined)) {
    throw new CliError('usage', 'give the MAC with either --mac FILE or --mac-text BASE64URL');
  }
  if (options.macText !== undefined) return decodeBytes(Buffer.from(options.macText), 'base64url', '--mac-text');
  const path = options.mac as string;
  return decodeBytes(await readInput(context.io, path, MAC_LIMIT), encodingFor(path, options.encoding), path);
};

const verifyMac = async (context: Context, options: VerifyMacOptions, input = '-'): Promise<Exit> => {
  const expected = await macBytes(context, options);
  const message = await readInput(context.io, input, MAC_LIMIT);
  const { valid, envelope } = await (await context.client()).verifyMac(options.key, message, expected, {
    ...context.call,
    ...(options.keyVersion !== undefined && { version: options.keyVersion }),
  });
  context.warn(envelope);
  const text = valid ? `valid (${envelopeText(envelope)})\n` : 'INVALID: not the MAC of this message by this key\n';
  await context.print({ text, json: { valid, envelope } });
  return valid ? 'ok' : 'negative';
};

const random = async (context: Context, options: OutOptions, length: string): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const count = parseCount(length);
  const bytes = await (await context.client()).generateRandom(count, context.call);
  await context.deliver({ data: bytes, name: 'random' }, options);
};

export const aadOption = (command: Command): Command =>
  command.option('--aad-file <file>', 'associated data: bound into the ciphertext, not carried in it');

export const outOptions = (command: Command): Command =>
  command
    .option('--out <file>', 'write to this file, complete or not at all ("-": standard output)', '-')
    .option('--force', 'replace an existing file', false);

export const encodingOption = (command: Command): Command =>
  command.addOption(
    new Option('--encoding <encoding>', 'of bytes (default: binary in files, base64url on streams)').choices([
      'binary',
      'base64url',
      'hex',
    ]),
  );

export const streamOption = (meaning: string): Option => new Option('--stream', meaning);

const ENCRYPT_HELP = `
Up to 2 MiB become a Compact JWE, more a container that is made while the data is read. With --out the file appears
when it is whole. On standard output a failure leaves the beginning of a container, which nobody can decrypt to its end.`;
const DECRYPT_HELP = `
With --out the file appears when all of the ciphertext has proved whole. On standard output each piece is authentic, but
that nothing was cut off is known only at the end: unless the exit code is 0, throw away what came.`;

/** Declares the commands of this file. */
export const registerData = (registry: Registry, program: Command): void => {
  const keyOption = (command: Command): Command => command.requiredOption('--key <key>', 'key id');
  leaf(registry, program, 'encrypt [file]', 'encrypt a file or standard input of any size', encrypt, (command) =>
    outOptions(aadOption(keyOption(command)))
      .addOption(streamOption('make a container, as for data above 2 MiB, and no JWE'))
      .addOption(localOption())
      .addHelpText('after', ENCRYPT_HELP),
  );
  leaf(
    registry,
    program,
    'decrypt [file]',
    'decrypt a JWE or a container; a failure leaves no file',
    decrypt,
    (command) =>
      outOptions(aadOption(command.option('--key <key>', 'the ciphertext must be under this key')))
        .option(
          '--range <bytes>',
          'only these bytes of a container: 0-499 are the first 500, 500- is the rest',
          parseRange,
        )
        .addOption(localOption())
        .addHelpText('after', DECRYPT_HELP),
  );
  leaf(registry, program, 'encrypt-to [file]', "encrypt to somebody's public JWK", encryptTo, (command) =>
    outOptions(aadOption(command.requiredOption('--jwk <file>', 'file with the public key, a JWK or PEM'))),
  );
  leaf(registry, program, 'mac [file]', 'compute an HMAC', mac, (command) =>
    encodingOption(outOptions(keyOption(command))),
  );
  leaf(registry, program, 'verify-mac [file]', 'verify an HMAC', verifyMac, (command) =>
    encodingOption(
      keyOption(command)
        .option('--mac <file>', 'file with the MAC')
        .option('--mac-text <base64url>', 'the MAC itself')
        .option('--key-version <n>', 'version that made the MAC (default: primary)', parseCount),
    ),
  );
  leaf(registry, program, 'random <length>', 'random bytes from the token, 1 to 65536', random, (command) =>
    encodingOption(outOptions(command)),
  );
};
