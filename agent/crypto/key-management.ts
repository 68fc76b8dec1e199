// The JWE key management algorithms that key versions are made for (RFC 7518 section 4): their header parameters, and
// the part that needs only a public key. What needs a private or secret key goes to the token, in the use cases.
import { constants, type KeyObject, publicEncrypt } from 'node:crypto';
import { invalid } from '../errors.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import { ecPublicKey } from './curves.ts';
import { ECDH_ES_A256KW, type EcdhParameters, parseEcdhParameters, wrapByAgreement } from './ecdh-es.ts';
import { headerText } from './jose-header.ts';
import type { CompactJwe } from './jwe.ts';
import type { JsonObject } from './strict-json.ts';

export const RSA_OAEP_256 = 'RSA-OAEP-256';
export const GCM_KEY_WRAPS: ReadonlySet<string> = new Set(['A128GCMKW', 'A192GCMKW', 'A256GCMKW']);

/** How the CEK of a JWE is reached, with parameters that are well formed but not yet trusted. */
export type KeyManagement =
  | { readonly kind: 'gcm'; readonly iv: Buffer; readonly tag: Buffer }
  | { readonly kind: 'oaep' }
  | { readonly kind: 'agreement'; readonly ecdh: EcdhParameters };

const gcmMember = (members: JsonObject, name: 'iv' | 'tag', bytes: number): Buffer => {
  const value = decodeBase64url(headerText(members, name, 'jwe', 64) ?? '');
  if (value?.length !== bytes) throw invalid('jwe', `header "${name}" is not ${bytes} bytes in base64url`);
  return value;
};

/** `jose` and `crv` are those of the key version, never the header's: the header only has to agree. */
export const parseKeyManagement = (jwe: CompactJwe, jose: string, crv: string | undefined): KeyManagement => {
  const { members } = jwe.header;
  if (GCM_KEY_WRAPS.has(jose)) {
    return { kind: 'gcm', iv: gcmMember(members, 'iv', 12), tag: gcmMember(members, 'tag', 16) };
  }
  if (jose === RSA_OAEP_256) return { kind: 'oaep' };
  if (jose === ECDH_ES_A256KW && crv !== undefined) {
    return { kind: 'agreement', ecdh: parseEcdhParameters(members, crv) };
  }
  throw invalid('jwe', 'header "alg" is not one that keys of this agent serve');
};

export interface WrappedCek {
  readonly encryptedKey: Buffer;
  /** Header members besides alg, enc and kid. */
  readonly members: JsonObject;
}

/** A CEK wrapped by a secret key's AES-GCM: the tag travels in the header (RFC 7518 section 4.7.1). */
export const gcmWrapped = (iv: Buffer, sealed: Buffer): WrappedCek => ({
  encryptedKey: sealed.subarray(0, sealed.length - 16),
  members: { iv: encodeBase64url(iv), tag: encodeBase64url(sealed.subarray(sealed.length - 16)) },
});

/** Wraps a CEK for a public key, in software: no secret of ours is involved but the CEK itself. */
export const wrapForPublicKey = (
  jose: string,
  recipient: { readonly key: KeyObject; readonly jwk: JsonObject },
  cek: Buffer,
): WrappedCek => {
  if (jose === RSA_OAEP_256) {
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    return { encryptedKey: publicEncrypt({ key: recipient.key, padding, oaepHash: 'sha256' }, cek), members: {} };
  }
  const ec = jose === ECDH_ES_A256KW ? ecPublicKey(recipient.jwk) : undefined;
  if (ec === undefined) throw new TypeError(`${jose} does not wrap for this public key`);
  return wrapByAgreement(ec, cek);
};
