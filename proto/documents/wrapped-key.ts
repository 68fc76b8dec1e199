// The wrapped-key blob: key material encrypted by the tenant's key encryption key, bound to the identity of the key
// version it belongs to. docs/spec/wrapped-key.md is its specification, test/vectors/wrapped-key/ has its vectors.
import { isSealedLength, MAX_SEALED_BYTES, WRAP_SCHEMES, type WrapScheme, wrapScheme } from './wrap-schemes.ts';

/** What a blob belongs to; part of the associated data, so a blob moved elsewhere does not open. */
export interface WrappedIdentity {
  readonly tenant: string;
  readonly keyId: string;
  readonly version: number;
  readonly algorithm: string;
}

export interface WrappedKey {
  readonly scheme: WrapScheme;
  readonly kekVersion: number;
  /** iv || what is wrapped || tag, as the scheme makes it (wrap-schemes.ts). */
  readonly sealed: Buffer;
}

const MAGIC = Buffer.from('MWK\x01', 'latin1'); // "Mortise wrapped key", format 1
const HEADER_BYTES = MAGIC.length + 1 + 4;
/** Characters of the longest blob in base64url. */
export const MAX_WRAPPED_TEXT = Math.ceil(((HEADER_BYTES + MAX_SEALED_BYTES) * 4) / 3);
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

/** What of a blob its associated data begin with. */
type Header = Pick<WrappedKey, 'scheme' | 'kekVersion'>;

const header = ({ scheme, kekVersion }: Header): Buffer => {
  if (!Number.isSafeInteger(kekVersion) || kekVersion < 1 || kekVersion > MAX_VERSION) {
    throw new WrappedKeyError('KEK_VERSION');
  }
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt8(wrapScheme(scheme).number, MAGIC.length);
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
export const wrappedKeyAad = (identity: WrappedIdentity, blob: Header): Buffer =>
  Buffer.concat([
    lengthPrefixed(CONTEXT),
    header(blob),
    lengthPrefixed(identity.tenant),
    lengthPrefixed(identity.keyId),
    lengthPrefixed(String(identity.version)),
    lengthPrefixed(identity.algorithm),
  ]);

/** The blob as base64url. */
export const encodeWrappedKey = (blob: WrappedKey): string => {
  const start = header(blob);
  if (!isSealedLength(wrapScheme(blob.scheme), blob.sealed.length)) throw new WrappedKeyError('LENGTH');
  return Buffer.concat([start, blob.sealed]).toString('base64url');
};

/** Reads a blob from base64url without padding (RFC 4648 section 5, canonical), or throws WrappedKeyError. */
export const decodeWrappedKey = (text: string): WrappedKey => {
  if (text.length > MAX_WRAPPED_TEXT) throw new WrappedKeyError('LENGTH');
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text) throw new WrappedKeyError('ENCODING');
  if (bytes.length < HEADER_BYTES) throw new WrappedKeyError('LENGTH');
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw new WrappedKeyError('MAGIC');
  const row = WRAP_SCHEMES.find(({ number }) => number === bytes.readUInt8(MAGIC.length));
  if (row === undefined) throw new WrappedKeyError('SCHEME');
  const sealed = bytes.subarray(HEADER_BYTES);
  if (!isSealedLength(row, sealed.length)) throw new WrappedKeyError('LENGTH');
  const kekVersion = bytes.readUInt32BE(MAGIC.length + 1);
  if (kekVersion === 0) throw new WrappedKeyError('KEK_VERSION');
  return { scheme: row.scheme, kekVersion, sealed };
};
