// Verifies signatures with public keys in node:crypto; the token is not asked (some, like Luna in FIPS configuration,
// refuse to verify a digest). A malformed signature is a wrong signature, never an error.
import { constants, createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { CURVES } from './curves.ts';
import type { SignatureAlgorithm } from './signature-algorithms.ts';
import { verifyEcdsaDigest, verifyPkcs1Digest, verifyPssDigest } from './verify-digest.ts';

const MAX_CACHED_KEYS = 4096; // about 2 KiB each

/** Public keys of key versions as key objects, the least recently used dropped first. */
export class PublicKeyCache {
  readonly #keys = new Map<string, KeyObject>();
  /** Of JWKs that were asked for before: those of records come again and again, and may be long. */
  readonly #names = new WeakMap<PublicJwk, string>();
  readonly #limit: number;

  constructor({ limit = MAX_CACHED_KEYS }: { limit?: number } = {}) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#keys.size;
  }

  /** `keyJwk`: the JWK that OpenSSL takes for it. */
  get(jwk: PublicJwk, keyJwk = (whole: PublicJwk): PublicJwk => whole): KeyObject {
    const id = this.#nameOf(jwk);
    let key = this.#keys.get(id);
    if (key === undefined) {
      key = createPublicKey({ key: keyJwk(jwk), format: 'jwk' });
      if (this.#keys.size >= this.#limit) this.#keys.delete(this.#keys.keys().next().value as string);
    } else {
      this.#keys.delete(id);
    }
    this.#keys.set(id, key);
    return key;
  }

  #nameOf(jwk: PublicJwk): string {
    let name = this.#names.get(jwk);
    if (name === undefined) {
      name = `${jwk['kty']}.${jwk['crv'] ?? jwk['e'] ?? jwk['alg']}.${jwk['x'] ?? jwk['n'] ?? jwk['pub']}.${jwk['y'] ?? ''}`;
      this.#names.set(jwk, name);
    }
    return name;
  }
}

export type SignedData = ({ readonly message: Buffer } | { readonly digest: Buffer }) & {
  /** Context string of the application, for algorithms that have one (FIPS 204 section 5.2); absent means none. */
  readonly context?: Buffer;
};

const verifyMessage = (algorithm: SignatureAlgorithm, key: KeyObject, message: Buffer, signature: Buffer): boolean => {
  switch (algorithm.scheme) {
    case 'pkcs1':
      return verify(algorithm.digest, message, { key, padding: constants.RSA_PKCS1_PADDING }, signature);
    case 'pss': {
      // RFC 7518 section 3.5: the salt is as long as the hash.
      const padding = constants.RSA_PKCS1_PSS_PADDING;
      const saltLength = algorithm.digestBytes as number;
      return verify(algorithm.digest, message, { key, padding, saltLength }, signature);
    }
    case 'ecdsa':
      return verify(algorithm.digest, message, { key, dsaEncoding: 'ieee-p1363' }, signature);
    case 'ed25519':
      return verify(null, message, key, signature);
    case 'pq':
    case 'fn-dsa':
    case 'composite':
      return false; // not of one classical key: post-quantum.ts, composite-signature.ts
  }
};

const verifyDigest = (algorithm: SignatureAlgorithm, key: KeyObject, digest: Buffer, signature: Buffer): boolean => {
  const { scheme, digest: name } = algorithm;
  if (name === undefined || digest.length !== algorithm.digestBytes) return false;
  if (scheme === 'pkcs1') return verifyPkcs1Digest(key, name, digest, signature);
  if (scheme === 'pss') return verifyPssDigest(key, name, digest, signature);
  return verifyEcdsaDigest(key, digest, signature);
};

/** Whether the key is one that the algorithm signs with; the caller has matched names already, this checks the key. */
const fits = (algorithm: SignatureAlgorithm, key: KeyObject): boolean => {
  const type = key.asymmetricKeyType;
  if (algorithm.scheme === 'ed25519') return type === 'ed25519';
  if (algorithm.scheme !== 'ecdsa') return type === 'rsa';
  return type === 'ec' && key.asymmetricKeyDetails?.namedCurve === CURVES.get(algorithm.crv ?? '')?.openssl;
};

export const verifySignature = (
  algorithm: SignatureAlgorithm,
  key: KeyObject,
  data: SignedData,
  signature: Buffer,
): boolean => {
  if (!fits(algorithm, key)) return false;
  try {
    return 'message' in data
      ? verifyMessage(algorithm, key, data.message, signature)
      : verifyDigest(algorithm, key, data.digest, signature);
  } catch {
    return false; // OpenSSL throws on some encodings that cannot be signatures
  }
};
