// Post-quantum signature keys as OpenSSL and JOSE have them: sizes, object identifiers, and the way from private bytes
// to key objects and AKP JWKs (RFC 9964). Private bytes: the seed xi of ML-DSA (FIPS 204 section 6.1); of SLH-DSA
// SK.seed || SK.prf || PK.seed || PK.root (FIPS 205 section 9.1).
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import type { PublicJwk } from './key-record.ts';

export interface PqSignature {
  /** Algorithm id, JOSE name and `alg` of the JWK in one. */
  readonly id: string;
  readonly family: 'ml-dsa' | 'slh-dsa';
  /** Random bytes that a key pair is derived from. */
  readonly seedBytes: number;
  readonly privateBytes: number;
  readonly publicBytes: number;
  readonly signatureBytes: number;
  /** PrivateKeyInfo (RFC 5208) up to the private bytes. */
  readonly pkcs8: Buffer;
}

const der = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const head = length < 128 ? [tag, length] : [tag, 0x81, length];
  return Buffer.concat([Buffer.from(head), ...parts]);
};

/** NIST's signature algorithms are 2.16.840.1.101.3.4.3.<last>. */
const pkcs8Prefix = (last: number, privateBytes: number, seedTag: readonly number[]): Buffer => {
  const oid = Buffer.from([0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, last]);
  const key = Buffer.concat([Buffer.from(seedTag), Buffer.alloc(privateBytes)]);
  const whole = der(0x30, Buffer.of(0x02, 0x01, 0x00), der(0x30, oid), der(0x04, key));
  return whole.subarray(0, whole.length - privateBytes);
};

const ML_DSA_SETS = [
  { set: 44, last: 17, publicBytes: 1312, signatureBytes: 2420 },
  { set: 65, last: 18, publicBytes: 1952, signatureBytes: 3309 },
  { set: 87, last: 19, publicBytes: 2592, signatureBytes: 4627 },
] as const;

const mlDsa = ML_DSA_SETS.map(
  ({ set, last, publicBytes, signatureBytes }): PqSignature => ({
    id: `ML-DSA-${set}`,
    family: 'ml-dsa',
    seedBytes: 32,
    privateBytes: 32,
    publicBytes,
    signatureBytes,
    pkcs8: pkcs8Prefix(last, 32, [0x80, 0x20]), // seed [0] of RFC 9881 section 6
  }),
);

/** FIPS 205 table 2; the object identifiers follow the same order from 20 on, first SHA2, then SHAKE. */
const SLH_DSA_SETS = [
  { set: '128s', n: 16, signatureBytes: 7856 },
  { set: '128f', n: 16, signatureBytes: 17_088 },
  { set: '192s', n: 24, signatureBytes: 16_224 },
  { set: '192f', n: 24, signatureBytes: 35_664 },
  { set: '256s', n: 32, signatureBytes: 29_792 },
  { set: '256f', n: 32, signatureBytes: 49_856 },
] as const;

const slhDsa = (['SHA2', 'SHAKE'] as const).flatMap((hash, family) =>
  SLH_DSA_SETS.map(
    ({ set, n, signatureBytes }, index): PqSignature => ({
      id: `SLH-DSA-${hash}-${set}`,
      family: 'slh-dsa',
      seedBytes: 3 * n,
      privateBytes: 4 * n,
      publicBytes: 2 * n,
      signatureBytes,
      pkcs8: pkcs8Prefix(20 + SLH_DSA_SETS.length * family + index, 4 * n, []),
    }),
  ),
);

export const PQ_SIGNATURES: ReadonlyMap<string, PqSignature> = new Map(
  [...mlDsa, ...slhDsa].map((row) => [row.id, row]),
);

/** Throws a RangeError where the private bytes are not those of the algorithm; they stay the caller's to wipe. */
export const pqPrivateKey = (row: PqSignature, bytes: Uint8Array): KeyObject => {
  if (bytes.length !== row.privateBytes) throw new RangeError(`${row.id}: ${bytes.length} private bytes`);
  const key = Buffer.concat([row.pkcs8, bytes]);
  try {
    return createPrivateKey({ key, format: 'der', type: 'pkcs8' });
  } finally {
    key.fill(0);
  }
};

/** An AKP JWK of a public key. */
export const akpJwk = (alg: string, publicKey: Uint8Array): PublicJwk => ({
  kty: 'AKP',
  alg,
  pub: Buffer.from(publicKey).toString('base64url'),
});

/** The public JWK of private bytes. */
export const pqPublicJwk = (row: PqSignature, bytes: Uint8Array): PublicJwk => {
  // A part of the private key; OpenSSL would take a root that is not the tree's.
  if (row.family === 'slh-dsa') return akpJwk(row.id, bytes.subarray(bytes.length - row.publicBytes));
  const { pub } = createPublicKey(pqPrivateKey(row, bytes)).export({ format: 'jwk' });
  return { kty: 'AKP', alg: row.id, pub: pub as string };
};
