// The schemes of docs/spec/wrapped-key.md by node:crypto, from given keys: for the token in software, for vectors, and to
// check what real tokens make. It shares with the agent nothing but the specification.
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import type { WrapScheme } from '../../proto/documents/wrap-schemes.ts';

export interface WrapKeys {
  readonly aes: Buffer;
  /** Of the schemes with HMAC. */
  readonly hmac: Buffer;
}

const KEY_WRAP = {
  'aes-kwp': ['id-aes256-wrap-pad', Buffer.from('a65959a6', 'hex')],
  'aes-kw': ['id-aes256-wrap', Buffer.from('a6a6a6a6a6a6a6a6', 'hex')],
} as const;

/** The cipher, and what of the sealed bytes is its iv. */
const cipherOf = (scheme: Exclude<WrapScheme, 'aes-gcm'>): readonly [name: string, iv: Buffer | undefined] =>
  scheme === 'aes-cbc-hmac' ? ['aes-256-cbc', undefined] : KEY_WRAP[scheme];

const tagOf = ({ hmac }: WrapKeys, aad: Buffer, ivAndWrapped: Buffer): Buffer => {
  const bits = Buffer.alloc(8);
  bits.writeUInt32BE(aad.length * 8, 4);
  return createHmac('sha256', createSecretKey(hmac)).update(aad).update(ivAndWrapped).update(bits).digest();
};

export const sealInSoftware = (
  scheme: WrapScheme,
  keys: WrapKeys,
  { aad, data, iv }: { readonly aad: Buffer; readonly data: Buffer; readonly iv?: Buffer },
): Buffer => {
  if (scheme === 'aes-gcm') {
    const nonce = iv ?? randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', createSecretKey(keys.aes), nonce).setAAD(aad);
    return Buffer.concat([nonce, cipher.update(data), cipher.final(), cipher.getAuthTag()]);
  }
  const [name, fixed] = cipherOf(scheme);
  const start = fixed === undefined ? (iv ?? randomBytes(16)) : Buffer.alloc(0);
  const cipher = createCipheriv(name, createSecretKey(keys.aes), fixed ?? start);
  const ivAndWrapped = Buffer.concat([start, cipher.update(data), cipher.final()]);
  return Buffer.concat([ivAndWrapped, tagOf(keys, aad, ivAndWrapped)]);
};

/** Throws where anything is wrong. */
export const openInSoftware = (
  scheme: WrapScheme,
  keys: WrapKeys,
  { aad, data }: { readonly aad: Buffer; readonly data: Buffer },
): Buffer => {
  if (scheme === 'aes-gcm') {
    const decipher = createDecipheriv('aes-256-gcm', createSecretKey(keys.aes), data.subarray(0, 12)).setAAD(aad);
    decipher.setAuthTag(data.subarray(-16));
    return Buffer.concat([decipher.update(data.subarray(12, -16)), decipher.final()]);
  }
  const [ivAndWrapped, tag] = [data.subarray(0, -32), data.subarray(-32)];
  if (!timingSafeEqual(tagOf(keys, aad, ivAndWrapped), tag)) throw new Error('unable to authenticate');
  const [name, fixed] = cipherOf(scheme);
  const iv = fixed ?? ivAndWrapped.subarray(0, 16);
  const decipher = createDecipheriv(name, createSecretKey(keys.aes), iv);
  const wrapped = fixed === undefined ? ivAndWrapped.subarray(16) : ivAndWrapped;
  return Buffer.concat([decipher.update(wrapped), decipher.final()]);
};
