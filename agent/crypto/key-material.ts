// Key material that was made elsewhere, out of a JWE that was opened for it: a private or secret JWK, or bare bytes.
// Invariant: what leaves here is one whole key of exactly the algorithm and size asked for, its private part belonging to
// its public part, in the form of TokenPort.create. The parts given out are the receiver's to wipe.
import { checkPrime, createECDH, createPrivateKey, createPublicKey } from 'node:crypto';
import { promisify } from 'node:util';
import { MIN_HMAC_BITS, MIN_RSA_BITS } from '../../proto/documents/algorithms.ts';
import { AgentError, invalid } from '../errors.ts';
import { decodeBase64url } from './base64url.ts';
import { CURVES, ecPublicKey } from './curves.ts';
import { type JsonObject, parseJsonObject } from './strict-json.ts';

const FIELD = 'wrapped_key';
const MAX_PART_BYTES = 1024;
const MAX_HMAC_BYTES = 128; // the block of SHA-512; longer keys are hashed first (RFC 2104 section 2)
const isPrime = promisify(checkPrime) as (candidate: bigint) => Promise<boolean>;

export interface KeyMaterial {
  readonly parts: readonly Buffer[];
  /** Absent for secret keys. */
  readonly publicJwk?: Readonly<Record<string, string>>;
}

const bad = (description: string): AgentError => invalid(FIELD, description);

/** A JWK and the bytes that were decoded out of it, so that they can be wiped where it is refused. */
interface Opened {
  readonly jwk: JsonObject;
  readonly taken: Buffer[];
}

const part = ({ jwk, taken }: Opened, name: string): Buffer => {
  const value = jwk[name];
  const bytes = typeof value === 'string' ? decodeBase64url(value) : undefined;
  if (bytes === undefined || bytes.length === 0 || bytes.length > MAX_PART_BYTES) {
    throw bad(`"${name}" is not 1 to ${MAX_PART_BYTES} bytes in canonical base64url`);
  }
  taken.push(bytes);
  return bytes;
};

/** RFC 7518 section 2, Base64urlUInt: without a leading zero byte. */
const integer = (opened: Opened, name: string): Buffer => {
  const bytes = part(opened, name);
  if (bytes[0] === 0) throw bad(`"${name}" begins with a zero byte`);
  return bytes;
};
const numberOf = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString('hex')}`);

const secretOf = (algorithm: string, bytes: Buffer): KeyMaterial => {
  const bits = Number(algorithm.slice(-3));
  if (algorithm.startsWith('AES-') && bytes.length * 8 !== bits) throw bad(`is ${bytes.length * 8} bits, not ${bits}`);
  if (algorithm.startsWith('HMAC-')) {
    if (bytes.length * 8 < MIN_HMAC_BITS) {
      throw new AgentError('ALGORITHM_FORBIDDEN', { message: `an HMAC key below ${MIN_HMAC_BITS} bits is forbidden` });
    }
    // RFC 7518 section 3.2: at least as long as the hash.
    if (bytes.length * 8 < bits || bytes.length > MAX_HMAC_BYTES) {
      throw bad(`is ${bytes.length} bytes; ${algorithm} takes ${bits / 8} to ${MAX_HMAC_BYTES}`);
    }
  }
  if (bytes.every((byte) => byte === bytes[0])) throw bad('is one byte repeated');
  return { parts: [Buffer.from(bytes)] };
};

const ecOf = (algorithm: string, opened: Opened): KeyMaterial => {
  const { jwk } = opened;
  const curve = [...CURVES.values()].find((row) => row.algorithm === algorithm);
  const open = curve?.crv === jwk['crv'] ? ecPublicKey(jwk) : undefined;
  if (curve === undefined || open === undefined) throw bad(`"crv", "x" and "y" are not a point of ${algorithm}`);
  const d = part(opened, 'd');
  if (d.length !== curve.bytes) throw bad(`"d" is not ${curve.bytes} bytes`);
  const ecdh = createECDH(curve.openssl);
  try {
    ecdh.setPrivateKey(d); // refuses 0 and what is not below the order
  } catch {
    throw bad('"d" is not a private key of the curve');
  }
  if (!ecdh.getPublicKey().equals(open.point)) throw bad('"d" does not belong to "x" and "y"');
  const { x, y } = jwk as Record<string, string>;
  return { parts: [open.point, d], publicJwk: { kty: 'EC', crv: curve.crv, x: x as string, y: y as string } };
};

const ed25519Of = (opened: Opened): KeyMaterial => {
  const { jwk } = opened;
  const [x, d] = [part(opened, 'x'), part(opened, 'd')];
  if (jwk['crv'] !== 'Ed25519' || x.length !== 32 || d.length !== 32) throw bad('is not an Ed25519 key');
  const key = { kty: 'OKP', crv: 'Ed25519', x: jwk['x'] as string, d: jwk['d'] as string };
  const derived = createPublicKey(createPrivateKey({ key, format: 'jwk' })).export({ format: 'jwk' });
  if (derived.x !== key.x) throw bad('"d" does not belong to "x"');
  return { parts: [x, d], publicJwk: { kty: 'OKP', crv: 'Ed25519', x: key.x } };
};

/** FIPS 186-5 appendix A.1.1 and SP 800-56B section 6.4.1: two primes, far apart, and numbers that fit each other. */
const checkRsa = async (values: readonly bigint[], bits: number): Promise<boolean> => {
  const [n, e, d, p, q, dp, dq, qi] = values as [bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint];
  const distance = p > q ? p - q : q - p;
  const fits =
    p * q === n &&
    distance >> BigInt(bits / 2 - 100) > 0n &&
    (e & 1n) === 1n &&
    e >= 65537n &&
    e < 2n ** 64n &&
    d >> BigInt(bits / 2) > 0n &&
    d < n &&
    (e * d) % (p - 1n) === 1n &&
    (e * d) % (q - 1n) === 1n &&
    dp === d % (p - 1n) &&
    dq === d % (q - 1n) &&
    qi < p &&
    (qi * q) % p === 1n;
  return fits && (await isPrime(p)) && (await isPrime(q));
};

const rsaOf = async (algorithm: string, opened: Opened): Promise<KeyMaterial> => {
  const { jwk } = opened;
  if (jwk['oth'] !== undefined) throw bad('has more than two primes');
  const parts = ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'].map((name) => integer(opened, name));
  const bits = numberOf(parts[0] as Buffer).toString(2).length;
  if (bits < MIN_RSA_BITS) {
    throw new AgentError('ALGORITHM_FORBIDDEN', { message: `an RSA key below ${MIN_RSA_BITS} bits is forbidden` });
  }
  if (`RSA-${bits}` !== algorithm) throw bad(`is an RSA key of ${bits} bits, not ${algorithm}`);
  if (!(await checkRsa(parts.map(numberOf), bits))) throw bad('the numbers of the RSA key do not fit each other');
  const { n, e } = jwk as Record<string, string>;
  return { parts, publicJwk: { kty: 'RSA', n: n as string, e: e as string } };
};

const KTY: readonly (readonly [prefix: string, kty: string])[] = [
  ['AES-', 'oct'],
  ['HMAC-', 'oct'],
  ['RSA-', 'RSA'],
  ['EC-', 'EC'],
  ['Ed25519', 'OKP'],
];

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const parseJwk = (bytes: Buffer, algorithm: string, jose: string): JsonObject => {
  let text = '';
  try {
    text = UTF8.decode(bytes);
  } catch {
    throw bad('the JWK is not UTF-8');
  }
  const jwk = parseJsonObject(text);
  if (jwk === undefined) throw bad('the JWK is not a JSON object without repeated members');
  const kty = KTY.find(([prefix]) => algorithm.startsWith(prefix))?.[1];
  if (kty === undefined || jwk['kty'] !== kty) throw bad(`"kty" is not that of ${algorithm}`);
  if (jwk['alg'] !== undefined && jwk['alg'] !== jose) throw bad(`"alg" is not "${jose}"`);
  return jwk;
};

const materialOf = (algorithm: string, opened: Opened): Promise<KeyMaterial> | KeyMaterial => {
  if (algorithm.startsWith('RSA-')) return rsaOf(algorithm, opened);
  if (algorithm.startsWith('EC-')) return ecOf(algorithm, opened);
  if (algorithm === 'Ed25519') return ed25519Of(opened);
  const secret = part(opened, 'k');
  const material = secretOf(algorithm, secret);
  secret.fill(0);
  return material;
};

/** `isJwk`: the bytes are a JWK; else they are the key itself, which only secret keys can be. */
export const readKeyMaterial = async (
  bytes: Buffer,
  what: { readonly algorithm: string; readonly jose: string; readonly isJwk: boolean },
): Promise<KeyMaterial> => {
  const { algorithm, jose, isJwk } = what;
  const isSecret = algorithm.startsWith('AES-') || algorithm.startsWith('HMAC-');
  if (!isJwk) {
    if (!isSecret) throw bad(`${algorithm} comes as a JWK: the header of the JWE needs "cty":"jwk+json"`);
    return secretOf(algorithm, bytes);
  }
  const opened: Opened = { jwk: parseJwk(bytes, algorithm, jose), taken: [] };
  try {
    return await materialOf(algorithm, opened);
  } catch (error) {
    for (const bytesOfPart of opened.taken) bytesOfPart.fill(0);
    throw error;
  }
};
