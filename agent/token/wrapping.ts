// How this token wraps key material: the first scheme of the table that its self-tests have proved. Invariant: a new key
// is made for that scheme, and every key wraps and unwraps by the scheme that it was made for.
import { randomBytes } from 'node:crypto';
import {
  isMaterialLength,
  schemeOfKey,
  WRAP_SCHEMES,
  WRAPPING_ID_RANDOM_BYTES,
  type WrapScheme,
  wrappingKeyId,
  wrapScheme,
} from '../../proto/documents/wrap-schemes.ts';
import { AgentError } from '../errors.ts';
import { type Ability, generating, wrapping } from './abilities.ts';

const IV_BYTES = wrapScheme('aes-gcm').ivBytes;

/** What a scheme needs of the token; the abilities `wrap-` are tested with keys made for them. */
const neededFor = (scheme: WrapScheme): readonly string[] =>
  scheme === 'aes-gcm' ? [generating('AES-256'), wrapping(scheme)] : [wrapping(scheme)];

const missing = (abilities: ReadonlyMap<string, Ability>, scheme: WrapScheme): readonly string[] =>
  neededFor(scheme)
    .filter((name) => abilities.get(name)?.ok !== true)
    .map((name) => `${name}: ${abilities.get(name)?.why ?? 'not tested'}`);

export interface Wrapping {
  /** Undefined where the token can wrap nothing. */
  readonly scheme: WrapScheme | undefined;
  /** For people: which it is, and what the better ones lack. */
  readonly why: string;
}

export const chooseWrapping = (abilities: ReadonlyMap<string, Ability>): Wrapping => {
  const lacks: string[] = [];
  for (const { scheme, title } of WRAP_SCHEMES) {
    const lacking = missing(abilities, scheme);
    if (lacking.length === 0) return { scheme, why: lacks.length === 0 ? title : `${title}, for ${lacks.join('; ')}` };
    lacks.push(...lacking);
  }
  return { scheme: undefined, why: lacks.join('; ') };
};

const cannot = (message: string, cause?: unknown): AgentError =>
  new AgentError('HSM_UNSUPPORTED', { message, ...(cause !== undefined && { cause }) });

/** The CKA_ID of a new key for the token's scheme. */
export const newWrappingKeyId = (abilities: ReadonlyMap<string, Ability>): string => {
  const { scheme, why } = chooseWrapping(abilities);
  if (scheme === undefined) throw cannot(`the token can wrap no keys, for want of each of these: ${why}`);
  return wrappingKeyId(scheme, randomBytes(WRAPPING_ID_RANDOM_BYTES));
};

/** What of the token the functions below ask. */
export interface WrappingRequests {
  gcmEncrypt(input: { iv: Buffer; aad: Buffer; data: Buffer }): Promise<Buffer>;
  gcmDecrypt(input: { iv: Buffer; aad: Buffer; data: Buffer }): Promise<Buffer>;
  ask(name: 'wrap' | 'unwrap', aad: Buffer, data: Buffer): Promise<Buffer>;
}

/** iv || what is wrapped || tag */
export const wrapBy = async (tokenId: string, input: WrapInput, token: WrappingRequests): Promise<Buffer> => {
  const { aad, data } = input;
  const scheme = schemeOfKey(tokenId);
  if (!isMaterialLength(scheme, data.length)) {
    throw cannot(`the key wraps by ${wrapScheme(scheme).title}, which takes no material of ${data.length} bytes`);
  }
  if (scheme !== 'aes-gcm') return await token.ask('wrap', aad, data);
  const iv = randomBytes(IV_BYTES); // SP 800-38D section 8.2.2
  const sealed = await token.gcmEncrypt({ iv, aad, data }); // which may have written another iv into it
  return Buffer.concat([iv, sealed]);
};

export const unwrapBy = async (tokenId: string, input: WrapInput, token: WrappingRequests): Promise<Buffer> => {
  const { aad, data } = input;
  if (schemeOfKey(tokenId) !== 'aes-gcm') return await token.ask('unwrap', aad, data);
  if (data.length < IV_BYTES) throw new AgentError('INVALID_CIPHERTEXT');
  return await token.gcmDecrypt({ iv: data.subarray(0, IV_BYTES), aad, data: data.subarray(IV_BYTES) });
};

export interface WrapInput {
  readonly aad: Buffer;
  readonly data: Buffer;
}

/** Says which scheme it is that the token no longer does. */
export const explained = async <T>(
  tokenId: string,
  abilities: ReadonlyMap<string, Ability>,
  run: () => Promise<T>,
): Promise<T> => {
  try {
    return await run();
  } catch (error) {
    const scheme = schemeOfKey(tokenId);
    const lacking = missing(abilities, scheme);
    if (!(error instanceof AgentError && error.code === 'HSM_UNSUPPORTED') || lacking.length === 0) throw error;
    const { title } = wrapScheme(scheme);
    throw cannot(`the key wraps by ${title}, which the token does not do: ${lacking.join('; ')}`, error);
  }
};
