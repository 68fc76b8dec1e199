// ML-KEM keys (FIPS 203) as OpenSSL and JOSE have them: sizes, object identifiers, and the way from bytes to key objects.
// Private bytes are the seed d || z of 64 bytes (FIPS 203 section 7.1), never the expanded key.
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';

export interface MlKem {
  readonly id: 'ML-KEM-768' | 'ML-KEM-1024';
  readonly publicBytes: number;
  readonly ciphertextBytes: number;
  /** PrivateKeyInfo with the seed alone (RFC 9935 section 6) up to the seed. */
  readonly pkcs8: Buffer;
}

export const ML_KEM_SEED_BYTES = 64;
export const ML_KEM_SECRET_BYTES = 32;

/** NIST's key encapsulation mechanisms are 2.16.840.1.101.3.4.4.<last>. */
const row = (id: MlKem['id'], last: number, publicBytes: number, ciphertextBytes: number): MlKem => ({
  id,
  publicBytes,
  ciphertextBytes,
  pkcs8: Buffer.from(`3054020100300b06096086480165030404${Buffer.of(last).toString('hex')}04428040`, 'hex'),
});

export const ML_KEM: Readonly<Record<MlKem['id'], MlKem>> = {
  'ML-KEM-768': row('ML-KEM-768', 2, 1184, 1088),
  'ML-KEM-1024': row('ML-KEM-1024', 3, 1568, 1568),
};

/** Throws a RangeError where the seed is of another length; it stays the caller's to wipe. */
export const mlKemPrivateKey = ({ id, pkcs8 }: MlKem, seed: Uint8Array): KeyObject => {
  if (seed.length !== ML_KEM_SEED_BYTES) throw new RangeError(`${id}: a seed of ${seed.length} bytes`);
  const key = Buffer.concat([pkcs8, seed]);
  try {
    return createPrivateKey({ key, format: 'der', type: 'pkcs8' });
  } finally {
    key.fill(0);
  }
};

/** Throws where the bytes are no encapsulation key: OpenSSL checks its modulus (FIPS 203 section 7.2). */
export const mlKemPublicKey = ({ id }: MlKem, bytes: Uint8Array): KeyObject =>
  createPublicKey({ key: { kty: 'AKP', alg: id, pub: Buffer.from(bytes).toString('base64url') }, format: 'jwk' });

/** The encapsulation key that belongs to a seed. */
export const mlKemPublicBytes = (kem: MlKem, seed: Uint8Array): Buffer => {
  const { pub } = createPublicKey(mlKemPrivateKey(kem, seed)).export({ format: 'jwk' });
  return Buffer.from(pub as string, 'base64url');
};
