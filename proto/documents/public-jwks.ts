// Public keys of token issuers (RFC 7517): asymmetric only, no private or unknown member, strong enough. The key itself
// is built once, so that what the agent verifies by later is known to be a key.
import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { MIN_RSA_BITS } from './algorithms.ts';
import { asObject, base64url, invalidValue, list, type Read } from './fields.ts';
import type { PublicJwk } from './key-record.ts';
import { PolicyError } from './policy-error.ts';
import { type JsonObject, member } from './strict-json.ts';

const MAX_KEYS = 32;
const MAX_RSA_BITS = 8192; // a verification beyond it costs milliseconds per token
const MAX_MEMBER_BYTES = 4096;
const MAX_TEXT_CHARACTERS = 256;

interface KeyType {
  readonly members: readonly string[];
  /** JOSE algorithms that such a key verifies. */
  readonly algorithms: (jwk: JsonObject) => readonly string[];
}

const EC_ALGORITHMS: Readonly<Record<string, string>> = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' };
const RSA_ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const AKP_ALGORITHMS = ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'];

const KEY_TYPES: Readonly<Record<string, KeyType>> = {
  RSA: { members: ['n', 'e'], algorithms: () => RSA_ALGORITHMS },
  EC: { members: ['crv', 'x', 'y'], algorithms: ({ crv }) => [EC_ALGORITHMS[String(crv)] ?? ''].filter(Boolean) },
  OKP: { members: ['crv', 'x'], algorithms: ({ crv }) => (crv === 'Ed25519' ? ['Ed25519', 'EdDSA'] : []) },
  AKP: { members: ['alg', 'pub'], algorithms: () => AKP_ALGORITHMS },
};

const PRIVATE_MEMBERS = new Set(['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv', 'seed']);
const COMMON_MEMBERS = ['kty', 'kid', 'alg', 'use'];
const TEXT_MEMBERS = new Set([...COMMON_MEMBERS, 'crv']);

const wrongKey = (path: string, what: string): PolicyError => new PolicyError('KEY_INVALID', path, what);

const checkMembers = (jwk: JsonObject, path: string, type: KeyType): void => {
  const known = [...new Set([...COMMON_MEMBERS, ...type.members])];
  for (const [name, value] of Object.entries(jwk)) {
    const at = member(path, name);
    if (PRIVATE_MEMBERS.has(name)) throw wrongKey(at, 'private or secret key material does not belong into a policy');
    if (!known.includes(name)) throw new PolicyError('FIELD_UNKNOWN', at, `unknown field; known: ${known.join(', ')}`);
    if (!TEXT_MEMBERS.has(name)) base64url({ min: 1, max: MAX_MEMBER_BYTES })(value, at);
    else if (typeof value !== 'string' || value.length === 0 || value.length > MAX_TEXT_CHARACTERS)
      throw invalidValue(at, value, `a string of 1 to ${MAX_TEXT_CHARACTERS} characters`);
  }
  for (const name of type.members) {
    if (jwk[name] === undefined) throw new PolicyError('FIELD_MISSING', member(path, name), 'required');
  }
};

const checkAlgorithm = (jwk: JsonObject, path: string, type: KeyType): void => {
  const fitting = type.algorithms(jwk);
  if (fitting.length === 0)
    throw invalidValue(member(path, 'crv'), jwk['crv'] ?? null, 'P-256, P-384 or P-521 (EC), Ed25519 (OKP)');
  if (jwk['alg'] !== undefined && !fitting.includes(String(jwk['alg'])))
    throw invalidValue(member(path, 'alg'), jwk['alg'], fitting.join(' or '));
  if (jwk['use'] !== undefined && jwk['use'] !== 'sig') throw invalidValue(member(path, 'use'), jwk['use'], '"sig"');
};

const checkStrength = (jwk: JsonObject, path: string): void => {
  let details: { modulusLength?: number; publicExponent?: bigint };
  try {
    const key = createPublicKey({ key: { ...jwk } as JsonWebKey, format: 'jwk' });
    details = key.asymmetricKeyDetails ?? {};
  } catch (cause) {
    throw new PolicyError('KEY_INVALID', path, 'not a valid public key', cause);
  }
  if (jwk['kty'] !== 'RSA') return;
  const { modulusLength = 0, publicExponent = 0n } = details;
  if (modulusLength < MIN_RSA_BITS || modulusLength > MAX_RSA_BITS)
    throw wrongKey(member(path, 'n'), `RSA of ${modulusLength} bits; expected ${MIN_RSA_BITS} to ${MAX_RSA_BITS}`);
  // FIPS 186-5 section A.1.1: odd, above 2^16.
  if (publicExponent <= 65_536n || publicExponent % 2n === 0n)
    throw wrongKey(member(path, 'e'), 'the public exponent must be odd and above 65536');
};

/** One public asymmetric JWK for verifying signatures. */
export const publicJwk: Read<PublicJwk> = (value, path) => {
  const jwk = asObject(value, path);
  if (jwk['kty'] === 'oct')
    throw wrongKey(member(path, 'kty'), 'a symmetric key cannot be public; use an asymmetric one');
  const type =
    typeof jwk['kty'] === 'string' && Object.hasOwn(KEY_TYPES, jwk['kty']) ? KEY_TYPES[jwk['kty']] : undefined;
  if (type === undefined)
    throw invalidValue(member(path, 'kty'), jwk['kty'] ?? null, Object.keys(KEY_TYPES).join(' or '));
  checkMembers(jwk, path, type);
  checkAlgorithm(jwk, path, type);
  checkStrength(jwk, path);
  return Object.freeze({ ...jwk }) as PublicJwk;
};

const withoutKid = Symbol('a key without kid');

/** The `keys` of a JWK set; kid values are unique, and needed as soon as there is more than one key. */
export const publicJwks: Read<readonly PublicJwk[]> = (value, path) =>
  list(publicJwk, { min: 1, max: MAX_KEYS }, (jwk) => jwk['kid'] ?? withoutKid)(value, path);
