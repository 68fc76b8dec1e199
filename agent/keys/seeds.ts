// Key material that lives outside the token: how many random bytes a key is made of, how they are drawn, what of it is
// wrapped, and its public key. docs/spec/wrapped-key.md says it in words.
import { createPrivateKey, createPublicKey, randomFillSync } from 'node:crypto';
import { algorithm as algorithmRow } from '../../proto/documents/algorithms.ts';
import { FN_DSA_SIGNATURES } from '../../proto/documents/fn-dsa.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { ML_KEM_SEED_BYTES, mlKemPublicBytes } from '../../proto/documents/ml-kem.ts';
import { kemPublicBytes, PQ_KEMS, x25519PublicJwk } from '../../proto/documents/pq-kems.ts';
import { akpJwk, PQ_SIGNATURES, pqPublicJwk } from '../../proto/documents/pq-signatures.ts';
import type { TokenCall } from './token.ts';

/** What the vault holds of a key: all of it, or the post-quantum half of a composite. */
export type VaultCustody = 'wrapped' | 'split';

/** Derives private bytes that are not the seed itself; it may take seconds. */
export type DeriveMaterial = (
  algorithm: string,
  seed: Buffer,
  call: TokenCall,
) => Promise<{ readonly material: Buffer; readonly publicJwk: PublicJwk }>;

export interface SeedRow {
  /** Random bytes that the key is made of. */
  readonly seedBytes: number;
  /** Private bytes, which are what is wrapped. */
  readonly bytes: number;
  /** The public key where the private bytes are the seed itself; absent where they are derived from it. */
  readonly publicJwk?: (seed: Buffer) => PublicJwk;
}

// PrivateKeyInfo of RFC 8410 section 7 up to the 32 bytes of the seed.
const ED25519_PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');

const ed25519Public = (seed: Buffer): PublicJwk => {
  const der = Buffer.concat([ED25519_PKCS8, seed]);
  try {
    const jwk = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })).export({ format: 'jwk' });
    return { kty: 'OKP', crv: 'Ed25519', x: jwk.x as string };
  } finally {
    der.fill(0);
  }
};

const ED25519: SeedRow = { seedBytes: 32, bytes: 32, publicJwk: ed25519Public };

const pqRow = (id: string): SeedRow | undefined => {
  const falcon = FN_DSA_SIGNATURES.get(id);
  if (falcon !== undefined) return { seedBytes: falcon.seedBytes, bytes: falcon.privateBytes };
  const row = PQ_SIGNATURES.get(id);
  if (row === undefined) return undefined;
  const { seedBytes, privateBytes: bytes } = row;
  return row.family === 'ml-dsa'
    ? { seedBytes, bytes, publicJwk: (seed) => pqPublicJwk(row, seed) }
    : { seedBytes, bytes };
};

/** Both halves in one blob, as the private key of the composite's JWK has them: the ML-DSA seed, then that of Ed25519. */
const bothHalves = (jose: string, pqc: SeedRow): SeedRow => ({
  seedBytes: pqc.seedBytes + ED25519.seedBytes,
  bytes: pqc.bytes + ED25519.bytes,
  publicJwk: (seed) => {
    const pub = pqc.publicJwk?.(seed.subarray(0, pqc.seedBytes))['pub'] ?? '';
    const { x = '' } = ed25519Public(seed.subarray(pqc.seedBytes));
    return akpJwk(jose, Buffer.concat([Buffer.from(pub, 'base64url'), Buffer.from(x, 'base64url')]));
  },
});

const X25519: SeedRow = { seedBytes: 32, bytes: 32, publicJwk: x25519PublicJwk };

/** A KEM that is wrapped whole, or the ML-KEM half of one that is split. */
const kemRow = (id: string, custody: VaultCustody): SeedRow | undefined => {
  const kem = PQ_KEMS.get(id);
  if (kem === undefined) return undefined;
  const jose = algorithmRow(id)?.jose.encrypt?.[0] ?? '';
  if (custody === 'wrapped') {
    const { seedBytes: bytes } = kem;
    if (bytes === undefined) return undefined;
    return { seedBytes: bytes, bytes, publicJwk: (seed) => akpJwk(jose, kemPublicBytes(kem, seed)) };
  }
  if (kem.classical === undefined || kem.classical.kind === 'x25519') return undefined;
  const publicJwk = (seed: Buffer) => akpJwk(kem.pqc.id, mlKemPublicBytes(kem.pqc, seed));
  return { seedBytes: ML_KEM_SEED_BYTES, bytes: ML_KEM_SEED_BYTES, publicJwk };
};

/** What the vault holds of a key in a custody; undefined where it cannot. */
export const seedRow = (id: string, custody: VaultCustody): SeedRow | undefined => {
  if (id === 'Ed25519') return custody === 'wrapped' ? ED25519 : undefined;
  if (id === 'X25519') return custody === 'wrapped' ? X25519 : undefined;
  if (PQ_KEMS.has(id)) return kemRow(id, custody);
  const row = algorithmRow(id);
  const { components } = row ?? {};
  if (components === undefined) return custody === 'wrapped' ? pqRow(id) : undefined;
  const pqc = pqRow(components.pqc);
  if (custody === 'split' || pqc === undefined) return pqc;
  return components.classical === 'Ed25519' ? bothHalves(row?.jose.sign?.[0] ?? '', pqc) : undefined;
};

/**
 * Mixes the token's random bytes with the operating system's, in place: XOR of two independent sources is as good as
 * the better one (SP 800-133 rev. 2, section 6.3).
 */
export const mixWithSystemRandom = (fromToken: Buffer): void => {
  const fromSystem = randomFillSync(Buffer.allocUnsafe(fromToken.length));
  for (let at = 0; at < fromToken.length; at += 1) fromToken[at] = (fromToken[at] ?? 0) ^ (fromSystem[at] ?? 0);
  fromSystem.fill(0);
};
