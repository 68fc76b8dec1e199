// The one table of algorithms. Policy checks, key generation, listings and documents read it; nothing else in the
// project decides what an algorithm is. Forbidden rows exist so that they can be refused by name.

/** What a key of this algorithm does. */
export type AlgorithmKind = 'aead' | 'key-establishment' | 'signature' | 'mac' | 'forbidden';

/** `forbidden` is refused below policy, in the primitive layer and in the token process: no policy enables it. */
export type AlgorithmStatus = 'approved' | 'allowed' | 'experimental' | 'forbidden';

/** What a key is for (NIST SP 800-57 part 1, section 5.2: one key, one purpose). */
export type Purpose = 'encrypt' | 'sign' | 'mac';

/** Where the private or secret part of a key version lives. */
export type Custody = 'hsm' | 'wrapped' | 'split';

export interface AlgorithmRow {
  readonly id: string;
  readonly kinds: readonly AlgorithmKind[];
  readonly status: AlgorithmStatus;
  /** The standard under which it is FIPS-approved, or null. */
  readonly fips: string | null;
  /** Classical security strength in bits (NIST SP 800-57 part 1, table 2). */
  readonly securityBits: number;
  /** NIST post-quantum security category, 0 where none is claimed. */
  readonly category: 0 | 1 | 2 | 3 | 4 | 5;
  /** JOSE algorithms by purpose; the first is the default. A purpose that is absent is not served. */
  readonly jose: Readonly<Partial<Record<Purpose, readonly string[]>>>;
  /** Custodies in order of preference; `split` where the token can hold the classical half alone, `wrapped` only where it cannot. */
  readonly custody: readonly Custody[];
  /** Of a composite: the ids of its halves. Their keys are made for it alone and never used alone. */
  readonly components?: { readonly classical: string; readonly pqc: string };
  /** PKCS#11 mechanism that generates the key, and those that use it, by purpose; none where no token object is used. */
  readonly generate: string | null;
  readonly mechanisms: Readonly<Partial<Record<Purpose, readonly string[]>>>;
  /** Hard ceiling of a key's uses, also where no policy names one; absent: none. */
  readonly maxUses?: number;
  /** Why it is forbidden, for the error message. */
  readonly reason?: string;
}

const RSA_SIGN = ['PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512'] as const;

/** Invocations of AES-GCM under one key with random 96-bit IVs (SP 800-38D section 8.3). */
export const AES_GCM_MAX_USES = 2 ** 32;

const aes = (bits: 128 | 192 | 256): AlgorithmRow => ({
  id: `AES-${bits}`,
  kinds: ['aead'],
  status: 'approved',
  fips: 'FIPS 197, SP 800-38D',
  securityBits: bits,
  category: bits === 128 ? 1 : bits === 192 ? 3 : 5,
  jose: { encrypt: [`A${bits}GCMKW`] },
  custody: ['hsm'],
  generate: 'CKM_AES_KEY_GEN',
  mechanisms: { encrypt: ['CKM_AES_GCM'] },
  maxUses: AES_GCM_MAX_USES,
});

const rsa = (bits: 2048 | 3072 | 4096, securityBits: number): AlgorithmRow => ({
  id: `RSA-${bits}`,
  kinds: ['key-establishment', 'signature'],
  status: 'approved',
  fips: 'FIPS 186-5, SP 800-56B',
  securityBits,
  category: 0,
  jose: { encrypt: ['RSA-OAEP-256'], sign: RSA_SIGN },
  custody: ['hsm'],
  generate: 'CKM_RSA_PKCS_KEY_PAIR_GEN',
  mechanisms: { encrypt: ['CKM_RSA_PKCS_OAEP'], sign: ['CKM_RSA_PKCS_PSS', 'CKM_RSA_PKCS'] },
});

const ec = (curve: 'P256' | 'P384' | 'P521', securityBits: number, jws: string): AlgorithmRow => ({
  id: `EC-${curve}`,
  kinds: ['key-establishment', 'signature'],
  status: 'approved',
  fips: 'FIPS 186-5, SP 800-56A',
  securityBits,
  category: 0,
  jose: { encrypt: ['ECDH-ES+A256KW'], sign: [jws] },
  custody: ['hsm'],
  generate: 'CKM_EC_KEY_PAIR_GEN',
  mechanisms: { encrypt: ['CKM_ECDH1_DERIVE'], sign: ['CKM_ECDSA'] },
});

const hmac = (bits: 256 | 384 | 512): AlgorithmRow => ({
  id: `HMAC-SHA${bits}`,
  kinds: ['mac'],
  status: 'approved',
  fips: 'FIPS 198-1',
  securityBits: bits,
  category: 5,
  jose: { mac: [`HS${bits}`] },
  custody: ['hsm'],
  generate: 'CKM_GENERIC_SECRET_KEY_GEN',
  mechanisms: { mac: [`CKM_SHA${bits}_HMAC`] },
});

const mlDsa = (set: 44 | 65 | 87, securityBits: number, category: 2 | 3 | 5): AlgorithmRow => ({
  id: `ML-DSA-${set}`,
  kinds: ['signature'],
  status: 'approved',
  fips: 'FIPS 204',
  securityBits,
  category,
  jose: { sign: [`ML-DSA-${set}`] }, // RFC 9964
  custody: ['hsm', 'wrapped'],
  generate: 'CKM_ML_DSA_KEY_PAIR_GEN', // PKCS #11 3.2
  mechanisms: { sign: ['CKM_ML_DSA'] },
});

const SLH_DSA_LEVELS = [
  [128, 1],
  [192, 3],
  [256, 5],
] as const;

/** SHA2-128s, SHA2-128f and SHAKE-128s are named by draft-ietf-cose-sphincs-plus; the other names follow their pattern. */
const slhDsa = (hash: 'SHA2' | 'SHAKE'): readonly AlgorithmRow[] =>
  SLH_DSA_LEVELS.flatMap(([bits, category]) =>
    (['s', 'f'] as const).map((variant) => ({
      id: `SLH-DSA-${hash}-${bits}${variant}`,
      kinds: ['signature'],
      status: 'approved',
      fips: 'FIPS 205',
      securityBits: bits,
      category,
      jose: { sign: [`SLH-DSA-${hash}-${bits}${variant}`] },
      custody: ['wrapped'],
      generate: null,
      mechanisms: {},
    })),
  );

/** Not a FIPS algorithm until FIPS 206 is published; the names are ours (fn-dsa.ts says why). */
const fnDsa = (set: 512 | 1024): AlgorithmRow => ({
  id: `FN-DSA-${set}`,
  kinds: ['signature'],
  status: 'experimental',
  fips: null,
  securityBits: set === 512 ? 128 : 256,
  category: set === 512 ? 1 : 5,
  jose: { sign: [`urn:mortise:jws:Falcon-${set}`] },
  custody: ['wrapped'],
  generate: null,
  mechanisms: {},
});

/** `jose` is a collision-resistant name (RFC 7515 section 4.1.1) where no draft gives one. */
const compositeSignature = (
  id: string,
  components: { readonly classical: string; readonly pqc: 'ML-DSA-44' | 'ML-DSA-65' | 'ML-DSA-87' },
  custody: readonly Custody[],
  jose = id,
): AlgorithmRow => ({
  id,
  kinds: ['signature'],
  status: 'allowed', // both halves are approved, but the drafts that join them still move
  fips: 'FIPS 204, FIPS 186-5',
  securityBits: { 'ML-DSA-44': 128, 'ML-DSA-65': 192, 'ML-DSA-87': 256 }[components.pqc],
  category: ({ 'ML-DSA-44': 2, 'ML-DSA-65': 3, 'ML-DSA-87': 5 } as const)[components.pqc],
  jose: { sign: [jose] },
  custody,
  components,
  generate: null,
  mechanisms: {},
});

const COMPOSITE_SIGNATURES: readonly AlgorithmRow[] = [
  compositeSignature('ML-DSA-44-ES256', { classical: 'EC-P256', pqc: 'ML-DSA-44' }, ['hsm', 'split']),
  compositeSignature('ML-DSA-65-ES256', { classical: 'EC-P256', pqc: 'ML-DSA-65' }, ['hsm', 'split']),
  compositeSignature('ML-DSA-87-ES384', { classical: 'EC-P384', pqc: 'ML-DSA-87' }, ['hsm', 'split']),
  compositeSignature('ML-DSA-44-Ed25519', { classical: 'Ed25519', pqc: 'ML-DSA-44' }, ['hsm', 'split', 'wrapped']),
  compositeSignature('ML-DSA-65-Ed25519', { classical: 'Ed25519', pqc: 'ML-DSA-65' }, ['hsm', 'split', 'wrapped']),
  ...(['3072', '4096'] as const).map((bits) =>
    compositeSignature(
      `ML-DSA-65-RSA${bits}-PSS`,
      { classical: `RSA-${bits}`, pqc: 'ML-DSA-65' },
      ['hsm', 'split'],
      `urn:mortise:jws:ML-DSA-65-RSA${bits}-PSS`,
    ),
  ),
];

const mlKem = (set: 768 | 1024, hpke: 12 | 13): AlgorithmRow => ({
  id: `ML-KEM-${set}`,
  kinds: ['key-establishment'],
  status: 'approved',
  fips: 'FIPS 203',
  securityBits: set === 768 ? 192 : 256,
  category: set === 768 ? 3 : 5,
  jose: { encrypt: [`HPKE-${hpke}-KE`, `HPKE-${hpke}`] }, // draft-ietf-jose-hpke-pq-pqt
  custody: ['hsm', 'wrapped'],
  generate: 'CKM_ML_KEM_KEY_PAIR_GEN', // PKCS #11 3.2
  mechanisms: { encrypt: ['CKM_ML_KEM'] },
});

const compositeKem = (
  set: 768 | 1024,
  classical: string,
  {
    suffix,
    jose,
    custody,
    fips,
  }: { suffix: string; jose: readonly string[]; custody: readonly Custody[]; fips: string },
): AlgorithmRow => ({
  ...mlKem(set, 12),
  id: `ML-KEM-${set}-${suffix}`,
  status: 'allowed', // the drafts that join the halves still move
  fips,
  jose: { encrypt: jose },
  custody,
  generate: null,
  mechanisms: {},
  components: { classical, pqc: `ML-KEM-${set}` },
});

/** A collision-resistant name (RFC 7515 section 4.1.1): no draft puts RSA and ML-KEM together for JWE. */
const rsaKem = (set: 768 | 1024, bits: 2048 | 3072 | 4096): AlgorithmRow =>
  compositeKem(set, `RSA-${bits}`, {
    suffix: `RSA${bits}`,
    jose: [`urn:mortise:jwe:ML-KEM-${set}-RSA${bits}+A256KW`],
    custody: ['hsm', 'split'],
    fips: 'FIPS 203, SP 800-56B',
  });

const COMPOSITE_KEMS: readonly AlgorithmRow[] = [
  compositeKem(768, 'EC-P256', {
    suffix: 'P256',
    jose: ['HPKE-8-KE', 'HPKE-8'],
    custody: ['hsm', 'split', 'wrapped'],
    fips: 'FIPS 203, SP 800-56A',
  }),
  // SP 800-227 lets the other half be any: X25519 is not approved by itself.
  compositeKem(768, 'X25519', {
    suffix: 'X25519',
    jose: ['HPKE-9-KE', 'HPKE-9'],
    custody: ['wrapped'],
    fips: 'FIPS 203',
  }),
  compositeKem(1024, 'EC-P384', {
    suffix: 'P384',
    jose: ['HPKE-10-KE', 'HPKE-10'],
    custody: ['hsm', 'split', 'wrapped'],
    fips: 'FIPS 203, SP 800-56A',
  }),
  ...([768, 1024] as const).flatMap((set) => ([2048, 3072, 4096] as const).map((bits) => rsaKem(set, bits))),
];

const forbidden = (id: string, reason: string): AlgorithmRow => ({
  id,
  kinds: ['forbidden'],
  status: 'forbidden',
  fips: null,
  securityBits: 0,
  category: 0,
  jose: {},
  custody: [],
  generate: null,
  mechanisms: {},
  reason,
});

export const ALGORITHMS: readonly AlgorithmRow[] = Object.freeze([
  aes(128),
  aes(192),
  aes(256),
  rsa(2048, 112),
  rsa(3072, 128),
  rsa(4096, 140),
  ec('P256', 128, 'ES256'),
  ec('P384', 192, 'ES384'),
  ec('P521', 256, 'ES512'),
  {
    id: 'Ed25519',
    kinds: ['signature'],
    status: 'approved',
    fips: 'FIPS 186-5',
    securityBits: 128,
    category: 0,
    jose: { sign: ['Ed25519'] }, // RFC 9864; the polymorphic name "EdDSA" is deprecated
    custody: ['hsm', 'wrapped'],
    generate: 'CKM_EC_EDWARDS_KEY_PAIR_GEN',
    mechanisms: { sign: ['CKM_EDDSA'] },
  },
  {
    id: 'X25519',
    kinds: ['key-establishment'],
    status: 'allowed',
    fips: null, // SP 800-56A approves no Montgomery curve
    securityBits: 128,
    category: 0,
    jose: { encrypt: ['ECDH-ES+A256KW'] }, // RFC 8037 section 3.2
    custody: ['wrapped'],
    generate: null,
    mechanisms: {},
  },
  hmac(256),
  hmac(384),
  hmac(512),
  mlKem(768, 12),
  mlKem(1024, 13),
  ...COMPOSITE_KEMS,
  mlDsa(44, 128, 2),
  mlDsa(65, 192, 3),
  mlDsa(87, 256, 5),
  ...slhDsa('SHA2'),
  ...slhDsa('SHAKE'),
  fnDsa(512),
  fnDsa(1024),
  ...COMPOSITE_SIGNATURES,
  forbidden('MD5', 'MD5 has no collision resistance'),
  forbidden('HMAC-MD5', 'MD5 is not an approved hash'),
  forbidden('RS1', 'SHA-1 signatures are forgeable (SP 800-131A)'),
  forbidden('HMAC-SHA1', 'SHA-1 is withdrawn (SP 800-131A)'),
  forbidden('RSA-512', 'RSA below 2048 bits (SP 800-131A)'),
  forbidden('RSA-768', 'RSA below 2048 bits (SP 800-131A)'),
  forbidden('RSA-1024', 'RSA below 2048 bits (SP 800-131A)'),
  forbidden('RSA-1536', 'RSA below 2048 bits (SP 800-131A)'),
  forbidden('RSA1_5', 'PKCS #1 v1.5 encryption is open to padding oracles'),
  forbidden('DES', 'DES is withdrawn'),
  forbidden('3DES', '3DES is withdrawn (SP 800-131A)'),
  forbidden('RC4', 'RC4 is broken'),
  forbidden('AES-ECB', 'ECB shows equal blocks'),
  forbidden('EC-P192', 'curve below 224 bits (SP 800-131A)'),
  forbidden('EC-SECP160R1', 'curve below 224 bits (SP 800-131A)'),
  forbidden('none', 'an unsigned JWT or JWS proves nothing'),
]);

const BY_ID = new Map(ALGORITHMS.map((row) => [row.id, row]));
const FORBIDDEN_FOLDED = new Map(
  ALGORITHMS.filter((row) => row.status === 'forbidden').map((row) => [row.id.toLowerCase(), row]),
);

/** The row of an algorithm id, or undefined. */
export const algorithm = (id: string): AlgorithmRow | undefined => BY_ID.get(id);

/** The forbidden row that a name means, whatever its case; undefined where the name is not a forbidden one. */
export const forbiddenAlgorithm = (name: string): AlgorithmRow | undefined => FORBIDDEN_FOLDED.get(name.toLowerCase());

/** All JOSE names that some row serves; policy lists may name these as well as algorithm ids. */
export const JOSE_NAMES: ReadonlySet<string> = new Set(
  ALGORITHMS.flatMap((row) => Object.values(row.jose).flatMap((names) => [...names])),
);

/** Least sizes below which a key is refused wherever it comes from (SP 800-131A). */
export const MIN_RSA_BITS = 2048;
export const MIN_CURVE_BITS = 224;
export const MIN_HMAC_BITS = 112;
