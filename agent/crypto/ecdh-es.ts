// ECDH-ES+A256KW (RFC 7518 section 4.6): parse of the header's parameters, the Concat KDF, and the sender's side.
// Invariant: the ephemeral point is checked to be on the curve of the recipient's key before any secret meets it.
import { createECDH, createHash } from 'node:crypto';
import { invalid } from '../errors.ts';
import { aesKeyUnwrap, aesKeyWrap } from './aes-key-wrap.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import { type Curve, ecPublicKey } from './curves.ts';
import { headerText } from './jose-header.ts';
import type { JsonObject } from './strict-json.ts';
import { agreeX25519 } from './x25519.ts';

export const ECDH_ES_A256KW = 'ECDH-ES+A256KW';
const MAX_PARTY_BYTES = 1024; // apu, apv: free text of the sender, hashed into the KDF
const KEK_BITS = 256;

/** A public key to agree with: a point of a NIST curve, or an X25519 key (RFC 8037 section 3.2), which is its own bytes. */
export type AgreementKey =
  | { readonly curve: Curve; readonly point: Buffer }
  | { readonly curve: undefined; readonly point: Buffer };

/** Undefined where the JWK is none. */
export const agreementKey = (jwk: JsonObject): AgreementKey | undefined => {
  if (jwk['kty'] === 'EC') return ecPublicKey(jwk);
  const point = jwk['crv'] === 'X25519' && typeof jwk['x'] === 'string' ? decodeBase64url(jwk['x']) : undefined;
  return jwk['kty'] === 'OKP' && point?.length === 32 ? { curve: undefined, point } : undefined;
};

export interface EcdhParameters {
  /** The ephemeral public key: 0x04 || X || Y, or 32 bytes of X25519. */
  readonly point: Buffer;
  readonly apu: Buffer;
  readonly apv: Buffer;
}

const party = (members: JsonObject, name: 'apu' | 'apv'): Buffer => {
  const text = headerText(members, name, 'jwe', MAX_PARTY_BYTES);
  const bytes = decodeBase64url(text ?? '');
  if (bytes === undefined) throw invalid('jwe', `header "${name}" is not canonical base64url`);
  return bytes;
};

export const parseEcdhParameters = (members: JsonObject, crv: string): EcdhParameters => {
  const epk = members['epk'];
  const kty = crv === 'X25519' ? 'OKP' : 'EC';
  if (typeof epk !== 'object' || epk === null || (epk as JsonObject)['kty'] !== kty) {
    throw invalid('jwe', `header "epk" is not an ${kty} public key`);
  }
  if ('d' in epk) throw invalid('jwe', 'header "epk" holds a private key');
  const parsed = agreementKey(epk as JsonObject);
  if (parsed === undefined || (parsed.curve?.crv ?? 'X25519') !== crv) {
    throw invalid('jwe', `header "epk" is not a point on ${crv}`);
  }
  return { point: parsed.point, apu: party(members, 'apu'), apv: party(members, 'apv') };
};

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** Concat KDF with SHA-256 (SP 800-56A section 5.8.1, RFC 7518 section 4.6.2). */
export const concatKdf = (
  secret: Buffer,
  info: { algorithmId: string; apu: Buffer; apv: Buffer; bits: number },
): Buffer => {
  const prefixed = (bytes: Buffer): Buffer[] => [uint32(bytes.length), bytes];
  const otherInfo = Buffer.concat([
    ...prefixed(Buffer.from(info.algorithmId, 'ascii')),
    ...prefixed(info.apu),
    ...prefixed(info.apv),
    uint32(info.bits),
  ]);
  const blocks = Array.from({ length: Math.ceil(info.bits / 256) }, (_, index) =>
    createHash('sha256')
      .update(uint32(index + 1))
      .update(secret)
      .update(otherInfo)
      .digest(),
  );
  const key = Buffer.concat(blocks).subarray(0, info.bits / 8);
  for (const block of blocks) block.fill(0);
  return key;
};

const kekOf = (secret: Buffer, apu: Buffer, apv: Buffer): Buffer =>
  concatKdf(secret, { algorithmId: ECDH_ES_A256KW, apu, apv, bits: KEK_BITS });

/** The CEK under the agreed secret Z, or undefined. Z is wiped. */
export const unwrapByAgreement = (secret: Buffer, ecdh: EcdhParameters, encryptedKey: Buffer): Buffer | undefined => {
  const kek = kekOf(secret, ecdh.apu, ecdh.apv);
  try {
    return aesKeyUnwrap(kek, encryptedKey);
  } finally {
    kek.fill(0);
    secret.fill(0);
  }
};

const agreeEc = ({ crv, openssl, bytes }: Curve, point: Buffer): { secret: Buffer; epk: JsonObject } => {
  const ephemeral = createECDH(openssl);
  const own = ephemeral.generateKeys();
  const x = encodeBase64url(own.subarray(1, 1 + bytes));
  const y = encodeBase64url(own.subarray(1 + bytes));
  return { secret: ephemeral.computeSecret(point), epk: { kty: 'EC', crv, x, y } };
};

/** Wraps a CEK for a recipient's key with a fresh ephemeral key of the operating system's generator. */
export const wrapByAgreement = (
  { curve, point }: AgreementKey,
  cek: Buffer,
): { encryptedKey: Buffer; members: JsonObject } => {
  const { secret, epk } = curve === undefined ? agreeX25519(point) : agreeEc(curve, point);
  const kek = kekOf(secret, Buffer.alloc(0), Buffer.alloc(0));
  try {
    return { encryptedKey: aesKeyWrap(kek, cek), members: { epk } };
  } finally {
    kek.fill(0);
    secret.fill(0);
  }
};
