// Public keys of composites, as both the LAMPS drafts and the hybrid KEMs of HPKE have them: the post-quantum half, then
// the classical one, as one string of bytes in an AKP JWK (RFC 9964).
import { createPublicKey, type KeyObject } from 'node:crypto';
import type { PublicJwk } from './key-record.ts';

// SubjectPublicKeyInfo of RSA from 2048 bits on, up to the RSAPublicKey within: two lengths of two bytes, rsaEncryption
// with NULL (RFC 3279 section 2.3.1), and no unused bits. OpenSSL does not write type pkcs1 of every key that it reads.
const RSA_SPKI_HEAD = 24;

/** RSAPublicKey of RFC 8017 appendix A.1.1 in DER. */
export const rsaPublicBytes = (key: KeyObject): Buffer =>
  key.export({ type: 'spki', format: 'der' }).subarray(RSA_SPKI_HEAD);

/** SEC 1 section 2.3.3 uncompressed, RFC 8032 and RFC 7748 as they are, or RSAPublicKey. */
export const classicalPublicBytes = (jwk: PublicJwk): Buffer => {
  const { kty, x = '', y = '' } = jwk;
  if (kty === 'OKP') return Buffer.from(x, 'base64url');
  if (kty === 'EC') return Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  return rsaPublicBytes(createPublicKey({ key: { ...jwk }, format: 'jwk' }));
};

/** SEC 1 points of composite signatures in JOSE have no leading 0x04 (draft-ietf-jose-pq-composite-sigs-03). */
const withoutPointForm = (classical: PublicJwk, bytes: Buffer): Buffer =>
  classical['kty'] === 'EC' ? bytes.subarray(1) : bytes;

/** `alg` is the JOSE algorithm that the whole is for. */
export const compositePublicJwk = (
  alg: string,
  halves: { readonly pqc: PublicJwk; readonly classical: PublicJwk },
): PublicJwk => {
  const pqc = Buffer.from(halves.pqc['pub'] ?? '', 'base64url');
  const bytes = classicalPublicBytes(halves.classical);
  const signs = halves.pqc['alg']?.startsWith('ML-DSA-') === true;
  const classical = signs ? withoutPointForm(halves.classical, bytes) : bytes;
  return { kty: 'AKP', alg, pub: Buffer.concat([pqc, classical]).toString('base64url') };
};
