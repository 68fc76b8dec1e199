// JWE in the JSON serialization (RFC 7516 section 7.2): strict parse of untrusted text, General or Flattened, and build.
// Invariant: what parses has `enc` protected, at most 32 recipients, and for each of them one header whose parts share
// no member.
import { invalid } from '../errors.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import type { ContentEncryption, Sealed } from './content-encryption.ts';
import { buildJoseHeader, decodeHeader, readJoseHeader } from './jose-header.ts';
import { type CompactJwe, contentEncryptionOf, MAX_ENCRYPTED_KEY_BYTES, requireLengths, UNDERSTOOD } from './jwe.ts';
import { INTEGRATED } from './kem-algorithms.ts';
import { type JsonObject, parseJsonObject } from './strict-json.ts';

const FIELD = 'jwe';
export const MAX_RECIPIENTS = 32; // each may cost a private-key operation, and a header of 8 KiB
const MAX_HEADER_TEXT = 8 * 1024; // as of a protected header
const MAX_AAD_BYTES = 16 * 1024; // as the associated data of the API

export interface JsonRecipient {
  /** The recipient's own unprotected header, as it came. */
  readonly header: JsonObject;
  readonly encryptedKey: Buffer;
  /** The whole as this recipient sees it, its header the union of all three. */
  readonly jwe: CompactJwe;
}

export interface JsonJwe extends Sealed {
  readonly enc: ContentEncryption;
  readonly protectedSegment: string;
  readonly protectedMembers: JsonObject;
  /** Unprotected, for all recipients. */
  readonly sharedHeader: JsonObject | undefined;
  readonly aadMember: Buffer | undefined;
  readonly recipients: readonly JsonRecipient[];
}

/** Which serialization a text is to be read as; a Compact JWE never begins so. */
export const isJsonJwe = (text: string): boolean => text.startsWith('{');

const bytesOf = (value: unknown, name: string): Buffer => {
  const bytes = typeof value === 'string' ? decodeBase64url(value) : undefined;
  if (bytes === undefined) throw invalid(FIELD, `"${name}" is not canonical base64url`);
  return bytes;
};

const headerOf = (value: unknown, name: string): JsonObject => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(FIELD, `"${name}" is not an object`);
  }
  if (JSON.stringify(value).length > MAX_HEADER_TEXT) throw invalid(FIELD, `"${name}" is over 8 KiB`);
  return Object.assign(Object.create(null) as JsonObject, value);
};

/** RFC 7516 section 7.2.1: the three headers share no member, so that nobody can shadow a protected one. */
const union = (headers: readonly (JsonObject | undefined)[]): JsonObject => {
  const members: Record<string, unknown> = Object.create(null);
  for (const [name, value] of headers.flatMap((header) => Object.entries(header ?? {}))) {
    if (name in members) throw invalid(FIELD, 'a header parameter stands in two headers');
    members[name] = value;
  }
  return members;
};

interface RawRecipient {
  readonly header: JsonObject;
  readonly encryptedKey: Buffer;
}

const rawRecipient = (value: JsonObject): RawRecipient => {
  const header = value['header'] === undefined ? headerOf({}, 'header') : headerOf(value['header'], 'header');
  const encryptedKey = bytesOf(value['encrypted_key'] ?? '', 'encrypted_key');
  if (encryptedKey.length > MAX_ENCRYPTED_KEY_BYTES) throw invalid(FIELD, 'the encrypted key is over 2 KiB');
  return { header, encryptedKey };
};

/** Of the General form, or the one of the Flattened form; never both in one text. */
const rawRecipients = (json: JsonObject): readonly RawRecipient[] => {
  const list = json['recipients'];
  if (list === undefined) return [rawRecipient(json)];
  if (json['header'] !== undefined || json['encrypted_key'] !== undefined) {
    throw invalid(FIELD, 'is of the General and the Flattened form at once');
  }
  if (!Array.isArray(list) || list.length === 0 || list.length > MAX_RECIPIENTS) {
    throw invalid(FIELD, `"recipients" is not a list of 1 to ${MAX_RECIPIENTS}`);
  }
  return list.map((row: unknown) => {
    if (typeof row !== 'object' || row === null || Array.isArray(row)) throw invalid(FIELD, 'a recipient is no object');
    return rawRecipient(row as JsonObject);
  });
};

const aadOf = (json: JsonObject): Buffer | undefined => {
  if (json['aad'] === undefined) return undefined;
  const aad = bytesOf(json['aad'], 'aad');
  if (aad.length > MAX_AAD_BYTES) throw invalid(FIELD, '"aad" is over 16 KiB');
  return aad;
};

export const parseJsonJwe = (text: string): JsonJwe => {
  const json = parseJsonObject(text);
  if (json === undefined) throw invalid(FIELD, 'not a JSON object without repeated members');
  const protectedSegment = json['protected'];
  if (typeof protectedSegment !== 'string') throw invalid(FIELD, 'has no protected header');
  const protectedMembers = decodeHeader(protectedSegment, FIELD);
  // Where nobody vouches for it, a change of `enc` could turn one cipher's text into another's.
  const enc = contentEncryptionOf(protectedMembers);
  const sharedHeader = json['unprotected'] === undefined ? undefined : headerOf(json['unprotected'], 'unprotected');
  const aadMember = aadOf(json);
  const absent = enc === INTEGRATED ? '' : undefined;
  const [iv, tag] = [bytesOf(json['iv'] ?? absent, 'iv'), bytesOf(json['tag'] ?? absent, 'tag')];
  requireLengths(enc, iv, tag);
  const ciphertext = bytesOf(json['ciphertext'], 'ciphertext');
  const content = { enc, protectedSegment, aadMember, iv, ciphertext, tag };
  const raw = rawRecipients(json);
  if (enc === INTEGRATED && raw.length > 1) throw invalid(FIELD, 'integrated encryption has one recipient');
  const recipients = raw.map(({ header, encryptedKey }) => {
    const members = union([protectedMembers, sharedHeader, header]);
    if (members['zip'] !== undefined) throw invalid(FIELD, 'header "zip": compressed plaintext is not accepted');
    if (members['crit'] !== protectedMembers['crit']) throw invalid(FIELD, 'header "crit" is not protected');
    const jwe = { ...content, encryptedKey, header: readJoseHeader(members, protectedMembers, FIELD, UNDERSTOOD) };
    return { header, encryptedKey, jwe };
  });
  return { ...content, protectedMembers, sharedHeader, recipients };
};

/** Header segment that says nothing about recipients, so that they can change. */
export const buildContentHeader = (enc: string, more: JsonObject): string => buildJoseHeader({ enc, ...more });

export const buildGeneralJwe = (
  content: Sealed & Pick<JsonJwe, 'protectedSegment'> & Partial<Pick<JsonJwe, 'sharedHeader' | 'aadMember'>>,
  recipients: readonly RawRecipient[],
): string =>
  JSON.stringify({
    protected: content.protectedSegment,
    ...(content.sharedHeader !== undefined && { unprotected: content.sharedHeader }),
    recipients: recipients.map(({ header, encryptedKey }) => ({
      header,
      encrypted_key: encodeBase64url(encryptedKey),
    })),
    ...(content.aadMember !== undefined && { aad: encodeBase64url(content.aadMember) }),
    iv: encodeBase64url(content.iv),
    ciphertext: encodeBase64url(content.ciphertext),
    tag: encodeBase64url(content.tag),
  });
