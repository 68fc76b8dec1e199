// The post-quantum and hybrid KEMs that keys encrypt with: their halves, sizes and labels, and the public key of a seed.
// Hybrids of HPKE are those of draft-ietf-hpke-pq; RSA pairs are the composite ML-KEM of the LAMPS working group.
import { createECDH, createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import type { PublicJwk } from './key-record.ts';
import { ML_KEM, ML_KEM_SEED_BYTES, type MlKem, mlKemPublicBytes } from './ml-kem.ts';

export type ClassicalHalf =
  | {
      readonly kind: 'ec';
      readonly openssl: 'prime256v1' | 'secp384r1';
      readonly bytes: number;
      readonly order: Buffer;
      /** Of the expanded seed, from which scalars are tried one after the other. */
      readonly seedBytes: number;
    }
  | { readonly kind: 'x25519'; readonly bytes: 32; readonly seedBytes: 32 }
  | { readonly kind: 'rsa'; readonly bits: 2048 | 3072 | 4096 };

export interface PqKem {
  /** In the algorithm table. */
  readonly id: string;
  readonly pqc: MlKem;
  /** Absent: ML-KEM by itself. */
  readonly classical?: ClassicalHalf;
  /** What the combiner separates its uses by; empty without a classical half. */
  readonly label: Buffer;
  /** In the HPKE registry of KEMs; absent for RSA pairs, which HPKE does not have. */
  readonly hpkeId?: number;
  /** Private bytes where all of the key is wrapped; absent where it cannot be. */
  readonly seedBytes?: number;
  /** Of the classical part of a ciphertext. */
  readonly classicalCiphertextBytes: number;
}

const P256: ClassicalHalf = {
  kind: 'ec',
  openssl: 'prime256v1',
  bytes: 32,
  order: Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex'),
  seedBytes: 128,
};
const P384: ClassicalHalf = {
  kind: 'ec',
  openssl: 'secp384r1',
  bytes: 48,
  order: Buffer.from(
    'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
    'hex',
  ),
  seedBytes: 48,
};
const X25519: ClassicalHalf = { kind: 'x25519', bytes: 32, seedBytes: 32 };
const HYBRID_SEED_BYTES = 32;

const pure = (id: MlKem['id'], hpkeId: number): PqKem => ({
  id,
  pqc: ML_KEM[id],
  label: Buffer.alloc(0),
  hpkeId,
  seedBytes: ML_KEM_SEED_BYTES,
  classicalCiphertextBytes: 0,
});

const hybrid = (id: string, pqc: MlKem, classical: ClassicalHalf, label: string, hpkeId: number): PqKem => ({
  id,
  pqc,
  classical,
  label: Buffer.from(label, 'ascii'),
  hpkeId,
  seedBytes: HYBRID_SEED_BYTES,
  classicalCiphertextBytes: classical.kind === 'ec' ? 1 + 2 * classical.bytes : 32,
});

/** draft-ietf-lamps-pq-composite-kem has 768 with all three and 1024 with 3072; the other labels follow their pattern. */
const rsaPair = (set: 768 | 1024, bits: 2048 | 3072 | 4096): PqKem => ({
  id: `ML-KEM-${set}-RSA${bits}`,
  pqc: ML_KEM[`ML-KEM-${set}`],
  classical: { kind: 'rsa', bits },
  label: Buffer.from(`MLKEM${set}-RSAOAEP${bits}`, 'ascii'),
  classicalCiphertextBytes: bits / 8,
});

export const PQ_KEMS: ReadonlyMap<string, PqKem> = new Map(
  [
    pure('ML-KEM-768', 0x0041),
    pure('ML-KEM-1024', 0x0042),
    hybrid('ML-KEM-768-P256', ML_KEM['ML-KEM-768'], P256, 'MLKEM768-P256', 0x0050),
    hybrid('ML-KEM-768-X25519', ML_KEM['ML-KEM-768'], X25519, '\\.//^\\', 0x647a), // X-Wing
    hybrid('ML-KEM-1024-P384', ML_KEM['ML-KEM-1024'], P384, 'MLKEM1024-P384', 0x0051),
    ...([768, 1024] as const).flatMap((set) => ([2048, 3072, 4096] as const).map((bits) => rsaPair(set, bits))),
  ].map((row) => [row.id, row]),
);

// PrivateKeyInfo of RFC 8410 section 7 up to the 32 bytes of the key.
const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex');

export const x25519PrivateKey = (bytes: Uint8Array): KeyObject => {
  const key = Buffer.concat([X25519_PKCS8, bytes]);
  try {
    return createPrivateKey({ key, format: 'der', type: 'pkcs8' });
  } finally {
    key.fill(0);
  }
};

export const x25519PublicJwk = (bytes: Uint8Array): PublicJwk => {
  const { x } = createPublicKey(x25519PrivateKey(bytes)).export({ format: 'jwk' });
  return { kty: 'OKP', crv: 'X25519', x: x as string };
};

const ZERO_P384 = Buffer.alloc(48);

/** The first of the seed's windows that is a scalar: 1 to order - 1. None has a chance below 2^-128. */
const scalarOf = (half: ClassicalHalf & { kind: 'ec' }, seed: Buffer): Buffer => {
  for (let at = 0; at + half.bytes <= seed.length; at += half.bytes) {
    const scalar = seed.subarray(at, at + half.bytes);
    if (!scalar.equals(ZERO_P384.subarray(0, half.bytes)) && scalar.compare(half.order) < 0) return Buffer.from(scalar);
  }
  throw new RangeError('the seed holds no scalar');
};

/** Private parts of a key that is wrapped whole; the receiver's to wipe. */
export interface PrivateParts {
  /** d || z. */
  readonly pqc: Buffer;
  /** Scalar of the curve, or the X25519 key. */
  readonly classical?: Buffer;
}

/** Expands the seed of draft-irtf-cfrg-concrete-hybrid-kems by SHAKE256; the seed of a pure ML-KEM is its own. */
export const privateParts = ({ id, classical, seedBytes }: PqKem, seed: Uint8Array): PrivateParts => {
  if (seed.length !== seedBytes) throw new RangeError(`${id}: a seed of ${seed.length} bytes`);
  if (classical === undefined) return { pqc: Buffer.from(seed) };
  if (classical.kind === 'rsa') throw new TypeError(`${id} has no seed`);
  const outputLength = ML_KEM_SEED_BYTES + classical.seedBytes;
  const expanded = createHash('shake256', { outputLength }).update(seed).digest();
  try {
    const rest = expanded.subarray(ML_KEM_SEED_BYTES);
    return {
      pqc: Buffer.from(expanded.subarray(0, ML_KEM_SEED_BYTES)),
      classical: classical.kind === 'ec' ? scalarOf(classical, rest) : Buffer.from(rest),
    };
  } finally {
    expanded.fill(0);
  }
};

const classicalPublic = (half: ClassicalHalf, bytes: Buffer): Buffer => {
  if (half.kind === 'x25519') return Buffer.from(x25519PublicJwk(bytes)['x'] ?? '', 'base64url');
  if (half.kind === 'rsa') throw new TypeError('an RSA half has no seed');
  const ecdh = createECDH(half.openssl);
  ecdh.setPrivateKey(bytes);
  return ecdh.getPublicKey();
};

/** Public key of a key that is wrapped whole: the encapsulation key of ML-KEM, then the classical one. */
export const kemPublicBytes = (row: PqKem, seed: Uint8Array): Buffer => {
  const parts = privateParts(row, seed);
  try {
    const pqc = mlKemPublicBytes(row.pqc, parts.pqc);
    const { classical } = row;
    return classical === undefined || parts.classical === undefined
      ? pqc
      : Buffer.concat([pqc, classicalPublic(classical, parts.classical)]);
  } finally {
    parts.pqc.fill(0);
    parts.classical?.fill(0);
  }
};
