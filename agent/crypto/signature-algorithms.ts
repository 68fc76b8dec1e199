// The JWS algorithms that key versions sign with (RFC 7518 section 3.1, RFC 9864, RFC 9964): digest, padding, and which
// keys they fit. Sign, verify and the checks of foreign JWKs all read these tables.
import { FN_DSA_BY_JOSE } from '../../proto/documents/fn-dsa.ts';
import { PQ_SIGNATURES } from '../../proto/documents/pq-signatures.ts';
import { COMPOSITE_SIGNATURES } from './composite-signature.ts';

export type DigestName = 'sha256' | 'sha384' | 'sha512';

export interface SignatureAlgorithm {
  readonly jose: string;
  readonly scheme: 'pkcs1' | 'pss' | 'ecdsa' | 'ed25519' | 'pq' | 'fn-dsa' | 'composite';
  /** A context string is part of it. */
  readonly context?: true;
  /** Absent where the message itself is signed: Ed25519, ML-DSA, SLH-DSA, FN-DSA. */
  readonly digest?: DigestName;
  readonly digestBytes?: number;
  /** The curve; absent for RSA. */
  readonly crv?: string;
}

const row = (jose: string, scheme: SignatureAlgorithm['scheme'], bits: 256 | 384 | 512, crv?: string) => ({
  jose,
  scheme,
  digest: `sha${bits}` as const,
  digestBytes: bits / 8,
  ...(crv !== undefined && { crv }),
});

/** Those that a token signs with. */
export const SIGNATURE_ALGORITHMS: ReadonlyMap<string, SignatureAlgorithm> = new Map(
  [
    row('RS256', 'pkcs1', 256),
    row('RS384', 'pkcs1', 384),
    row('RS512', 'pkcs1', 512),
    row('PS256', 'pss', 256),
    row('PS384', 'pss', 384),
    row('PS512', 'pss', 512),
    row('ES256', 'ecdsa', 256, 'P-256'),
    row('ES384', 'ecdsa', 384, 'P-384'),
    row('ES512', 'ecdsa', 512, 'P-521'),
    { jose: 'Ed25519', scheme: 'ed25519', crv: 'Ed25519' } as const,
  ].map((algorithm) => [algorithm.jose, algorithm]),
);

const PQ_ALGORITHMS: ReadonlyMap<string, SignatureAlgorithm> = new Map(
  [...PQ_SIGNATURES.keys()].map((jose) => [jose, { jose, scheme: 'pq', context: true }]),
);

/** FIPS 206 will give it a context string; Falcon has none. */
const FN_DSA_ALGORITHMS: ReadonlyMap<string, SignatureAlgorithm> = new Map(
  [...FN_DSA_BY_JOSE.keys()].map((jose) => [jose, { jose, scheme: 'fn-dsa' }]),
);

/** Their digest is the pre-hash of the message. */
const COMPOSITE_ALGORITHMS: ReadonlyMap<string, SignatureAlgorithm> = new Map(
  [...COMPOSITE_SIGNATURES.values()].map(({ jose, prehash }) => [
    jose,
    { jose, scheme: 'composite', context: true, digest: prehash, digestBytes: Number(prehash.slice(3)) / 8 },
  ]),
);

/** The row of a JWS algorithm, whoever signs with it. */
export const findSignatureAlgorithm = (jose: string): SignatureAlgorithm | undefined =>
  SIGNATURE_ALGORITHMS.get(jose) ??
  PQ_ALGORITHMS.get(jose) ??
  COMPOSITE_ALGORITHMS.get(jose) ??
  FN_DSA_ALGORITHMS.get(jose);

/**
 * The name under which a header's `alg` stands in the table. RFC 9864 deprecates "EdDSA" because it leaves the curve
 * open; JWS of older libraries have it, and with an Ed25519 key it can only mean Ed25519.
 */
export const canonicalJwsAlgorithm = (alg: string): string => (alg === 'EdDSA' ? 'Ed25519' : alg);
