// Compact JWS (RFC 7515 section 7.1), detached (appendix F) and with unencoded payload (RFC 7797): strict parse of
// untrusted text, and build. Invariant: an unencoded payload is always detached, so no payload byte can pass for syntax.
import { invalid } from '../errors.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import { buildJoseHeader, type JoseHeader, parseJoseHeader } from './jose-header.ts';
import type { JsonObject } from './strict-json.ts';

const FIELD = 'jws';
const UNDERSTOOD: ReadonlySet<string> = new Set(['b64']);
const MAX_SIGNATURE_BYTES = 64 * 1024; // as the raw signatures of the API; RSA of 8192 bits has 1 KiB

export interface CompactJws {
  readonly header: JoseHeader;
  readonly protectedSegment: string;
  /** False for RFC 7797 unencoded payloads. */
  readonly encoded: boolean;
  /** Undefined where it is detached. */
  readonly payload: Buffer | undefined;
  readonly signature: Buffer;
}

const isEncoded = (header: JoseHeader): boolean => {
  const b64 = header.members['b64'];
  if (b64 === undefined) return true;
  // RFC 7797 section 6: `b64` must be critical, or a reader that ignores it would check other bytes.
  if (typeof b64 !== 'boolean' || !header.critical.has('b64')) {
    throw invalid(FIELD, 'header "b64" must be a boolean and named by "crit"');
  }
  return b64;
};

export const parseCompactJws = (text: string): CompactJws => {
  const segments = text.split('.', 4);
  if (segments.length !== 3) throw invalid(FIELD, 'a Compact JWS has three segments');
  const [protectedSegment, payloadSegment, signatureSegment] = segments as [string, string, string];
  const header = parseJoseHeader(protectedSegment, FIELD, UNDERSTOOD);
  const encoded = isEncoded(header);
  if (!encoded && payloadSegment !== '') throw invalid(FIELD, 'an unencoded payload must be detached');
  const payload = payloadSegment === '' ? undefined : decodeBase64url(payloadSegment);
  if (payloadSegment !== '' && payload === undefined) throw invalid(FIELD, 'the payload is not canonical base64url');
  if (signatureSegment.length > (MAX_SIGNATURE_BYTES * 4) / 3 + 4) throw invalid(FIELD, 'the signature is over 64 KiB');
  const signature = decodeBase64url(signatureSegment);
  if (signature === undefined) throw invalid(FIELD, 'the signature is not canonical base64url');
  return { header, protectedSegment, encoded, payload, signature };
};

export const buildJwsHeader = (input: {
  alg: string;
  kid?: string;
  type?: string | undefined;
  encoded?: boolean;
}): string => {
  const members: JsonObject = {
    alg: input.alg,
    ...(input.kid !== undefined && { kid: input.kid }),
    ...(input.type !== undefined && { typ: input.type }),
    ...(input.encoded === false && { b64: false, crit: ['b64'] }),
  };
  return buildJoseHeader(members);
};

/** What is signed: header "." payload, the payload in base64url unless it is unencoded (RFC 7797 section 3). */
export const jwsSigningInput = (protectedSegment: string, payload: Buffer, encoded: boolean): Buffer =>
  encoded
    ? Buffer.from(`${protectedSegment}.${encodeBase64url(payload)}`, 'ascii')
    : Buffer.concat([Buffer.from(`${protectedSegment}.`, 'ascii'), payload]);

export const buildCompactJws = (protectedSegment: string, payload: Buffer | undefined, signature: Buffer): string =>
  `${protectedSegment}.${payload === undefined ? '' : encodeBase64url(payload)}.${encodeBase64url(signature)}`;
