// Issuers with real keys, tokens of theirs, and a clock that tests set.
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import type { Issuer } from '../../../agent/identity/types.ts';

export const NOW = Date.UTC(2026, 0, 15, 12);

export const testClock = (start = NOW) => {
  let at = start;
  return {
    now: () => at,
    advance: (ms: number) => {
      at += ms;
    },
  };
};

export interface Signer {
  readonly alg: string;
  readonly kid: string;
  readonly privateKey: CryptoKey;
  readonly jwk: object;
}

export const makeSigner = async (alg: string, kid = `kid-${alg}`): Promise<Signer> => {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return { alg, kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg } };
};

export const issuerOf = (signers: readonly Signer[], change: Partial<Issuer> = {}): Issuer => ({
  issuer: 'https://issuer.example',
  audiences: ['mortise'],
  jwks: { keys: signers.map(({ jwk }) => jwk) },
  tenants: ['blue', 'green'],
  tenantClaim: 'tenant',
  scopesClaim: 'scope',
  maxLifetimeSeconds: 600,
  singleUse: false,
  ...change,
});

export const claimsOf = (change: JWTPayload = {}): JWTPayload => ({
  iss: 'https://issuer.example',
  aud: 'mortise',
  sub: 'payments',
  tenant: 'blue',
  scope: 'crypto.encrypt crypto.decrypt',
  iat: NOW / 1000,
  nbf: NOW / 1000,
  exp: NOW / 1000 + 300,
  ...change,
});

export const sign = (
  { alg, kid, privateKey }: Signer,
  claims: JWTPayload = claimsOf(),
  header: Record<string, unknown> = {},
): Promise<string> => new SignJWT(claims).setProtectedHeader({ alg, kid, ...header }).sign(privateKey);
