// Verification of a signature over a digest, which node:crypto offers only over messages. All inputs are public, so
// nothing here needs constant time. Curve and RSA arithmetic is OpenSSL's; only the encodings are checked here.
import { constants, createECDH, createHash, type KeyObject, publicDecrypt } from 'node:crypto';
import { decodeBase64url } from './base64url.ts';
import { CURVES, type Curve } from './curves.ts';
import type { DigestName } from './signature-algorithms.ts';

/** DER of DigestInfo up to the digest (RFC 8017 section 9.2 note 1). */
const DIGEST_INFO: Readonly<Record<DigestName, Buffer>> = {
  sha256: Buffer.from('3031300d060960864801650304020105000420', 'hex'),
  sha384: Buffer.from('3041300d060960864801650304020205000430', 'hex'),
  sha512: Buffer.from('3051300d060960864801650304020305000440', 'hex'),
};

/** RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.2): OpenSSL checks the whole padding, the DigestInfo is compared whole. */
export const verifyPkcs1Digest = (key: KeyObject, name: DigestName, digest: Buffer, signature: Buffer): boolean => {
  try {
    const info = publicDecrypt({ key, padding: constants.RSA_PKCS1_PADDING }, signature);
    return info.equals(Buffer.concat([DIGEST_INFO[name], digest]));
  } catch {
    return false; // wrong padding or length
  }
};

const mgf1 = (name: DigestName, seed: Buffer, length: number): Buffer => {
  const blocks: Buffer[] = [];
  for (let counter = 0, made = 0; made < length; counter += 1) {
    const suffix = Buffer.alloc(4);
    suffix.writeUInt32BE(counter);
    const block = createHash(name).update(seed).update(suffix).digest();
    made += block.length;
    blocks.push(block);
  }
  return Buffer.concat(blocks).subarray(0, length);
};

/** EMSA-PSS-VERIFY with MGF1 of the same hash and a salt as long as the hash (RFC 8017 section 9.1.2, RFC 7518 3.5). */
const isPssEncoding = (name: DigestName, digest: Buffer, encoded: Buffer, bits: number): boolean => {
  const hashBytes = digest.length;
  const length = Math.ceil(bits / 8);
  // The RSA block is one byte longer than the encoding where bits is a multiple of 8.
  if (encoded.subarray(0, encoded.length - length).some((byte) => byte !== 0)) return false;
  const em = encoded.subarray(encoded.length - length);
  if (length < 2 * hashBytes + 2 || em.at(-1) !== 0xbc) return false;
  const masked = em.subarray(0, length - hashBytes - 1);
  const check = em.subarray(length - hashBytes - 1, length - 1);
  const unused = 8 * length - bits;
  if ((masked[0] as number) >> (8 - unused) !== 0) return false;
  const mask = mgf1(name, check, masked.length);
  const block = Buffer.from(masked.map((byte, index) => byte ^ (mask[index] as number)));
  block[0] = (block[0] as number) & (0xff >> unused);
  const separator = block.length - hashBytes - 1;
  if (block.subarray(0, separator).some((byte) => byte !== 0) || block[separator] !== 1) return false;
  const salt = block.subarray(separator + 1);
  return createHash(name).update(Buffer.alloc(8)).update(digest).update(salt).digest().equals(check);
};

export const verifyPssDigest = (key: KeyObject, name: DigestName, digest: Buffer, signature: Buffer): boolean => {
  const modulusBits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  try {
    const encoded = publicDecrypt({ key, padding: constants.RSA_NO_PADDING }, signature);
    return isPssEncoding(name, digest, encoded, modulusBits - 1);
  } catch {
    return false; // wrong length or not below the modulus
  }
};

/** Field prime and group order of y² = x³ − 3x + b (SP 800-186 section 3.2.1). */
const FIELDS: Readonly<Record<Curve['crv'], { p: bigint; n: bigint }>> = {
  'P-256': {
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    n: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  },
  'P-384': {
    p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    n: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  },
  'P-521': {
    p: 2n ** 521n - 1n,
    n: 0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
  },
};

const mod = (value: bigint, modulus: bigint): bigint => ((value % modulus) + modulus) % modulus;

/** Inverse by the extended Euclidean algorithm; the modulus is prime and the value not a multiple of it. */
const inverse = (value: bigint, modulus: bigint): bigint => {
  let [r0, r1, s0, s1] = [modulus, mod(value, modulus), 0n, 1n];
  while (r1 !== 0n) {
    const quotient = r0 / r1;
    [r0, r1, s0, s1] = [r1, r0 - quotient * r1, s1, s0 - quotient * s1];
  }
  return mod(s0, modulus);
};

const toInteger = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString('hex') || '0'}`);
const toBytes = (value: bigint, length: number): Buffer =>
  Buffer.from(value.toString(16).padStart(length * 2, '0'), 'hex');

type Point = readonly [x: bigint, y: bigint];

/** Affine addition; undefined is the point at infinity. */
const add = (p: bigint, [x1, y1]: Point, [x2, y2]: Point): Point | undefined => {
  if (x1 === x2 && mod(y1 + y2, p) === 0n) return undefined;
  const slope = x1 === x2 ? (3n * x1 * x1 - 3n) * inverse(2n * y1, p) : (y2 - y1) * inverse(x2 - x1, p);
  const x = mod(slope * slope - x1 - x2, p);
  return [x, mod(slope * (x1 - x) - y1, p)];
};

const pointOf = (bytes: Buffer, size: number): Point => [
  toInteger(bytes.subarray(1, 1 + size)),
  toInteger(bytes.subarray(1 + size)),
];

/**
 * ECDSA (FIPS 186-5 section 6.4.2) with u1·G + u2·Q written as u2·(t·G + Q), t = e/r: both multiplications are then
 * OpenSSL's ECDH, and one addition remains.
 */
export const verifyEcdsaDigest = (key: KeyObject, digest: Buffer, signature: Buffer): boolean => {
  const jwk = key.export({ format: 'jwk' });
  const curve = CURVES.get(jwk.crv ?? '');
  const [qx, qy] = [decodeBase64url(jwk.x ?? ''), decodeBase64url(jwk.y ?? '')];
  if (curve === undefined || qx === undefined || qy === undefined) return false;
  const { p, n } = FIELDS[curve.crv];
  if (signature.length !== 2 * curve.bytes) return false;
  const [r, s] = [toInteger(signature.subarray(0, curve.bytes)), toInteger(signature.subarray(curve.bytes))];
  if (r === 0n || s === 0n || r >= n || s >= n) return false;
  // FIPS 186-5 section 6.4.2 step 2: the leftmost bits of the digest. No digest of ours is longer than its order.
  const t = mod(toInteger(digest) * inverse(r, n), n);
  const own: Point = [toInteger(qx), toInteger(qy)];
  const ecdh = createECDH(curve.openssl);
  let sum: Point | undefined = own;
  if (t !== 0n) {
    ecdh.setPrivateKey(toBytes(t, curve.bytes));
    sum = add(p, pointOf(ecdh.getPublicKey(), curve.bytes), own);
  }
  if (sum === undefined) return false;
  ecdh.setPrivateKey(toBytes(mod(r * inverse(s, n), n), curve.bytes));
  const point = Buffer.concat([Buffer.of(4), toBytes(sum[0], curve.bytes), toBytes(sum[1], curve.bytes)]);
  return mod(toInteger(ecdh.computeSecret(point)), n) === r;
};
