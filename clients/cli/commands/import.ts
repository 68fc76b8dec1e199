// mortise key import-key, key import: key material that was made elsewhere, encrypted here to a key of the agent's token.
import { type Command, Option } from 'commander';
import type { Purpose } from '../../typescript/index.ts';
import { leaf, parseCount, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { readInput, readText, refuseExisting } from '../files.ts';
import { keyText } from '../key-text.ts';
import { type AttributeOptions, attributeOptions, attributesOf, purposeOption } from './key.ts';

const MATERIAL_LIMIT = { bytes: 16 * 1024, advice: 'a JWK or the bytes of a key are much smaller' };
const WRAPPED_LIMIT = { bytes: 32 * 1024, advice: 'a wrapped key is much smaller' };

interface MaterialOptions {
  readonly algorithm: string;
  readonly jose?: string;
  readonly file?: string;
  readonly wrapped?: string;
}

interface ImportOptions extends MaterialOptions, AttributeOptions {
  readonly purpose: Purpose;
}

interface VersionOptions extends MaterialOptions {
  readonly expectVersion?: number;
  readonly acceptLoss?: boolean;
}

/** A JWK, or anything else as the bytes of a key. */
const isJwk = (material: Buffer): boolean => {
  try {
    return typeof (JSON.parse(material.toString('utf8')) as { kty?: unknown } | null)?.kty === 'string';
  } catch {
    return false; // bytes of a key
  }
};

const wrap = async (context: Context, path: string): Promise<string> => {
  const material = await readInput(context.io, path, MATERIAL_LIMIT);
  const { publicJwk } = await (await context.client()).keys.importKey(context.call);
  const { CompactEncrypt, importJWK } = await import('jose');
  const { alg = '', kid = '' } = publicJwk;
  const cty = isJwk(material) ? { cty: 'jwk+json' } : {};
  try {
    const encrypt = new CompactEncrypt(material).setProtectedHeader({ alg, enc: 'A256GCM', kid, ...cty });
    return await encrypt.encrypt(await importJWK({ ...publicJwk, kty: publicJwk['kty'] as string }, alg));
  } finally {
    material.fill(0);
  }
};

/** What both imports are given of the material. */
const materialOf = async (context: Context, options: MaterialOptions) => {
  const { file, wrapped, algorithm, jose } = options;
  if ((file === undefined) === (wrapped === undefined)) {
    throw new CliError('usage', 'give the key with either --file FILE or --wrapped FILE');
  }
  const wrappedKey =
    file === undefined ? await readText(context.io, wrapped as string, WRAPPED_LIMIT) : await wrap(context, file);
  return { algorithm, wrappedKey, ...(jose !== undefined && { joseAlgorithm: jose }) };
};

const importKey = async (context: Context, options: ImportOptions, keyId: string): Promise<void> => {
  const material = await materialOf(context, options);
  const { key, envelope } = await (await context.client()).keys.import(
    { keyId, purpose: options.purpose, ...material, ...attributesOf(options) },
    context.call,
  );
  context.warn(envelope);
  await context.print({ text: keyText(key), json: { key, envelope } });
};

const importVersion = async (context: Context, options: VersionOptions, keyId: string): Promise<void> => {
  const { expectVersion, acceptLoss = false } = options;
  const material = await materialOf(context, options);
  const { key, envelope } = await (await context.client()).keys.importVersion(
    { keyId, ...material, acceptLoss, ...(expectVersion !== undefined && { expectedVersion: expectVersion }) },
    context.call,
  );
  context.warn(envelope);
  await context.print({ text: keyText(key), json: { key, envelope } });
};

const printImportKey = async (
  context: Context,
  options: { readonly out: string; readonly force: boolean },
): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const { publicJwk, expireTime } = await (await context.client()).keys.importKey(context.call);
  if (expireTime !== undefined) context.note(`for one import until ${expireTime.toISOString()}\n`);
  await context.deliver({ data: JSON.stringify(publicJwk), name: 'publicJwk' }, { ...options, mode: 0o644 });
};

const materialOptions = (command: Command): Command =>
  command
    .requiredOption('--algorithm <id>', 'what the material is, such as AES-256, RSA-3072, EC-P256')
    .addOption(new Option('--jose <name>', 'JOSE algorithm of an RSA signing key, such as PS256 or RS256'))
    .option('--file <file>', 'the key: a private or secret JWK, or the bytes of an AES or HMAC key')
    .option('--wrapped <file>', 'the key as a JWE to a key of "key import-key"');

/** Declares the subcommands of `key` in this file. */
export const registerImport = (registry: Registry, key: Command): void => {
  leaf<ImportOptions>(
    registry,
    key,
    'import <key-id>',
    'make a key of material that was made elsewhere',
    importKey,
    (command) => attributeOptions(materialOptions(command.addOption(purposeOption().makeOptionMandatory()))),
  );
  leaf<VersionOptions>(
    registry,
    key,
    'import-version <key>',
    'make material that was made elsewhere the primary version of a key',
    importVersion,
    (command) =>
      materialOptions(command)
        .option('--expect-version <n>', 'refuse unless this is the primary version', parseCount)
        .option('--accept-loss', 'accept that the new algorithm loses an ability of the old one'),
  );
  leaf(registry, key, 'import-key', 'print a public key to wrap a key for import', printImportKey, (command) =>
    command.option('--out <file>', 'write to this file', '-').option('--force', 'replace an existing file', false),
  );
};
