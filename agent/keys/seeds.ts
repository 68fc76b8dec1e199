// Key material that lives outside the token: how long a seed is, how it is drawn, and its public key.
import { createPrivateKey, createPublicKey, randomFillSync } from 'node:crypto';
import type { PublicJwk } from '../../proto/documents/key-record.ts';

export interface SeedRow {
  readonly bytes: number;
  publicJwk(seed: Buffer): PublicJwk;
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

/** Algorithms that custody `wrapped` can hold. */
export const SEEDS: Readonly<Record<string, SeedRow>> = { Ed25519: { bytes: 32, publicJwk: ed25519Public } };

/**
 * Mixes the token's random bytes with the operating system's, in place: XOR of two independent sources is as good as
 * the better one (SP 800-133 rev. 2, section 6.3).
 */
export const mixWithSystemRandom = (fromToken: Buffer): void => {
  const fromSystem = randomFillSync(Buffer.alloc(fromToken.length));
  for (let at = 0; at < fromToken.length; at += 1) fromToken[at] = (fromToken[at] ?? 0) ^ (fromSystem[at] ?? 0);
  fromSystem.fill(0);
};
