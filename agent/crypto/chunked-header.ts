// The header of a container: a General JSON JWE (RFC 7516 section 7.2.1) whose content is the input key of the chunked
// ciphertext. Invariant: what identifies a recipient is outside the protected header, so it can be re-wrapped alone.
import { invalid } from '../errors.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import { INPUT_KEY_BYTES } from './chunked-keys.ts';
import { type ContentEncryption, DEFAULT_ENC, encryptContent } from './content-encryption.ts';
import { buildJoseHeader, headerText } from './jose-header.ts';
import type { CompactJwe } from './jwe.ts';
import type { WrappedCek } from './key-management.ts';
import { type JsonObject, parseJsonObject } from './strict-json.ts';

const FIELD = 'data';
const MAX_RECIPIENTS = 32;
const MAX_ENCRYPTED_KEY_BYTES = 4096;
/** `cty` of the protected header: no JWE that was made for anything else passes for the header of a container. */
const INPUT_KEY_TYPE = 'vnd.mortise.chunked-key';

const bytesOf = (json: JsonObject, name: string, maxBytes: number): Buffer => {
  const bytes = decodeBase64url(headerText(json, name, FIELD, Math.ceil((maxBytes * 4) / 3)) ?? '');
  if (bytes === undefined) throw invalid(FIELD, `"${name}" of the header is not canonical base64url`);
  return bytes;
};

const objectOf = (value: unknown, what: string): JsonObject => {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw invalid(FIELD, `${what} is not an object`);
};

const protectedOf = (segment: string | undefined): JsonObject => {
  const text = decodeBase64url(segment ?? '')?.toString('utf8');
  const members = text === undefined ? undefined : parseJsonObject(text);
  if (members === undefined) throw invalid(FIELD, 'the protected header is not a JSON object in base64url');
  if (members['enc'] !== DEFAULT_ENC.name || members['cty'] !== INPUT_KEY_TYPE) {
    throw invalid(FIELD, `the protected header is not of "enc" ${DEFAULT_ENC.name} and "cty" ${INPUT_KEY_TYPE}`);
  }
  return members;
};

/** Protected and per-recipient members as one header; RFC 7516 section 7.2.1 wants the names disjoint. */
const recipientOf = (value: unknown, shared: JsonObject, jwe: Omit<CompactJwe, 'header' | 'encryptedKey'>) => {
  const json = objectOf(value, 'a recipient');
  const own = objectOf(json['header'], 'the header of a recipient');
  if (Object.keys(own).some((name) => name in shared)) throw invalid(FIELD, 'a header member comes twice');
  const members: JsonObject = Object.assign(Object.create(null) as JsonObject, shared, own);
  if ('crit' in members) throw invalid(FIELD, 'header "crit" names a parameter that is not understood');
  if ('zip' in members) throw invalid(FIELD, 'header "zip": compressed plaintext is not accepted');
  const alg = headerText(members, 'alg', FIELD, 64);
  if (alg === undefined) throw invalid(FIELD, 'a recipient has no "alg"');
  const header = { alg, kid: headerText(members, 'kid', FIELD, 512), critical: new Set<string>(), members };
  return { ...jwe, header, encryptedKey: bytesOf(json, 'encrypted_key', MAX_ENCRYPTED_KEY_BYTES) };
};

/** One JWE for each recipient, all with the same content. */
export const parseChunkedHeader = (text: string): CompactJwe[] => {
  const json = parseJsonObject(text);
  if (json === undefined) throw invalid(FIELD, 'the header is not a JSON object without repeated members');
  const allowed = ['protected', 'recipients', 'iv', 'ciphertext', 'tag'];
  if (Object.keys(json).some((name) => !allowed.includes(name))) throw invalid(FIELD, 'the header has unknown members');
  const protectedSegment = headerText(json, 'protected', FIELD, 1024) ?? '';
  const shared = protectedOf(protectedSegment);
  const [iv, ciphertext, tag] = [bytesOf(json, 'iv', 64), bytesOf(json, 'ciphertext', 64), bytesOf(json, 'tag', 64)];
  const enc: ContentEncryption = DEFAULT_ENC;
  if (iv.length !== enc.ivBytes || tag.length !== enc.tagBytes || ciphertext.length !== INPUT_KEY_BYTES) {
    throw invalid(FIELD, 'the content of the header is not an input key');
  }
  const { recipients } = json;
  if (!Array.isArray(recipients) || recipients.length < 1 || recipients.length > MAX_RECIPIENTS) {
    throw invalid(FIELD, `the header has not 1 to ${MAX_RECIPIENTS} recipients`);
  }
  const jwe = { enc, protectedSegment, iv, ciphertext, tag };
  return (recipients as unknown[]).map((value) => recipientOf(value, shared, jwe));
};

/** The header for one recipient. The CEK encrypts the input key and nothing else. */
export const buildChunkedHeader = (input: {
  readonly alg: string;
  readonly kid: string;
  readonly wrapped: WrappedCek;
  readonly cek: Buffer;
  readonly iv: Buffer;
  readonly inputKey: Buffer;
}): string => {
  const { alg, kid, wrapped, cek, iv, inputKey } = input;
  const segment = buildJoseHeader({ enc: DEFAULT_ENC.name, cty: INPUT_KEY_TYPE });
  const sealed = encryptContent({ cek, iv, aad: segment, plaintext: inputKey });
  return JSON.stringify({
    protected: segment,
    recipients: [{ header: { alg, kid, ...wrapped.members }, encrypted_key: encodeBase64url(wrapped.encryptedKey) }],
    iv: encodeBase64url(sealed.iv),
    ciphertext: encodeBase64url(sealed.ciphertext),
    tag: encodeBase64url(sealed.tag),
  });
};
