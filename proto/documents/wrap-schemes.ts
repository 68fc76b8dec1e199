// How a token key wraps key material: the schemes, what each makes of material, and which one a key is for. Invariant: a
// key serves one scheme as long as it lives, and its CKA_ID says which, so that no blob is opened or made by another one.
// docs/spec/wrapped-key.md is the specification.

export type WrapScheme = 'aes-gcm' | 'aes-cbc-hmac' | 'aes-kwp' | 'aes-kw';

export interface WrapSchemeRow {
  readonly scheme: WrapScheme;
  /** The byte in a blob. */
  readonly number: number;
  readonly title: string;
  readonly ivBytes: number;
  readonly tagBytes: number;
  /** What is between iv and tag: a multiple of `unit`, from `least` bytes to `most`. */
  readonly unit: number;
  readonly least: number;
  readonly most: number;
}

/** Enough for every private key of the algorithm table to come (an FN-DSA-1024 key has 2305 bytes). */
export const MAX_MATERIAL_BYTES = 4096;
const MOST_WRAPPED = MAX_MATERIAL_BYTES + 8;
const LEAST_IN_BLOCKS = 16;

/** The best first: associated data of its own, then what puts no private bytes into objects of the token. */
export const WRAP_SCHEMES: readonly WrapSchemeRow[] = [
  {
    scheme: 'aes-gcm',
    number: 1,
    title: 'AES-256-GCM',
    ivBytes: 12,
    tagBytes: 16,
    unit: 1,
    least: 1,
    most: MAX_MATERIAL_BYTES,
  },
  {
    scheme: 'aes-cbc-hmac',
    number: 2,
    title: 'AES-256-CBC, then HMAC-SHA-256',
    ivBytes: 16,
    tagBytes: 32,
    unit: 16,
    least: 16,
    most: MAX_MATERIAL_BYTES + 16,
  },
  {
    scheme: 'aes-kwp',
    number: 3,
    title: 'AES-256-KWP, then HMAC-SHA-256',
    ivBytes: 0,
    tagBytes: 32,
    unit: 8,
    least: 24,
    most: MOST_WRAPPED,
  },
  {
    scheme: 'aes-kw',
    number: 4,
    title: 'AES-256-KW, then HMAC-SHA-256',
    ivBytes: 0,
    tagBytes: 32,
    unit: 8,
    least: 24,
    most: MOST_WRAPPED,
  },
];

export const MAX_SEALED_BYTES = Math.max(
  ...WRAP_SCHEMES.map(({ ivBytes, most, tagBytes }) => ivBytes + most + tagBytes),
);

const BY_SCHEME = new Map(WRAP_SCHEMES.map((row) => [row.scheme, row]));

export const wrapScheme = (scheme: WrapScheme): WrapSchemeRow => BY_SCHEME.get(scheme) as WrapSchemeRow;

/** Whether bytes are of a length that the scheme can have made: iv, then what is wrapped, then tag. */
export const isSealedLength = ({ ivBytes, tagBytes, unit, least, most }: WrapSchemeRow, bytes: number): boolean => {
  const wrapped = bytes - ivBytes - tagBytes;
  return wrapped >= least && wrapped <= most && wrapped % unit === 0;
};

/**
 * Whether material is of a length that the scheme wraps. AES-KW takes two or more blocks of 64 bits (RFC 3394 section
 * 2.2.1), and so does AES-KWP here: SoftHSM 2.6 makes all else longer.
 */
export const isMaterialLength = (scheme: WrapScheme, bytes: number): boolean => {
  if (bytes < 1 || bytes > MAX_MATERIAL_BYTES) return false;
  return scheme === 'aes-gcm' || scheme === 'aes-cbc-hmac' || (bytes >= LEAST_IN_BLOCKS && bytes % 8 === 0);
};

/** CKA_ID of a key for another scheme than AES-GCM: this, the number of the scheme, 8 random bytes. */
const MARK = Buffer.from('mwk-kek', 'latin1');
const ID_BYTES = 16;
export const WRAPPING_ID_RANDOM_BYTES = ID_BYTES;

/** The CKA_ID in lower-case hex for a new key; of a key for AES-GCM nothing but the random bytes. */
export const wrappingKeyId = (scheme: WrapScheme, random: Buffer): string => {
  const id = Buffer.from(random.subarray(0, ID_BYTES));
  if (scheme === 'aes-gcm') return id.toString('hex');
  MARK.copy(id);
  id[MARK.length] = wrapScheme(scheme).number;
  return id.toString('hex');
};

const MARK_HEX = MARK.toString('hex');

/** The scheme that a key is for. Sixteen random bytes with the mark of another one come once in 2^62 keys. */
export const schemeOfKey = (tokenId: string): WrapScheme => {
  if (!tokenId.startsWith(MARK_HEX) || tokenId.length !== 2 * ID_BYTES) return 'aes-gcm';
  const number = Number.parseInt(tokenId.slice(MARK_HEX.length, MARK_HEX.length + 2), 16);
  return WRAP_SCHEMES.find((row) => row.number === number)?.scheme ?? 'aes-gcm';
};

/**
 * What the tag of the schemes with HMAC is made over (as RFC 7518 section 5.2.2.1): associated data, iv, what is
 * wrapped, and the length of the associated data in bits as 8 bytes big-endian.
 */
export const macInput = (aad: Buffer, ivAndWrapped: Buffer): Buffer => {
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(aad.length) * 8n);
  return Buffer.concat([aad, ivAndWrapped, length]);
};
