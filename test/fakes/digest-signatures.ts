// Signatures over a digest with a private key in memory, which node:crypto does not offer: what a token does inside.
// Test code: not constant time.
import { constants, createECDH, createHash, hash, type KeyObject, privateEncrypt, randomBytes } from 'node:crypto';

const DIGEST_INFO: Readonly<Record<string, string>> = {
  sha256: '3031300d060960864801650304020105000420',
  sha384: '3041300d060960864801650304020205000430',
  sha512: '3051300d060960864801650304020305000440',
};

export const signDigestPkcs1 = (key: KeyObject, name: string, digest: Buffer): Buffer =>
  privateEncrypt(
    { key, padding: constants.RSA_PKCS1_PADDING },
    Buffer.concat([Buffer.from(DIGEST_INFO[name] as string, 'hex'), digest]),
  );

const mgf1 = (name: string, seed: Buffer, length: number): Buffer => {
  const blocks: Buffer[] = [];
  for (let counter = 0; blocks.length * 32 < length + 64; counter += 1) {
    blocks.push(
      createHash(name)
        .update(seed)
        .update(Buffer.of(0, 0, counter >> 8, counter & 255))
        .digest(),
    );
  }
  return Buffer.concat(blocks).subarray(0, length);
};

/** EMSA-PSS-ENCODE (RFC 8017 section 9.1.1) with a salt as long as the hash; the modulus is a multiple of 8 bits. */
export const signDigestPss = (key: KeyObject, name: string, digest: Buffer): Buffer => {
  const length = (key.asymmetricKeyDetails?.modulusLength ?? 0) / 8;
  const salt = randomBytes(digest.length);
  const check = hash(name, Buffer.concat([Buffer.alloc(8), digest, salt]), 'buffer');
  const block = Buffer.concat([Buffer.alloc(length - 2 * digest.length - 2), Buffer.of(1), salt]);
  const mask = mgf1(name, check, block.length);
  block.forEach((byte, index) => {
    block[index] = byte ^ (mask[index] as number);
  });
  block[0] = (block[0] as number) & 0x7f;
  return privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, Buffer.concat([block, check, Buffer.of(0xbc)]));
};

const ORDERS: Readonly<Record<string, readonly [openssl: string, bytes: number, order: bigint]>> = {
  'P-256': ['prime256v1', 32, 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n],
  'P-384': [
    'secp384r1',
    48,
    0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  ],
  'P-521': [
    'secp521r1',
    66,
    0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
  ],
};

const power = (base: bigint, exponent: bigint, modulus: bigint): bigint => {
  let [result, square] = [1n, base % modulus];
  for (let left = exponent; left > 0n; left >>= 1n) {
    if (left & 1n) result = (result * square) % modulus;
    square = (square * square) % modulus;
  }
  return result;
};

const integer = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString('hex')}`);

/** ECDSA (FIPS 186-5 section 6.4.1), r || s. */
export const signDigestEcdsa = (key: KeyObject, digest: Buffer): Buffer => {
  const jwk = key.export({ format: 'jwk' });
  const [openssl, bytes, n] = ORDERS[jwk.crv as string] as readonly [string, number, bigint];
  const d = integer(Buffer.from(jwk.d as string, 'base64url'));
  const nonce = createECDH(openssl);
  const x = nonce.generateKeys().subarray(1, 1 + bytes);
  const r = integer(x) % n;
  const k = integer(nonce.getPrivateKey());
  const s = (power(k, n - 2n, n) * ((integer(digest) + r * d) % n)) % n;
  return Buffer.from([r, s].map((part) => part.toString(16).padStart(bytes * 2, '0')).join(''), 'hex');
};
