// Ed25519 signing with a seed in memory (RFC 8032 section 5.1.6), for keys of custody `wrapped`.
import { createPrivateKey, sign } from 'node:crypto';

/** PKCS #8 of an Ed25519 key up to its seed (RFC 8410 section 7); DER because a JWK would leave the seed in a string. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

export const signEd25519 = (seed: Buffer, message: Buffer): Buffer => {
  if (seed.length !== 32) throw new RangeError(`an Ed25519 seed has 32 bytes, not ${seed.length}`);
  const pkcs8 = Buffer.concat([PKCS8_PREFIX, seed]);
  try {
    return sign(null, message, createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
  } finally {
    pkcs8.fill(0);
  }
};
