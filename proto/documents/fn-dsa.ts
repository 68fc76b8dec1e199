// FN-DSA, while FIPS 206 is unpublished: Falcon as submitted to round 3 of NIST's project, signatures padded to one
// length. Experimental: the standard will differ, and its keys and signatures will not be these. The JOSE names are our
// own, so that they cannot be taken for the standard's. Private bytes: the encoded secret key (Falcon section 3.11.5).

export interface FnDsaSignature {
  readonly id: 'FN-DSA-512' | 'FN-DSA-1024';
  /** JOSE name and `alg` of the AKP JWK. */
  readonly jose: string;
  /** Random bytes that a key pair is derived from. */
  readonly seedBytes: number;
  readonly privateBytes: number;
  readonly publicBytes: number;
  readonly signatureBytes: number;
}

const ROWS: readonly FnDsaSignature[] = [
  {
    id: 'FN-DSA-512',
    jose: 'urn:mortise:jws:Falcon-512',
    seedBytes: 48,
    privateBytes: 1281,
    publicBytes: 897,
    signatureBytes: 666,
  },
  {
    id: 'FN-DSA-1024',
    jose: 'urn:mortise:jws:Falcon-1024',
    seedBytes: 48,
    privateBytes: 2305,
    publicBytes: 1793,
    signatureBytes: 1280,
  },
];

/** By algorithm id. */
export const FN_DSA_SIGNATURES: ReadonlyMap<string, FnDsaSignature> = new Map(ROWS.map((row) => [row.id, row]));

/** By JOSE name. */
export const FN_DSA_BY_JOSE: ReadonlyMap<string, FnDsaSignature> = new Map(ROWS.map((row) => [row.jose, row]));
