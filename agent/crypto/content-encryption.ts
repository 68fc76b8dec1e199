// Content encryption of RFC 7518 section 5: AES-GCM both ways; AES-CBC with HMAC only to decrypt, because many JOSE
// libraries make it by default. Invariant: nothing is released before the whole tag has verified.
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, timingSafeEqual } from 'node:crypto';
import { joinSecret } from './join-secret.ts';

export interface ContentEncryption {
  readonly name: string;
  readonly cekBytes: number;
  readonly ivBytes: number;
  readonly tagBytes: number;
  /** Hash of the AES-CBC-HMAC composites; absent for AES-GCM. */
  readonly hmac?: 'sha256' | 'sha384' | 'sha512';
}

const gcm = (bits: 128 | 192 | 256): ContentEncryption => ({
  name: `A${bits}GCM`,
  cekBytes: bits / 8,
  ivBytes: 12,
  tagBytes: 16,
});

const cbc = (bits: 128 | 192 | 256, hash: 256 | 384 | 512): ContentEncryption => ({
  name: `A${bits}CBC-HS${hash}`,
  cekBytes: bits / 4,
  ivBytes: 16,
  tagBytes: hash / 16,
  hmac: `sha${hash}`,
});

export const CONTENT_ENCRYPTIONS: ReadonlyMap<string, ContentEncryption> = new Map(
  [gcm(128), gcm(192), gcm(256), cbc(128, 256), cbc(192, 384), cbc(256, 512)].map((row) => [row.name, row]),
);

/** What Mortise encrypts with. */
export const DEFAULT_ENC = gcm(256);

export interface Sealed {
  readonly iv: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

/** A256GCM. `aad` is the protected header segment. The iv must never come twice under one CEK. */
export const encryptContent = (input: { cek: Buffer; iv: Buffer; aad: string; plaintext: Buffer }): Sealed => {
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(input.cek), input.iv, { authTagLength: 16 });
  cipher.setAAD(Buffer.from(input.aad, 'ascii'));
  const first = cipher.update(input.plaintext);
  const last = cipher.final(); // empty: GCM is a stream
  return {
    iv: input.iv,
    ciphertext: last.length === 0 ? first : Buffer.concat([first, last]),
    tag: cipher.getAuthTag(),
  };
};

const openGcm = (enc: ContentEncryption, cek: Buffer, aad: Buffer, sealed: Sealed): Buffer | undefined => {
  const name = `aes-${(enc.cekBytes * 8) as 128 | 192 | 256}-gcm` as const;
  const decipher = createDecipheriv(name, createSecretKey(cek), sealed.iv, { authTagLength: enc.tagBytes });
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.tag);
  const plaintext = decipher.update(sealed.ciphertext);
  try {
    decipher.final();
    return plaintext;
  } catch {
    plaintext.fill(0); // unauthenticated
    return undefined;
  }
};

/** RFC 7518 section 5.2.2.2: the MAC first, in constant time; only what it vouches for reaches the padding check. */
const openCbc = (enc: ContentEncryption, cek: Buffer, aad: Buffer, sealed: Sealed): Buffer | undefined => {
  const half = enc.cekBytes / 2;
  const aadBits = Buffer.alloc(8);
  aadBits.writeBigUInt64BE(BigInt(aad.length) * 8n);
  const mac = createHmac(enc.hmac as string, createSecretKey(cek.subarray(0, half)))
    .update(aad)
    .update(sealed.iv)
    .update(sealed.ciphertext)
    .update(aadBits)
    .digest();
  if (!timingSafeEqual(mac.subarray(0, enc.tagBytes), sealed.tag)) return undefined;
  const decipher = createDecipheriv(`aes-${half * 8}-cbc`, createSecretKey(cek.subarray(half)), sealed.iv);
  const first = decipher.update(sealed.ciphertext);
  try {
    return joinSecret(first, decipher.final());
  } catch {
    first.fill(0);
    return undefined; // only a holder of the CEK gets here
  }
};

/** The plaintext, or undefined where the tag does not verify. The CEK must have the length of the `enc`. */
export const decryptContent = (enc: ContentEncryption, cek: Buffer, aad: string, sealed: Sealed): Buffer | undefined =>
  (enc.hmac === undefined ? openGcm : openCbc)(enc, cek, Buffer.from(aad, 'ascii'), sealed);
