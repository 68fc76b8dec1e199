// Content keys under the secret of a KEM, in the three forms that KEM_ALGORITHMS names. Invariant: the KEM's secret given
// is wiped, and so is every key made of it, but what is handed out.
import { hkdfSync } from 'node:crypto';
import { aesKeyUnwrap, aesKeyWrap } from './aes-key-wrap.ts';
import { messageKey, openMessage, recipientInfo, sealMessage } from './hpke.ts';
import type { KemAlgorithm } from './kem-algorithms.ts';

const NONE = Buffer.alloc(0);

/** docs/spec/composite.md: HKDF-SHA-256 (RFC 5869) without salt; alg and enc keep one use's key from another's. */
const wrappingKey = (jose: string, enc: string, secret: Buffer): Buffer => {
  const info = Buffer.concat([
    Buffer.from('mortise-jwe', 'ascii'),
    Buffer.of(0xff),
    Buffer.from(jose, 'ascii'),
    Buffer.of(0xff),
    Buffer.from(enc, 'ascii'),
  ]);
  const key = Buffer.from(hkdfSync('sha256', secret, NONE, info, 32));
  secret.fill(0);
  return key;
};

const hpkeId = ({ jose, kem }: KemAlgorithm): number => {
  if (kem.hpkeId === undefined) throw new TypeError(`${jose} is not HPKE`);
  return kem.hpkeId;
};

/** `enc` is the name of the content encryption that the CEK is for. */
export const wrapUnderSecret = (algorithm: KemAlgorithm, enc: string, secret: Buffer, cek: Buffer): Buffer => {
  if (algorithm.form === 'integrated') throw new TypeError(`${algorithm.jose} wraps no content key`);
  const isHpke = algorithm.form === 'key-encryption';
  const key = isHpke
    ? messageKey(hpkeId(algorithm), secret, recipientInfo(enc))
    : wrappingKey(algorithm.jose, enc, secret);
  try {
    return isHpke ? sealMessage(key, NONE, cek) : aesKeyWrap(key, cek);
  } finally {
    key.fill(0);
  }
};

/** The CEK, or undefined where it does not open. Of an integrated algorithm the message key, which always is one. */
export const unwrapUnderSecret = (
  algorithm: KemAlgorithm,
  enc: string,
  secret: Buffer,
  encryptedKey: Buffer,
): Buffer | undefined => {
  if (algorithm.form === 'integrated') return messageKey(hpkeId(algorithm), secret, NONE);
  const isHpke = algorithm.form === 'key-encryption';
  const key = isHpke
    ? messageKey(hpkeId(algorithm), secret, recipientInfo(enc))
    : wrappingKey(algorithm.jose, enc, secret);
  try {
    return isHpke ? openMessage(key, NONE, encryptedKey) : aesKeyUnwrap(key, encryptedKey);
  } finally {
    key.fill(0);
  }
};
