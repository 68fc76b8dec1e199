// What is measured: one row per kind of work, with the key that it needs. The load client does it through the agent, the
// direct process through pkcs11js on the same token object.
import type { Purpose } from '../../proto/documents/algorithms.ts';

export interface Work {
  readonly name: string;
  /** As the tables call it. */
  readonly title: string;
  readonly does: 'sign' | 'encrypt' | 'decrypt' | 'verify' | 'mac';
  /** Bytes of the message or plaintext. */
  readonly bytes: number;
  readonly key: KeyWish;
}

export interface KeyWish {
  readonly keyId: string;
  readonly purpose: Purpose;
  readonly algorithm: string;
  readonly jose: string;
}

const EC: KeyWish = { keyId: 'ec', purpose: 'sign', algorithm: 'EC-P256', jose: 'ES256' };
const RSA: KeyWish = { keyId: 'rsa', purpose: 'sign', algorithm: 'RSA-2048', jose: 'RS256' };
const AES: KeyWish = { keyId: 'aes', purpose: 'encrypt', algorithm: 'AES-256', jose: 'A256GCMKW' };
const HMAC: KeyWish = { keyId: 'hmac', purpose: 'mac', algorithm: 'HMAC-SHA256', jose: 'HS256' };
export const KEYS: readonly KeyWish[] = [EC, RSA, AES, HMAC];

const KIB = 1024;
/** Of what is streamed, in one piece on either side of a comparison. */
export const PIECE_BYTES = 256 * KIB;
export const STREAM_KEY = AES.keyId;

export const WORKS = {
  ecdsa: { name: 'ecdsa', title: 'ECDSA P-256 sign', does: 'sign', bytes: 32, key: EC },
  rsa: { name: 'rsa', title: 'RSA-2048 sign (RS256)', does: 'sign', bytes: 32, key: RSA },
  encrypt: { name: 'encrypt', title: 'AES-256 JWE encrypt, 256 B', does: 'encrypt', bytes: 256, key: AES },
  encryptLarge: {
    name: 'encryptLarge',
    title: 'AES-256 JWE encrypt, 64 KiB',
    does: 'encrypt',
    bytes: 64 * KIB,
    key: AES,
  },
  decrypt: { name: 'decrypt', title: 'AES-256 JWE decrypt, 256 B', does: 'decrypt', bytes: 256, key: AES },
  decryptLarge: {
    name: 'decryptLarge',
    title: 'AES-256 JWE decrypt, 64 KiB',
    does: 'decrypt',
    bytes: 64 * KIB,
    key: AES,
  },
  verify: { name: 'verify', title: 'ES256 verify', does: 'verify', bytes: 32, key: EC },
  mac: { name: 'mac', title: 'HMAC-SHA256, 256 B', does: 'mac', bytes: 256, key: HMAC },
} as const satisfies Record<string, Work>;

export type WorkName = keyof typeof WORKS;
