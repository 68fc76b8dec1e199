// Mechanism numbers and the allow-list of uses. Invariant: a number reaches C_*Init only if it stands here for that
// use; what is forbidden is refused by name in this process too, whatever the agent or its policy says.
import koffi from 'koffi';
import pkcs11js from 'pkcs11js';

/** Numbers of every mechanism that the algorithm table names, and of those that the module profiles add. */
export const MECHANISMS: Readonly<Record<string, number>> = {
  CKM_RSA_PKCS_KEY_PAIR_GEN: 0x0000,
  CKM_RSA_PKCS: 0x0001,
  CKM_RSA_X_509: 0x0003,
  CKM_RSA_PKCS_OAEP: 0x0009,
  CKM_RSA_PKCS_PSS: 0x000d,
  CKM_ML_KEM_KEY_PAIR_GEN: 0x000f, // this and the next three: PKCS #11 3.2
  CKM_ML_KEM: 0x0017,
  CKM_ML_DSA_KEY_PAIR_GEN: 0x001c,
  CKM_ML_DSA: 0x001d,
  CKM_SHA256: 0x0250,
  CKM_SHA256_HMAC: 0x0251,
  CKM_SHA384: 0x0260,
  CKM_SHA384_HMAC: 0x0261,
  CKM_SHA512: 0x0270,
  CKM_SHA512_HMAC: 0x0271,
  CKM_GENERIC_SECRET_KEY_GEN: 0x0350,
  CKM_EC_KEY_PAIR_GEN: 0x1040,
  CKM_ECDSA: 0x1041,
  CKM_ECDH1_DERIVE: 0x1050,
  CKM_EC_EDWARDS_KEY_PAIR_GEN: 0x1055,
  CKM_EDDSA: 0x1057,
  CKM_AES_KEY_GEN: 0x1080,
  CKM_AES_CBC_PAD: 0x1085,
  CKM_AES_GCM: 0x1087,
  CKM_AES_KEY_WRAP: 0x2109, // RFC 3394
  CKM_AES_KEY_WRAP_PAD: 0x210a, // RFC 5649 where self-test says so: standards up to 3.0 left it open
  CKM_AES_KEY_WRAP_KWP: 0x210b, // RFC 5649
};

export type Use =
  | 'generate'
  | 'generate-pair'
  | 'sign'
  | 'encrypt'
  | 'decrypt'
  | 'derive'
  | 'decapsulate'
  | 'wrap'
  | 'unwrap';

const KEY_WRAPS = ['CKM_AES_KEY_WRAP_KWP', 'CKM_AES_KEY_WRAP_PAD', 'CKM_AES_KEY_WRAP'];

/**
 * CKM_RSA_X_509 decrypts only: the OAEP route checks the padding. CKM_RSA_PKCS signs only: its decryption is RSA1_5.
 * CKM_AES_CBC_PAD is for wrapping.ts, which checks a MAC before it decrypts.
 */
const USES: Readonly<Record<Use, readonly string[]>> = {
  generate: ['CKM_AES_KEY_GEN', 'CKM_GENERIC_SECRET_KEY_GEN'],
  'generate-pair': [
    'CKM_RSA_PKCS_KEY_PAIR_GEN',
    'CKM_EC_KEY_PAIR_GEN',
    'CKM_EC_EDWARDS_KEY_PAIR_GEN',
    'CKM_ML_KEM_KEY_PAIR_GEN',
    'CKM_ML_DSA_KEY_PAIR_GEN',
  ],
  sign: [
    'CKM_RSA_PKCS',
    'CKM_RSA_PKCS_PSS',
    'CKM_ECDSA',
    'CKM_EDDSA',
    'CKM_ML_DSA',
    'CKM_SHA256_HMAC',
    'CKM_SHA384_HMAC',
    'CKM_SHA512_HMAC',
  ],
  encrypt: ['CKM_AES_GCM', 'CKM_AES_CBC_PAD'],
  decrypt: ['CKM_AES_GCM', 'CKM_AES_CBC_PAD', 'CKM_RSA_PKCS_OAEP', 'CKM_RSA_X_509'],
  derive: ['CKM_ECDH1_DERIVE'],
  decapsulate: ['CKM_ML_KEM'],
  wrap: KEY_WRAPS,
  unwrap: KEY_WRAPS,
};

/** Forbidden whatever for; a pattern over the CKM names that pkcs11js knows. */
const FORBIDDEN =
  /MD2|MD5|SHA_1|SHA1|_DES|DES_|DES2|DES3|RC2|RC4|RC5|CDMF|CAST|SKIPJACK|_ECB|X9_31|RSA_9796|RIPEMD|FASTHASH|BLOWFISH/;

const names = new Map(
  Object.entries(pkcs11js)
    .filter((entry): entry is [string, number] => entry[0].startsWith('CKM_') && typeof entry[1] === 'number')
    .map(([name, number]) => [number, name]),
);
for (const [name, number] of Object.entries(MECHANISMS)) names.set(number, name);
const NUMBER_OF = new Map([...names].map(([number, name]) => [name, number]));

/** The CKM_ name of a number, for messages. */
export const mechanismName = (number: number): string => names.get(number) ?? `CKM 0x${number.toString(16)}`;

/** The number of a CKM_ name, of this table or of pkcs11js. */
export const mechanismNumber = (name: string): number | undefined => MECHANISMS[name] ?? NUMBER_OF.get(name);

const ALLOWED = new Map(
  Object.entries(USES).map(([use, list]) => [use, new Set(list.map((name) => MECHANISMS[name] as number))]),
);

export class ForbiddenMechanism extends Error {
  override readonly name = 'ForbiddenMechanism';
}

/** Throws unless the mechanism may be used so. */
export const assertAllowed = (use: Use, number: number): void => {
  if (ALLOWED.get(use)?.has(number) === true) return;
  const name = mechanismName(number);
  const why = FORBIDDEN.test(name) ? 'is forbidden' : 'is not in the table';
  throw new ForbiddenMechanism(`${name} to ${use} ${why}`);
};

/** Every mechanism that some use allows, with its number: what self-tests and doctor look for. */
export const USED_MECHANISMS: readonly string[] = [...new Set(Object.values(USES).flat())];

export interface Mechanism {
  readonly mechanism: number;
  readonly parameter?: Buffer | ({ readonly type: number } & Readonly<Record<string, unknown>>);
}

const plain = (name: string): Mechanism => ({ mechanism: MECHANISMS[name] as number });
const HASH_BYTES: Readonly<Record<string, number>> = { '256': 32, '384': 48, '512': 64 };
const MGF: Readonly<Record<string, number>> = { '256': 2, '384': 3, '512': 4 }; // CKG_MGF1_SHA256, 384, 512

/** DigestInfo up to the digest (RFC 8017 section 9.2, note 1). */
const DIGEST_INFO: Readonly<Record<string, Buffer>> = {
  '256': Buffer.from('3031300d060960864801650304020105000420', 'hex'),
  '384': Buffer.from('3041300d060960864801650304020205000430', 'hex'),
  '512': Buffer.from('3051300d060960864801650304020305000440', 'hex'),
};

export interface SignatureScheme {
  readonly key: 'rsa' | 'ec' | 'ed25519' | 'ml-dsa' | 'secret';
  /** Curve of an EC key. */
  readonly curve?: string;
  /** Algorithm id of an ML-DSA key. */
  readonly set?: string;
  readonly mechanism: Mechanism;
  /** Length of the digest that is signed; undefined: a message of any length. */
  readonly digestBytes?: number;
  /** What goes before the digest. */
  readonly prefix?: Buffer;
  /** Least key length of a MAC in bits (RFC 7518 section 3.2). */
  readonly keyBits?: number;
}

const hashOf = (bits: string): { mechanism: Mechanism; digestBytes: number } => ({
  mechanism: {
    mechanism: MECHANISMS['CKM_RSA_PKCS_PSS'] as number,
    parameter: {
      type: pkcs11js.CK_PARAMS_RSA_PSS,
      hashAlg: MECHANISMS[`CKM_SHA${bits}`] as number,
      mgf: MGF[bits] as number,
      saltLen: HASH_BYTES[bits] as number, // RFC 7518 section 3.5: as long as the hash
    },
  },
  digestBytes: HASH_BYTES[bits] as number,
});

const ecdsa = (curve: string, digestBytes: number): SignatureScheme => ({
  key: 'ec',
  curve,
  mechanism: plain('CKM_ECDSA'),
  digestBytes,
});

/** JOSE name → how the token makes it. */
export const SIGNATURES: Readonly<Record<string, SignatureScheme>> = {
  ...Object.fromEntries(['256', '384', '512'].map((bits) => [`PS${bits}`, { key: 'rsa' as const, ...hashOf(bits) }])),
  ...Object.fromEntries(
    ['256', '384', '512'].map((bits) => [
      `RS${bits}`,
      {
        key: 'rsa' as const,
        mechanism: plain('CKM_RSA_PKCS'),
        digestBytes: HASH_BYTES[bits] as number,
        prefix: DIGEST_INFO[bits] as Buffer,
      },
    ]),
  ),
  ES256: ecdsa('P-256', 32),
  ES384: ecdsa('P-384', 48),
  ES512: ecdsa('P-521', 64),
  Ed25519: { key: 'ed25519', mechanism: plain('CKM_EDDSA') },
  ...Object.fromEntries(
    ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'].map((set) => [
      set,
      { key: 'ml-dsa' as const, set, mechanism: plain('CKM_ML_DSA') },
    ]),
  ),
};

/** JOSE name → HMAC. */
export const MACS: Readonly<Record<string, SignatureScheme>> = Object.fromEntries(
  [256, 384, 512].map((bits) => [
    `HS${bits}`,
    { key: 'secret' as const, mechanism: plain(`CKM_SHA${bits}_HMAC`), keyBits: bits },
  ]),
);

/** CK_GCM_PARAMS of 2.40: the older structure of pkcs11js leaves ulIvBits uninitialised, which NSS refuses. */
export const gcm = (iv: Buffer, aad: Buffer): Mechanism => ({
  mechanism: MECHANISMS['CKM_AES_GCM'] as number,
  parameter: { type: pkcs11js.CK_PARAMS_AES_GCM_v240, iv, ivBits: 96, aad, tagBits: 128 },
});

export const cbc = (iv: Buffer): Mechanism => ({ mechanism: MECHANISMS['CKM_AES_CBC_PAD'] as number, parameter: iv });

/** By name; without a parameter the iv is the one of RFC 3394 or RFC 5649. */
export const keyWrap = plain;

const pointerTo = (bytes: Buffer): bigint => (bytes.length === 0 ? 0n : koffi.address(bytes));

/**
 * The same for a token that makes the iv: it writes it into `iv`, which is zeroes, or appends it to the tag where `iv` is
 * empty. As bytes, because pkcs11js gives the token a copy of what it knows; both must be held until C_Encrypt is over.
 */
export const gcmByToken = (iv: Buffer, aad: Buffer): Mechanism => {
  const parameter = Buffer.alloc(48); // pIv, ulIvLen, ulIvBits, pAAD, ulAADLen, ulTagBits
  const words = [pointerTo(iv), iv.length, 96, pointerTo(aad), aad.length, 128];
  words.forEach((word, index) => void parameter.writeBigUInt64LE(BigInt(word), 8 * index));
  return { mechanism: MECHANISMS['CKM_AES_GCM'] as number, parameter };
};

export const oaepSha256: Mechanism = {
  mechanism: MECHANISMS['CKM_RSA_PKCS_OAEP'] as number,
  parameter: {
    type: pkcs11js.CK_PARAMS_RSA_OAEP,
    hashAlg: MECHANISMS['CKM_SHA256'] as number,
    mgf: MGF['256'] as number,
    source: 1, // CKZ_DATA_SPECIFIED
    sourceData: Buffer.alloc(0),
  },
};

export const rawRsa: Mechanism = plain('CKM_RSA_X_509');
export const mlKem: Mechanism = plain('CKM_ML_KEM');

/**
 * CK_SIGN_ADDITIONAL_CONTEXT of PKCS #11 3.2, which pkcs11js does not know: hedge variant 0 (preferred, as without it),
 * then pointer and length. The context must be held until the signature is made.
 */
export const withContext = ({ mechanism }: Mechanism, context: Buffer): Mechanism => {
  const parameter = Buffer.alloc(24);
  parameter.writeBigUInt64LE(koffi.address(context), 8);
  parameter.writeBigUInt64LE(BigInt(context.length), 16);
  return { mechanism, parameter };
};

/** ECDH without a KDF: the agent applies the one of its format (CKD_NULL = 1). */
export const ecdh1 = (point: Buffer): Mechanism => ({
  mechanism: MECHANISMS['CKM_ECDH1_DERIVE'] as number,
  parameter: { type: pkcs11js.CK_PARAMS_EC_DH, kdf: 1, sharedData: Buffer.alloc(0), publicData: point },
});
