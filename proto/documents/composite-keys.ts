// Public keys of composites, as both the LAMPS drafts and the hybrid KEMs of HPKE have them: the post-quantum half, then
// the classical one, as one string of bytes in an AKP JWK (RFC 9964).
import { createPublicKey } from 'node:crypto';
import type { PublicJwk } from './key-record.ts';

/** SEC 1 section 2.3.3 uncompressed, RFC 8032 and RFC 7748 as they are, or RSAPublicKey of RFC 8017 appendix A.1.1 in DER. */
export const classicalPublicBytes = (jwk: PublicJwk): Buffer => {
  const { kty, x = '', y = '' } = jwk;
  if (kty === 'OKP') return Buffer.from(x, 'base64url');
  if (kty === 'EC') return Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  return createPublicKey({ key: { ...jwk }, format: 'jwk' }).export({ type: 'pkcs1', format: 'der' });
};

/** `alg` is the JOSE algorithm that the whole is for. */
export const compositePublicJwk = (
  alg: string,
  halves: { readonly pqc: PublicJwk; readonly classical: PublicJwk },
): PublicJwk => {
  const pqc = Buffer.from(halves.pqc['pub'] ?? '', 'base64url');
  return {
    kty: 'AKP',
    alg,
    pub: Buffer.concat([pqc, classicalPublicBytes(halves.classical)]).toString('base64url'),
  };
};
