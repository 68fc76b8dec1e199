// The JWE key management algorithms that key versions are made for (RFC 7518 section 4): their header parameters, and
// the part that needs only a public key. What needs a private or secret key goes to the token, in the use cases.
import { constants, type KeyObject, publicEncrypt } from 'node:crypto';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { invalid } from '../errors.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import { agreementKey, ECDH_ES_A256KW, type EcdhParameters, parseEcdhParameters, wrapByAgreement } from './ecdh-es.ts';
import { headerText } from './jose-header.ts';
import type { CompactJwe } from './jwe.ts';
import { INTEGRATED, KEM_ALGORITHMS, type KemAlgorithm } from './kem-algorithms.ts';
import { wrapUnderSecret } from './kem-key-wrap.ts';
import { classicalPublicOf, encapsulateTo, kemCiphertextBytes, pqcPublicJwk } from './pq-kem.ts';
import type { JsonObject } from './strict-json.ts';

export const RSA_OAEP_256 = 'RSA-OAEP-256';
export const GCM_KEY_WRAPS: ReadonlySet<string> = new Set(['A128GCMKW', 'A192GCMKW', 'A256GCMKW']);

/** How the CEK of a JWE is reached, with parameters that are well formed but not yet trusted. */
export type KeyManagement =
  | { readonly kind: 'gcm'; readonly iv: Buffer; readonly tag: Buffer }
  | { readonly kind: 'oaep' }
  | { readonly kind: 'agreement'; readonly ecdh: EcdhParameters }
  | { readonly kind: 'kem'; readonly algorithm: KemAlgorithm; readonly ciphertext: Buffer };

const gcmMember = (members: JsonObject, name: 'iv' | 'tag', bytes: number): Buffer => {
  const value = decodeBase64url(headerText(members, name, 'jwe', 64) ?? '');
  if (value?.length !== bytes) throw invalid('jwe', `header "${name}" is not ${bytes} bytes in base64url`);
  return value;
};

/** draft-ietf-jose-hpke-encrypt sections 5 and 6: in `ek`, or in place of the encrypted key. */
const kemCiphertext = (jwe: CompactJwe, { form, kem, jose }: KemAlgorithm): Buffer => {
  const { members } = jwe.header;
  if (members['psk_id'] !== undefined) throw invalid('jwe', 'header "psk_id": a pre-shared key is not accepted');
  if ((form === 'integrated') !== (jwe.enc === INTEGRATED))
    throw invalid('jwe', `header "enc" does not go with ${jose}`);
  if (form === 'integrated' && members['ek'] !== undefined)
    throw invalid('jwe', `header "ek" does not go with ${jose}`);
  const bytes = kemCiphertextBytes(kem);
  const ciphertext =
    form === 'integrated'
      ? jwe.encryptedKey
      : decodeBase64url(headerText(members, 'ek', 'jwe', Math.ceil((bytes * 4) / 3)) ?? '');
  if (ciphertext?.length === bytes) return ciphertext;
  const where = form === 'integrated' ? 'the encrypted key' : 'header "ek"';
  throw invalid('jwe', `${where} is not ${bytes} bytes in base64url`);
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
  const algorithm = KEM_ALGORITHMS.get(jose);
  if (algorithm !== undefined) return { kind: 'kem', algorithm, ciphertext: kemCiphertext(jwe, algorithm) };
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

/** A public key to wrap for. `key` of a KEM is its ML-KEM half. */
export interface WrapRecipient {
  readonly key: KeyObject;
  readonly jwk: Readonly<Record<string, string>>;
}

const wrapByKem = (algorithm: KemAlgorithm, { key, jwk }: WrapRecipient, cek: Buffer, enc: string): WrappedCek => {
  const classical = classicalPublicOf(algorithm.kem, jwk as PublicJwk);
  const { secret, ciphertext } = encapsulateTo(algorithm.kem, { pqc: key, classical });
  return {
    encryptedKey: wrapUnderSecret(algorithm, enc, secret, cek),
    members: { ek: encodeBase64url(ciphertext) },
  };
};

/** The JWK whose key object a `WrapRecipient` takes. */
export const wrapKeyJwk = (jose: string, jwk: PublicJwk): PublicJwk => {
  const algorithm = KEM_ALGORITHMS.get(jose);
  return algorithm === undefined ? jwk : pqcPublicJwk(algorithm.kem, jwk);
};

/**
 * Wraps a CEK for a public key, in software: no secret of ours is involved but the CEK itself. `enc` is the content
 * encryption that it is for.
 */
export const wrapForPublicKey = (jose: string, recipient: WrapRecipient, cek: Buffer, enc: string): WrappedCek => {
  if (jose === RSA_OAEP_256) {
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    return { encryptedKey: publicEncrypt({ key: recipient.key, padding, oaepHash: 'sha256' }, cek), members: {} };
  }
  const algorithm = KEM_ALGORITHMS.get(jose);
  if (algorithm !== undefined) return wrapByKem(algorithm, recipient, cek, enc);
  const to = jose === ECDH_ES_A256KW ? agreementKey(recipient.jwk) : undefined;
  if (to === undefined) throw new TypeError(`${jose} does not wrap for this public key`);
  return wrapByAgreement(to, cek);
};
