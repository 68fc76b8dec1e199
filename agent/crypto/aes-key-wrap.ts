// AES key wrap of RFC 3394 with the default initial value, in node:crypto.
import { createCipheriv, createDecipheriv, createSecretKey } from 'node:crypto';
import { joinSecret } from './join-secret.ts';

const INITIAL_VALUE = Buffer.alloc(8, 0xa6); // RFC 3394 section 2.2.3.1

const cipherName = (kek: Buffer): string => `id-aes${kek.length * 8}-wrap`;

export const aesKeyWrap = (kek: Buffer, key: Buffer): Buffer => {
  const cipher = createCipheriv(cipherName(kek), createSecretKey(kek), INITIAL_VALUE);
  return Buffer.concat([cipher.update(key), cipher.final()]);
};

/** The key, or undefined where the integrity check fails. */
export const aesKeyUnwrap = (kek: Buffer, wrapped: Buffer): Buffer | undefined => {
  if (wrapped.length < 24 || wrapped.length % 8 !== 0) return undefined;
  try {
    const decipher = createDecipheriv(cipherName(kek), createSecretKey(kek), INITIAL_VALUE);
    return joinSecret(decipher.update(wrapped), decipher.final());
  } catch {
    return undefined; // OpenSSL says no more than that the check failed
  }
};
