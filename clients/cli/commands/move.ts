// mortise encrypt-general, re-encrypt, rewrap, re-sign and data-key …: several recipients, and from one key to another.
import type { Command } from 'commander';
import type { DataKeyOptions, Recipient } from '../../typescript/index.ts';
import { collect, leaf, parseCount, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import { deliverStream, isContainer, sourceOf } from '../data-streams.ts';
import { CliError } from '../exit-codes.ts';
import {
  DATA_LIMIT,
  encodeBytes,
  JOSE_LIMIT,
  MAX_DATA_BYTES,
  readInput,
  readText,
  refuseExisting,
  STREAM,
  writeFileWhole,
} from '../files.ts';
import { openInput } from '../input.ts';
import { readJwk } from '../public-jwk.ts';
import {
  AAD_LIMIT,
  type AadOptions,
  aadOption,
  associatedData,
  encodingOption,
  type OutOptions,
  outOptions,
  type StreamOptions,
  streamOption,
} from './data.ts';

/** Values that were given; what was not stays away, so that the client's default holds. */
const given = <T extends object>(values: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never;

const recipientsOf = async (
  context: Context,
  keys: readonly string[] = [],
  jwks: readonly string[] = [],
): Promise<readonly Recipient[]> => [
  ...keys.map((key) => ({ key })),
  ...(await Promise.all(jwks.map(async (path) => ({ publicJwk: await readJwk(context.io, path) })))),
];

interface GeneralOptions extends OutOptions, AadOptions {
  readonly key?: readonly string[];
  readonly jwk?: readonly string[];
}

const encryptGeneral = async (context: Context, options: GeneralOptions, input = STREAM): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const recipients = await recipientsOf(context, options.key, options.jwk);
  if (recipients.length === 0) throw new CliError('usage', 'give at least one recipient with --key or --jwk');
  const plaintext = await readInput(context.io, input, DATA_LIMIT);
  const aad = await associatedData(context, options);
  const client = await context.client();
  const { jwe, envelope } = await client.encryptGeneral(recipients, plaintext, { ...context.call, ...aad });
  await context.deliver({ data: jwe, name: 'jwe', envelope }, { ...options, mode: 0o644 });
};

interface MoveOptions extends OutOptions {
  readonly key?: string;
  readonly to?: string;
}

const reEncrypt = async (
  context: Context,
  options: MoveOptions & AadOptions & { readonly newAadFile?: string },
  input = STREAM,
): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const data = await openInput(context.io, input, { limit: JOSE_LIMIT.bytes, mustStream: isContainer });
  const { newAadFile: path } = options;
  const newAssociatedData = path === undefined ? undefined : await readInput(context.io, path, AAD_LIMIT);
  const aad = await associatedData(context, options);
  const keys = given({ sourceKey: options.key, targetKey: options.to, newAssociatedData });
  const client = await context.client();
  const call = { ...context.call, ...aad, ...keys };
  if ('pieces' in data) {
    const stream = client.streams.reEncrypt(sourceOf(context, data), call);
    return deliverStream(context, stream, { ...options, mode: 0o644 });
  }
  const answer = await client.reEncrypt(data.whole.toString('utf8').trim(), call);
  await context.deliver({ data: answer.jwe, name: 'jwe', envelope: answer.envelope }, { ...options, mode: 0o644 });
};

interface RewrapOptions extends OutOptions {
  readonly key?: string;
  readonly addKey?: readonly string[];
  readonly addJwk?: readonly string[];
  readonly remove?: readonly string[];
}

const rewrap = async (context: Context, options: RewrapOptions, input = STREAM): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const jwe = await readText(context.io, input, JOSE_LIMIT);
  const add = await recipientsOf(context, options.addKey, options.addJwk);
  const what = { add, remove: options.remove ?? [], ...given({ sourceKey: options.key }) };
  const answer = await (await context.client()).rewrap(jwe, { ...context.call, ...what });
  await context.deliver({ data: answer.jwe, name: 'jwe', envelope: answer.envelope }, { ...options, mode: 0o644 });
};

const reSign = async (
  context: Context,
  options: MoveOptions & StreamOptions & { readonly message?: string },
  input = STREAM,
): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const { message: path } = options;
  if (path === STREAM && input === STREAM) throw new CliError('usage', 'the JWS and its data need two places');
  const jws = await readText(context.io, input, JOSE_LIMIT);
  const mustStream = (): boolean => options.stream === true;
  const data =
    path === undefined ? undefined : await openInput(context.io, path, { limit: MAX_DATA_BYTES, mustStream });
  const call = { ...context.call, ...given({ sourceKey: options.key, targetKey: options.to }) };
  const client = await context.client();
  const { jws: made, envelope } =
    data !== undefined && 'pieces' in data
      ? await client.streams.reSign(jws, sourceOf(context, data), call)
      : await client.reSign(jws, { ...call, ...given({ message: data?.whole }) });
  await context.deliver({ data: made, name: 'jws', envelope }, { ...options, mode: 0o644 });
};

interface GenerateOptions extends OutOptions, AadOptions {
  readonly key: string;
  readonly length?: number;
  readonly wrappedOnly?: boolean;
  readonly dataKey?: string;
}

/** The key itself goes to a file of its own, for its owner's eyes alone; the wrapped form is public. */
const generateDataKey = async (context: Context, options: GenerateOptions): Promise<void> => {
  const { dataKey: path, wrappedOnly = false } = options;
  if ((path === undefined) !== wrappedOnly) {
    throw new CliError('usage', 'say where the key goes with --data-key FILE, or leave it with --wrapped-only');
  }
  if (path === STREAM && options.out === STREAM)
    throw new CliError('usage', 'the key and its wrapped form need two places');
  await refuseExisting(options.out, options.force);
  if (path !== undefined) await refuseExisting(path, options.force);
  const aad = await associatedData(context, options);
  const client = await context.client();
  const { dataKey, wrappedDataKey, envelope } = await client.generateDataKey(options.key, {
    ...context.call,
    ...aad,
    ...(options.length !== undefined && { length: options.length as NonNullable<DataKeyOptions['length']> }),
    wrappedOnly,
  });
  if (path !== undefined) await writeFileWhole(path, encodeBytes(dataKey, options.encoding ?? 'binary'), options);
  dataKey.fill(0);
  await context.deliver({ data: wrappedDataKey, name: 'wrappedDataKey', envelope }, { ...options, mode: 0o644 });
};

const decryptDataKey = async (
  context: Context,
  options: OutOptions & AadOptions & { readonly key?: string },
  input = STREAM,
): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const wrapped = await readText(context.io, input, JOSE_LIMIT);
  const aad = await associatedData(context, options);
  const what = { ...context.call, ...aad, ...given({ key: options.key }) };
  const { dataKey, envelope } = await (await context.client()).decryptDataKey(wrapped, what);
  await context.deliver({ data: dataKey, name: 'dataKey', envelope }, options);
  dataKey.fill(0);
};

const RE_ENCRYPT_HELP = `
A container of any size is moved while it is read; the plaintext does not leave the agent. With --out the file appears
when all of the old one has proved whole.`;

const sourceAndTarget = (command: Command): Command =>
  command
    .option('--key <key>', 'key to read with (default: the one that the kid names)')
    .option('--to <key>', 'key to write with (default: the same key, its primary version)');

/** Declares the commands on data of this file. */
export const registerMove = (registry: Registry, program: Command): void => {
  leaf(registry, program, 'encrypt-general [file]', 'encrypt to several recipients', encryptGeneral, (command) =>
    outOptions(
      aadOption(
        command
          .option('--key <key>', 'key id of a recipient; may be repeated', collect)
          .option('--jwk <file>', 'file with the public JWK of a recipient; may be repeated', collect),
      ),
    ),
  );
  leaf(
    registry,
    program,
    're-encrypt [file]',
    'move a JWE or a container to another key or version',
    reEncrypt,
    (command) =>
      outOptions(
        aadOption(sourceAndTarget(command)).option('--new-aad-file <file>', 'associated data to bind in its place'),
      ).addHelpText('after', RE_ENCRYPT_HELP),
  );
  leaf(registry, program, 'rewrap [file]', 'change the recipients of a General JSON JWE', rewrap, (command) =>
    outOptions(
      command
        .option('--key <key>', 'key to read with (default: the first recipient that you may use)')
        .option('--add-key <key>', 'key id of a recipient to add; may be repeated', collect)
        .option('--add-jwk <file>', 'file with the public JWK of a recipient to add; may be repeated', collect)
        .option('--remove <kid>', 'kid of a recipient to take out; may be repeated', collect),
    ),
  );
  const dataKey = program.command('data-key').description('keys for encrypting data yourself');
  leaf<GenerateOptions>(
    registry,
    dataKey,
    'generate',
    'make a data key, plain and wrapped',
    generateDataKey,
    (command) =>
      encodingOption(
        outOptions(
          aadOption(
            command
              .requiredOption('--key <key>', 'key id that wraps it')
              .option('--length <bytes>', '16, 24, 32 or 64 (default: 32)', parseCount)
              .option('--data-key <file>', 'where the key itself goes; its wrapped form goes to --out')
              .option('--wrapped-only', 'make the wrapped form alone'),
          ),
        ),
      ),
  );
  leaf(registry, dataKey, 'decrypt [file]', 'unwrap a data key', decryptDataKey, (command) =>
    encodingOption(outOptions(aadOption(command.option('--key <key>', 'it must be under this key')))),
  );
};

/** Declares `re-sign`. */
export const registerReSign = (registry: Registry, program: Command): void => {
  leaf(registry, program, 're-sign [file]', 'verify a JWS and sign it by another key or version', reSign, (command) =>
    outOptions(
      sourceAndTarget(command)
        .option('--message <file>', 'the signed data of a detached JWS')
        .addOption(streamOption('send --message as a stream, as above 2 MiB')),
    ),
  );
};
