// Compact JWE (RFC 7516 section 7.1): strict parse of untrusted text, and build. Invariant: what parses has the five
// segments, canonical base64url, a header that is understood whole, and the lengths that its `enc` prescribes.
import { invalid } from '../errors.ts';
import { AAD_PARAMETER } from './associated-data.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import { CONTENT_ENCRYPTIONS, type ContentEncryption } from './content-encryption.ts';
import { buildJoseHeader, headerText, type JoseHeader, parseJoseHeader } from './jose-header.ts';
import { INTEGRATED, isIntegrated } from './kem-algorithms.ts';
import type { JsonObject } from './strict-json.ts';

const FIELD = 'jwe';
export const MAX_ENCRYPTED_KEY_BYTES = 2048; // HPKE-10 has 1665; RSA of 8192 bits 1024
export const UNDERSTOOD: ReadonlySet<string> = new Set([AAD_PARAMETER]);

export interface CompactJwe {
  readonly header: JoseHeader;
  readonly enc: ContentEncryption;
  /** The header as it stands in the text: the additional authenticated data (RFC 7516 section 5.1 step 14). */
  readonly protectedSegment: string;
  /** `aad` of the JSON serialization, which the content is bound to as well; the compact one has none. */
  readonly aadMember?: Buffer | undefined;
  readonly encryptedKey: Buffer;
  readonly iv: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

/** RFC 7518 section 5, or none: with an integrated algorithm HPKE seals the content (draft-ietf-jose-hpke-encrypt). */
export const contentEncryptionOf = (members: JsonObject): ContentEncryption => {
  if (typeof members['alg'] === 'string' && isIntegrated(members['alg'])) {
    if (members['enc'] !== undefined) throw invalid(FIELD, 'header "enc": integrated encryption has none');
    if (members['zip'] !== undefined) throw invalid(FIELD, 'header "zip": compressed plaintext is not accepted');
    return INTEGRATED;
  }
  const name = headerText(members, 'enc', FIELD, 64);
  const enc = name === undefined ? undefined : CONTENT_ENCRYPTIONS.get(name);
  if (enc === undefined) throw invalid(FIELD, 'header "enc" is not one of RFC 7518 section 5');
  if (members['zip'] !== undefined) throw invalid(FIELD, 'header "zip": compressed plaintext is not accepted');
  return enc;
};

export const requireLengths = (enc: ContentEncryption, iv: Buffer, tag: Buffer): void => {
  if (iv.length === enc.ivBytes && tag.length === enc.tagBytes) return;
  if (enc === INTEGRATED) throw invalid(FIELD, 'integrated encryption has no iv and no tag');
  throw invalid(FIELD, `${enc.name} has an iv of ${enc.ivBytes} and a tag of ${enc.tagBytes} bytes`);
};

/** Additional authenticated data of the content (RFC 7516 section 5.1 step 14). */
export const contentAad = ({
  protectedSegment,
  aadMember,
}: Pick<CompactJwe, 'protectedSegment' | 'aadMember'>): string =>
  aadMember === undefined ? protectedSegment : `${protectedSegment}.${encodeBase64url(aadMember)}`;

export const parseCompactJwe = (text: string): CompactJwe => {
  const segments = text.split('.', 6);
  if (segments.length !== 5) throw invalid(FIELD, 'a Compact JWE has five segments');
  const [protectedSegment, ...rest] = segments as [string, string, string, string, string];
  const header = parseJoseHeader(protectedSegment, FIELD, UNDERSTOOD);
  const enc = contentEncryptionOf(header.members);
  const [encryptedKey, iv, ciphertext, tag] = rest.map((segment) => {
    const bytes = decodeBase64url(segment);
    if (bytes === undefined) throw invalid(FIELD, 'a segment is not canonical base64url');
    return bytes;
  }) as [Buffer, Buffer, Buffer, Buffer];
  if (encryptedKey.length > MAX_ENCRYPTED_KEY_BYTES) throw invalid(FIELD, 'the encrypted key is over 2 KiB');
  requireLengths(enc, iv, tag);
  return { header, enc, protectedSegment, encryptedKey, iv, ciphertext, tag };
};

/** The header segment; it must be made before the content is encrypted, which authenticates it. */
export const buildJweHeader = (members: JsonObject): string => buildJoseHeader(members);

export const buildCompactJwe = (parts: Omit<CompactJwe, 'header' | 'enc'>): string =>
  [
    parts.protectedSegment,
    encodeBase64url(parts.encryptedKey),
    encodeBase64url(parts.iv),
    encodeBase64url(parts.ciphertext),
    encodeBase64url(parts.tag),
  ].join('.');
