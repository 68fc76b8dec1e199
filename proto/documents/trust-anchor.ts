// The trust anchor: whose signatures make a policy, and how many of them. Each officer has two keys, a classical one and
// ML-DSA-65, and counts only with both. Public keys only.
import { createHash, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { asObject, base64url, integer, list, matching, object, oneOf, type Read } from './fields.ts';
import { PolicyError } from './policy-error.ts';
import { type JsonValue, parseJson } from './strict-json.ts';

export const TRUST_ANCHOR_SCHEMA = 'mortise.trust-anchor/v1';
export const TRUST_ANCHOR_LIMIT_BYTES = 256 * 1024;
const MAX_OFFICERS = 32;
const ML_DSA_65_PUBLIC_BYTES = 1952; // FIPS 204 table 2

/** JWS algorithms of officers: the classical half, then the post-quantum half. */
export type OfficerAlgorithm = 'Ed25519' | 'ES256' | 'ML-DSA-65';

export type OfficerJwk =
  | { readonly kty: 'OKP'; readonly crv: 'Ed25519'; readonly x: string }
  | { readonly kty: 'EC'; readonly crv: 'P-256'; readonly x: string; readonly y: string }
  | { readonly kty: 'AKP'; readonly alg: 'ML-DSA-65'; readonly pub: string };

export interface Officer {
  readonly name: string;
  /** Classical, then ML-DSA-65. */
  readonly keys: readonly OfficerJwk[];
}

export interface TrustAnchor {
  readonly schema: typeof TRUST_ANCHOR_SCHEMA;
  /** So many officers must sign. */
  readonly threshold: number;
  readonly officers: readonly Officer[];
}

/** One officer's public key, ready to verify. */
export interface AnchorKey {
  readonly officer: string;
  readonly algorithm: OfficerAlgorithm;
  readonly key: KeyObject;
}

export const officerAlgorithm = (jwk: OfficerJwk): OfficerAlgorithm =>
  jwk.kty === 'AKP' ? 'ML-DSA-65' : jwk.kty === 'OKP' ? 'Ed25519' : 'ES256';

/** RFC 7638 thumbprint (RFC 9964 section 6 for AKP): the `kid` of an officer's key. */
export const thumbprint = (jwk: OfficerJwk): string => {
  const required =
    jwk.kty === 'AKP'
      ? { alg: jwk.alg, kty: jwk.kty, pub: jwk.pub }
      : jwk.kty === 'OKP'
        ? { crv: jwk.crv, kty: jwk.kty, x: jwk.x }
        : { crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y };
  return createHash('sha256').update(JSON.stringify(required)).digest('base64url');
};

const encoded =
  (length: number): Read<string> =>
  (value, path) =>
    base64url({ min: length, max: length })(value, path).toString('base64url');

const okp = object<OfficerJwk & { kty: 'OKP' }>({ kty: oneOf('OKP'), crv: oneOf('Ed25519'), x: encoded(32) });
const ec = object<OfficerJwk & { kty: 'EC' }>({
  kty: oneOf('EC'),
  crv: oneOf('P-256'),
  x: encoded(32),
  y: encoded(32),
});
const akp = object<OfficerJwk & { kty: 'AKP' }>({
  kty: oneOf('AKP'),
  alg: oneOf('ML-DSA-65'),
  pub: encoded(ML_DSA_65_PUBLIC_BYTES),
});

export const officerName = matching(/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/, 'a name of [A-Za-z0-9._@-], at most 64 long');

const publicKey = (jwk: OfficerJwk, path: string): KeyObject => {
  try {
    return createPublicKey({ key: { ...jwk } as JsonWebKey, format: 'jwk' });
  } catch (cause) {
    throw new PolicyError('KEY_INVALID', path, 'not a valid public key', cause);
  }
};

const officerJwk: Read<OfficerJwk> = (value, path) => {
  const kty = oneOf('OKP', 'EC', 'AKP')(asObject(value, path)['kty'] ?? null, `${path}.kty`);
  const jwk = kty === 'AKP' ? akp(value, path) : kty === 'OKP' ? okp(value, path) : ec(value, path);
  publicKey(jwk, path);
  return jwk;
};

/** Exactly one classical and one post-quantum key, in this order. */
const officerKeys: Read<readonly OfficerJwk[]> = (value, path) => {
  const keys = list(officerJwk, { min: 2, max: 2 }, thumbprint)(value, path);
  if (keys[0]?.kty === 'AKP' || keys[1]?.kty !== 'AKP')
    throw new PolicyError('KEY_INVALID', path, 'expected an Ed25519 or P-256 key and then an ML-DSA-65 key');
  return keys;
};

export const officer = object<Officer>({ name: officerName, keys: officerKeys });

const anchor = object<TrustAnchor>({
  schema: oneOf(TRUST_ANCHOR_SCHEMA),
  threshold: integer(1, MAX_OFFICERS),
  officers: list(officer, { min: 1, max: MAX_OFFICERS }, (entry) => entry.name),
});

/** A trust anchor from an already parsed JSON value. */
export const readTrustAnchor = (value: JsonValue): TrustAnchor => {
  const read = anchor(value, '');
  if (read.threshold > read.officers.length)
    throw new PolicyError('VALUE_INVALID', 'threshold', `${read.threshold} of ${read.officers.length} officers`);
  const kids = read.officers.flatMap(({ keys }) => keys.map(thumbprint));
  if (new Set(kids).size !== kids.length)
    throw new PolicyError('FIELD_DUPLICATE', 'officers', 'two officers share a key, so one could sign for both');
  return read;
};

/** A trust anchor from the bytes of its file; throws nothing but PolicyError. */
export const parseTrustAnchor = (bytes: Uint8Array): TrustAnchor =>
  readTrustAnchor(parseJson(bytes, TRUST_ANCHOR_LIMIT_BYTES));

/** SHA-256 of the file's bytes in lower-case hex: what `sha256sum trust-anchor.json` prints. */
export const trustAnchorDigest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The officers' keys by `kid`. */
export const anchorKeys = (trusted: TrustAnchor): ReadonlyMap<string, AnchorKey> =>
  new Map(
    trusted.officers.flatMap(({ name, keys }) =>
      keys.map((jwk) => {
        const key = { officer: name, algorithm: officerAlgorithm(jwk), key: publicKey(jwk, `officers.${name}`) };
        return [thumbprint(jwk), key] as const;
      }),
    ),
  );
