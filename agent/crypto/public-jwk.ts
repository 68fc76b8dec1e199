// A public JWK that a caller brings (RFC 7517), from bytes that an attacker controls. Invariant: what parses is one
// public key of a kind and size that the algorithm table allows, with every number in its canonical spelling.
import { createPublicKey, createSecretKey, hash, type KeyObject } from 'node:crypto';
import { forbiddenAlgorithm, MIN_RSA_BITS } from '../../proto/documents/algorithms.ts';
import { FN_DSA_BY_JOSE } from '../../proto/documents/fn-dsa.ts';
import { PQ_SIGNATURES } from '../../proto/documents/pq-signatures.ts';
import { AgentError, invalid } from '../errors.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import { COMPOSITE_SIGNATURES, type CompositeSignature, readCompositeKey } from './composite-signature.ts';
import { ecPublicKey } from './curves.ts';
import { KEM_ALGORITHMS, type KemAlgorithm } from './kem-algorithms.ts';
import { parseKemPublicKey } from './pq-kem.ts';
import { isPem, jwkOfPem } from './spki.ts';
import { type JsonObject, parseJsonObject } from './strict-json.ts';

const FIELD = 'public_jwk';
export const MAX_JWK_BYTES = 16 * 1024;
const MAX_RSA_BITS = 8192; // verification time grows with the square
const MAX_EXPONENT_BYTES = 8; // OpenSSL's own bound for moduli over 3072 bits
const MIN_EXPONENT = 65537n; // FIPS 186-5 appendix A.1.1
const MAX_KID_BYTES = 512;
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv'];

export interface CallerJwk {
  /** It came as PEM, so its raw signatures may be spelled as X.509 has them. */
  readonly isPem: boolean;
  /** Id in the algorithm table by which policy decides: for RSA the strongest row that the modulus reaches. */
  readonly algorithm: string;
  /** OpenSSL has no FN-DSA: its public bytes are held as an object that fits no other algorithm. */
  readonly key: KeyObject;
  /** The members that make the key, in the order of RFC 7638; nothing else of what the caller sent. */
  readonly jwk: Readonly<Record<string, string>>;
  readonly crv: string | undefined;
  /** RFC 7638, SHA-256, base64url. */
  readonly thumbprint: string;
  readonly kid: string | undefined;
  readonly alg: string | undefined;
  readonly use: string | undefined;
  readonly keyOps: readonly string[] | undefined;
}

const text = (members: JsonObject, name: string, maxBytes: number): string | undefined => {
  const value = members[name];
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || value === '' || Buffer.byteLength(value) > maxBytes) {
    throw invalid(FIELD, `"${name}" is not a string of 1 to ${maxBytes} bytes`);
  }
  return value;
};

const required = (members: JsonObject, name: string): string => {
  const value = text(members, name, MAX_JWK_BYTES);
  if (value === undefined) throw invalid(FIELD, `"${name}" is missing`);
  return value;
};

/** RFC 7518 section 2, Base64urlUInt: big-endian without a leading zero byte. */
const unsigned = (members: JsonObject, name: string): { text: string; value: bigint; bytes: number } => {
  const spelled = required(members, name);
  const bytes = decodeBase64url(spelled);
  if (bytes === undefined || bytes.length === 0 || bytes[0] === 0 || bytes.length > MAX_RSA_BITS / 8) {
    throw invalid(FIELD, `"${name}" is not an integer in base64url of at most ${MAX_RSA_BITS} bits`);
  }
  return { text: spelled, value: BigInt(`0x${bytes.toString('hex')}`), bytes: bytes.length };
};

type Parsed = Pick<CallerJwk, 'algorithm' | 'key' | 'jwk' | 'crv'>;

const parseRsa = (members: JsonObject): Parsed => {
  const n = unsigned(members, 'n');
  const e = unsigned(members, 'e');
  const bits = n.value.toString(2).length;
  if (bits < MIN_RSA_BITS) {
    throw new AgentError('ALGORITHM_FORBIDDEN', { message: `RSA of ${bits} bits is forbidden: below ${MIN_RSA_BITS}` });
  }
  if (n.value % 2n === 0n) throw invalid(FIELD, '"n" is even');
  if (e.value < MIN_EXPONENT || e.value % 2n === 0n || e.bytes > MAX_EXPONENT_BYTES) {
    throw invalid(FIELD, '"e" is not odd, or not from 65537 to 2^64');
  }
  const jwk = { e: e.text, kty: 'RSA', n: n.text };
  const algorithm = bits >= 4096 ? 'RSA-4096' : bits >= 3072 ? 'RSA-3072' : 'RSA-2048';
  return { algorithm, key: createPublicKey({ key: jwk, format: 'jwk' }), jwk, crv: undefined };
};

const parseEc = (members: JsonObject): Parsed => {
  const [crv, x, y] = [required(members, 'crv'), required(members, 'x'), required(members, 'y')];
  const forbidden = forbiddenAlgorithm(`EC-${crv.replace('-', '')}`);
  if (forbidden !== undefined) {
    throw new AgentError('ALGORITHM_FORBIDDEN', { message: `${forbidden.id} is forbidden: ${forbidden.reason}` });
  }
  const parsed = ecPublicKey({ crv, x, y });
  if (parsed === undefined) throw invalid(FIELD, '"crv", "x" and "y" are not a point on P-256, P-384 or P-521');
  return { algorithm: parsed.curve.algorithm, key: parsed.key, jwk: { crv, kty: 'EC', x, y }, crv };
};

const parseOkp = (members: JsonObject): Parsed => {
  const [crv, x] = [required(members, 'crv'), required(members, 'x')];
  if (crv !== 'Ed25519' && crv !== 'X25519') throw invalid(FIELD, '"crv" of an OKP key must be Ed25519 or X25519');
  if (decodeBase64url(x)?.length !== 32) throw invalid(FIELD, '"x" is not 32 bytes in base64url');
  const jwk = { crv, kty: 'OKP', x };
  return { algorithm: crv, key: createPublicKey({ key: jwk, format: 'jwk' }), jwk, crv };
};

/** A public key of a KEM, its `alg` that of the JWE (draft-ietf-jose-hpke-pq-pqt). `key` is its ML-KEM half. */
const parseKem = ({ kem, jose }: KemAlgorithm, pub: string): Parsed => {
  const bytes = decodeBase64url(pub);
  const key = bytes && parseKemPublicKey(kem, bytes);
  if (key === undefined) throw invalid(FIELD, `"pub" is not a public key of ${jose} in base64url`);
  return { algorithm: kem.id, key: key.pqc, jwk: { alg: jose, kty: 'AKP', pub }, crv: undefined };
};

/** A public key of a composite signature. `key` is its ML-DSA half. */
const parseComposite = (composite: CompositeSignature, pub: string): Parsed => {
  const bytes = decodeBase64url(pub);
  const key = bytes && readCompositeKey(composite, bytes);
  if (key === undefined) throw invalid(FIELD, `"pub" is not a public key of ${composite.jose} in base64url`);
  return { algorithm: composite.id, key: key.pqc, jwk: { alg: composite.jose, kty: 'AKP', pub }, crv: undefined };
};

/** RFC 9964 section 3: `alg` says which kind of key it is, and is part of the thumbprint. */
const parseAkp = (members: JsonObject): Parsed => {
  const [alg, pub] = [required(members, 'alg'), required(members, 'pub')];
  const kem = KEM_ALGORITHMS.get(alg);
  if (kem !== undefined) return parseKem(kem, pub);
  const row = PQ_SIGNATURES.get(alg);
  const composite = COMPOSITE_SIGNATURES.get(alg);
  if (composite !== undefined) return parseComposite(composite, pub);
  const known = row ?? FN_DSA_BY_JOSE.get(alg);
  if (known === undefined) throw invalid(FIELD, '"alg" of an AKP key is none that this agent knows');
  if (decodeBase64url(pub)?.length !== known.publicBytes) {
    throw invalid(FIELD, `"pub" is not ${known.publicBytes} bytes in base64url`);
  }
  const jwk = { alg, kty: 'AKP', pub };
  const key = row === undefined ? createSecretKey(pub, 'base64url') : createPublicKey({ key: jwk, format: 'jwk' });
  return { algorithm: known.id, key, jwk, crv: undefined };
};

const parseKey = (members: JsonObject): Parsed => {
  const kty = required(members, 'kty');
  try {
    if (kty === 'RSA') return parseRsa(members);
    if (kty === 'EC') return parseEc(members);
    if (kty === 'OKP') return parseOkp(members);
    if (kty === 'AKP') return parseAkp(members);
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    throw new AgentError('INVALID_REQUEST', {
      message: `${FIELD}: not a usable key`,
      fields: [{ field: FIELD, description: 'not a usable key' }],
      cause,
    });
  }
  throw invalid(FIELD, '"kty" must be RSA, EC, OKP or AKP');
};

const parseKeyOps = (members: JsonObject): readonly string[] | undefined => {
  const ops = members['key_ops'];
  if (ops === undefined) return undefined;
  if (!Array.isArray(ops) || ops.length > 16 || !ops.every((op) => typeof op === 'string' && op.length <= 64)) {
    throw invalid(FIELD, '"key_ops" is not a short list of names');
  }
  return ops as string[];
};

/** RFC 7638 section 3: the required members in lexicographic order, as the parsers above give them. */
const thumbprintOf = (jwk: CallerJwk['jwk']): string => encodeBase64url(hash('sha256', JSON.stringify(jwk), 'buffer'));

export const parsePublicJwk = (json: string): CallerJwk => {
  const pem = isPem(json) ? jwkOfPem(json) : undefined;
  if (pem === undefined && isPem(json)) throw invalid(FIELD, 'not a public key in PEM that this agent knows');
  const members = pem ?? parseJsonObject(json);
  if (members === undefined) throw invalid(FIELD, 'not a JSON object without repeated members');
  const secret = PRIVATE_MEMBERS.find((name) => name in members);
  if (secret !== undefined) throw invalid(FIELD, `holds the private member "${secret}"; send the public key only`);
  const parsed = parseKey(members);
  return {
    ...parsed,
    isPem: pem !== undefined,
    thumbprint: thumbprintOf(parsed.jwk),
    kid: text(members, 'kid', MAX_KID_BYTES),
    alg: text(members, 'alg', 64),
    use: text(members, 'use', 64),
    keyOps: parseKeyOps(members),
  };
};

/** Refuses a key that its owner has marked for something else (RFC 7517 sections 4.2 and 4.3). */
export const requireUse = (jwk: CallerJwk, use: 'enc' | 'sig', operations: readonly string[]): void => {
  if (jwk.use !== undefined && jwk.use !== use) throw invalid(FIELD, `"use" is not "${use}"`);
  if (jwk.keyOps !== undefined && !operations.some((op) => jwk.keyOps?.includes(op))) {
    throw invalid(FIELD, `"key_ops" names none of ${operations.join(', ')}`);
  }
};
