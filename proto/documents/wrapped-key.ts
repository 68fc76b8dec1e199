// The wrapped-key blob: key material encrypted by the tenant's key encryption key, bound to the identity of the key
// version it belongs to. docs/spec/wrapped-key.md is its specification, test/vectors/wrapped-key/ has its vectors.

/** What a blob belongs to; part of the associated data, so a blob moved elsewhere does not open. */
export interface WrappedIdentity {
  readonly tenant: string;
  readonly keyId: string;
  readonly version: number;
  readonly algorithm: string;
}

export interface WrappedKey {
  /** The only scheme so far: AES-256-GCM, 96-bit iv, 128-bit tag. */
  readonly scheme: typeof SCHEME_AES256_GCM;
  readonly kekVersion: number;
  readonly iv: Buffer;
  /** ciphertext || tag */
  readonly ciphertext: Buffer;
}

const MAGIC = Buffer.from('MWK\x01', 'latin1'); // "Mortise wrapped key", format 1
export const SCHEME_AES256_GCM = 1;
export const IV_BYTES = 12;
export const TAG_BYTES = 16;
/** Enough for every private key of the algorithm table to come (an FN-DSA-1024 key has 2305 bytes). */
export const MAX_MATERIAL_BYTES = 4096;
const HEADER_BYTES = MAGIC.length + 1 + 4;
const MIN_BYTES = HEADER_BYTES + IV_BYTES + 1 + TAG_BYTES;
const MAX_BYTES = HEADER_BYTES + IV_BYTES + MAX_MATERIAL_BYTES + TAG_BYTES;
/** Characters of the longest blob in base64url. */
export const MAX_WRAPPED_TEXT = Math.ceil((MAX_BYTES * 4) / 3);
const MAX_VERSION = 0xffffffff;
const CONTEXT = 'mortise.wrapped-key/v1';

/** Why a text is not a wrapped-key blob. */
export class WrappedKeyError extends Error {
  readonly code: 'ENCODING' | 'LENGTH' | 'MAGIC' | 'SCHEME' | 'KEK_VERSION';

  constructor(code: WrappedKeyError['code']) {
    super(`not a wrapped-key blob: ${code}`);
    this.name = 'WrappedKeyError';
    this.code = code;
  }
}

const header = (kekVersion: number): Buffer => {
  if (!Number.isSafeInteger(kekVersion) || kekVersion < 1 || kekVersion > MAX_VERSION) {
    throw new WrappedKeyError('KEK_VERSION');
  }
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt8(SCHEME_AES256_GCM, MAGIC.length);
  bytes.writeUInt32BE(kekVersion, MAGIC.length + 1);
  return bytes;
};

const lengthPrefixed = (field: string): Buffer => {
  const bytes = Buffer.from(field);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
};

/**
 * The associated data: context, header of the blob, tenant, key id, version and algorithm, each with a 4-byte big-endian
 * length, so that no two identities give the same bytes.
 */
export const wrappedKeyAad = (identity: WrappedIdentity, kekVersion: number): Buffer =>
  Buffer.concat([
    lengthPrefixed(CONTEXT),
    header(kekVersion),
    lengthPrefixed(identity.tenant),
    lengthPrefixed(identity.keyId),
    lengthPrefixed(String(identity.version)),
    lengthPrefixed(identity.algorithm),
  ]);

/** The blob as base64url. `ciphertext` is ciphertext || tag as the token's GCM gives it. */
export const encodeWrappedKey = (blob: Omit<WrappedKey, 'scheme'>): string => {
  const bytes = Buffer.concat([header(blob.kekVersion), blob.iv, blob.ciphertext]);
  if (blob.iv.length !== IV_BYTES || bytes.length < MIN_BYTES || bytes.length > MAX_BYTES) {
    throw new WrappedKeyError('LENGTH');
  }
  return bytes.toString('base64url');
};

/** Reads a blob from base64url without padding (RFC 4648 section 5, canonical), or throws WrappedKeyError. */
export const decodeWrappedKey = (text: string): WrappedKey => {
  if (text.length > MAX_WRAPPED_TEXT) throw new WrappedKeyError('LENGTH');
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text) throw new WrappedKeyError('ENCODING');
  if (bytes.length < MIN_BYTES || bytes.length > MAX_BYTES) throw new WrappedKeyError('LENGTH');
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw new WrappedKeyError('MAGIC');
  if (bytes.readUInt8(MAGIC.length) !== SCHEME_AES256_GCM) throw new WrappedKeyError('SCHEME');
  const kekVersion = bytes.readUInt32BE(MAGIC.length + 1);
  if (kekVersion === 0) throw new WrappedKeyError('KEK_VERSION');
  return {
    scheme: SCHEME_AES256_GCM,
    kekVersion,
    iv: bytes.subarray(HEADER_BYTES, HEADER_BYTES + IV_BYTES),
    ciphertext: bytes.subarray(HEADER_BYTES + IV_BYTES),
  };
};
