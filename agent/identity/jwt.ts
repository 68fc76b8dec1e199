// Verifies bearer JWTs (RFC 7519, RFC 8725) against the issuers of the policy. Invariants: keys come from the policy's
// inlined JWKS alone; only asymmetric algorithms; every claim that decides anything is required and typed. The token
// is attacker-controlled until its signature verified, and of an honest issuer's making only then.
import { compactVerify, createLocalJWKSet, decodeJwt, decodeProtectedHeader, type JSONWebKeySet } from 'jose';
import { SCOPES, type Scope } from '../../proto/documents/operations.ts';
import type { Clock } from '../clock.ts';
import { AgentError, type Code } from '../errors.ts';
import { type Issuer, scopesOf } from './types.ts';

const TOKEN_LIMIT_BYTES = 8192; // a header value of the HTTP servers that callers usually sit behind
const TEXT_LIMIT = 255; // principals and ids stand in every audit record
const DEFAULT_SKEW_SECONDS = 5;

/** RFC 8725 section 3.1: the list is ours, never the token's. No `none`, no HS*: a JWKS must not become a secret. */
const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512'],
  ...['Ed25519', 'EdDSA', 'ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'],
];
/** RFC 8725 section 3.11: ID tokens, logout tokens and DPoP proofs of the same issuer must not pass as access tokens. */
const TYPES = [undefined, 'jwt', 'at+jwt', 'application/at+jwt'];
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const PRINTABLE = /^[^\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}]+$/u;

/** Times are milliseconds since 1970. */
export interface VerifiedToken {
  readonly issuer: string;
  readonly tenant: string;
  readonly principal: string;
  readonly scopes: ReadonlySet<Scope>;
  readonly id: string | undefined;
  readonly notBefore: number;
  readonly expiresAt: number;
  readonly singleUse: boolean;
}

const refuse = (reason: string, cause?: unknown, code: Code = 'UNAUTHENTICATED'): AgentError =>
  new AgentError(code, { cause: new Error(reason, cause === undefined ? undefined : { cause }) });

const text = (claims: Readonly<Record<string, unknown>>, name: string): string => {
  const value = claims[name];
  if (typeof value !== 'string' || value.length > TEXT_LIMIT || !PRINTABLE.test(value)) {
    throw refuse(`claim ${name} must be 1 to ${TEXT_LIMIT} printable characters`);
  }
  return value;
};

const seconds = (claims: Readonly<Record<string, unknown>>, name: string): number => {
  const value = claims[name];
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0 || value > 2 ** 40) {
    throw refuse(`claim ${name} must be a time`);
  }
  return value;
};

const stringsOf = (value: unknown): readonly string[] => {
  if (typeof value === 'string') return value.split(' ');
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
};

const checkTimes = (claims: Readonly<Record<string, unknown>>, issuer: Issuer, now: number) => {
  const skew = issuer.clockSkewSeconds ?? DEFAULT_SKEW_SECONDS;
  const exp = seconds(claims, 'exp');
  const nbf = seconds(claims, 'nbf');
  const iat = claims['iat'] === undefined ? nbf : seconds(claims, 'iat');
  // The skew forgives an issuer whose clock is ahead. It does not prolong: no token is good after its `exp`.
  if (exp * 1000 <= now) throw refuse('exp has passed', undefined, 'TOKEN_EXPIRED');
  if ((nbf - skew) * 1000 > now) throw refuse('nbf has not come');
  if ((iat - skew) * 1000 > now) throw refuse('iat is in the future');
  if (exp - Math.min(nbf, iat) > issuer.maxLifetimeSeconds) throw refuse('lives longer than the issuer may grant');
  return { notBefore: (nbf - skew) * 1000, expiresAt: exp * 1000 };
};

/** Tenant and scopes, by the claims that the policy names or by its list of subjects. */
const standing = (claims: Readonly<Record<string, unknown>>, issuer: Issuer, principal: string) => {
  const { subjects, tenantClaim, scopesClaim } = issuer;
  if (subjects !== undefined) {
    const row = subjects.find(({ subject }) => subject === principal);
    if (row === undefined) throw refuse('sub is not among the subjects of the issuer');
    return { tenant: row.tenant, scopes: row.scopes };
  }
  if (tenantClaim === undefined || scopesClaim === undefined)
    throw refuse('the policy does not say what tenant it is of');
  return { tenant: text(claims, tenantClaim), scopes: stringsOf(claims[scopesClaim]) };
};

const checkClaims = (claims: Readonly<Record<string, unknown>>, issuer: Issuer, now: number): VerifiedToken => {
  if (claims['iss'] !== issuer.issuer) throw refuse('iss is not the issuer of the key');
  if (!stringsOf([claims['aud']].flat()).some((audience) => issuer.audiences.includes(audience))) {
    throw refuse('aud does not name this agent');
  }
  const times = checkTimes(claims, issuer, now);
  const principal = text(claims, 'sub');
  const { tenant, scopes } = standing(claims, issuer, principal);
  if (!issuer.tenants.includes(tenant)) throw refuse('the issuer may not speak for this tenant');
  if (issuer.singleUse || claims['jti'] !== undefined) text(claims, 'jti');
  return {
    issuer: issuer.issuer,
    tenant,
    principal,
    scopes: scopesOf(scopes, SCOPES, tenant),
    id: claims['jti'] as string | undefined,
    ...times,
    singleUse: issuer.singleUse,
  };
};

const checkHeader = (token: string): void => {
  const header = decodeProtectedHeader(token);
  if (!ALGORITHMS.includes(String(header.alg))) throw refuse('alg is not allowed');
  const type = header.typ === undefined ? undefined : String(header.typ).toLowerCase();
  if (!TYPES.includes(type)) throw refuse('typ is that of another kind of token');
  // No extension is understood here, b64 (RFC 7797) and nested tokens included.
  for (const name of ['crit', 'b64', 'cty', 'zip', 'enc'])
    if (header[name] !== undefined) throw refuse(`header has ${name}`);
};

const claimsOf = (payload: Uint8Array): Readonly<Record<string, unknown>> => {
  const claims: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  if (typeof claims !== 'object' || claims === null || Array.isArray(claims)) throw refuse('claims are not an object');
  return { ...claims };
};

export interface JwtVerifier {
  /** UNAUTHENTICATED, or TOKEN_EXPIRED for an authentic token past its time. Replay is for the caller to check. */
  verify(token: string, issuers: readonly Issuer[]): Promise<VerifiedToken>;
}

export const createJwtVerifier = ({ clock }: { readonly clock: Clock }): JwtVerifier => {
  // Imported keys live as long as the issuer row that holds them, that is until the policy changes.
  const keySets = new WeakMap<Issuer, ReturnType<typeof createLocalJWKSet>>();
  const keysOf = (issuer: Issuer): ReturnType<typeof createLocalJWKSet> => {
    const known = keySets.get(issuer) ?? createLocalJWKSet(issuer.jwks as unknown as JSONWebKeySet);
    keySets.set(issuer, known);
    return known;
  };
  return {
    verify: async (token, issuers) => {
      if (token.length > TOKEN_LIMIT_BYTES || !COMPACT.test(token)) throw refuse('not a compact JWT of up to 8 KiB');
      try {
        checkHeader(token);
        const named = decodeJwt(token).iss; // unverified: it only selects whose keys must verify
        const issuer = issuers.find((row) => row.issuer === named);
        if (issuer === undefined) throw refuse('no such issuer in the policy');
        const { payload } = await compactVerify(token, keysOf(issuer), { algorithms: ALGORITHMS });
        return checkClaims(claimsOf(payload), issuer, clock.now());
      } catch (error) {
        if (error instanceof AgentError) throw error;
        throw refuse('does not verify', error);
      }
    },
  };
};
