// HPKE in base mode for one message, with SHAKE256 and AES-256-GCM (draft-ietf-hpke-hpke, draft-ietf-hpke-pq), and the
// use that JWE makes of it (draft-ietf-jose-hpke-encrypt). The KEM is pq-kem.ts's. Our own, because the private half of a
// split key is in the token, where no library reaches.
import { createCipheriv, createDecipheriv, createSecretKey, hash } from 'node:crypto';

const KDF_SHAKE256 = 0x0011;
const AEAD_AES_256_GCM = 0x0002;
const MODE_BASE = 0;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const EXPORTER_BYTES = 64; // Nh of SHAKE256; derived with the rest, used by nobody here
const TAG_BYTES = 16;

/** Key and nonce of one message: what integrated encryption has in place of a CEK. */
export const MESSAGE_KEY_BYTES = KEY_BYTES + NONCE_BYTES;

const ascii = (text: string): Buffer => Buffer.from(text, 'ascii');
const uint16 = (value: number): Buffer => Buffer.of(value >> 8, value & 0xff);

const OUTPUT_BYTES = MESSAGE_KEY_BYTES + EXPORTER_BYTES;
const NO_PSK = uint16(0);
/** What stands between the shared secret and `info`, up to the id of the KEM and after it. */
const BEFORE_KEM_ID = ascii('HPKE-v1HPKE');
const AFTER_KEM_ID = Buffer.concat([
  uint16(KDF_SHAKE256),
  uint16(AEAD_AES_256_GCM),
  uint16('secret'.length),
  ascii('secret'),
  uint16(OUTPUT_BYTES),
  Buffer.of(MODE_BASE),
  uint16(0), // no PSK id
]);

/**
 * The key schedule for a one-stage KDF: key || base_nonce of the first message. Wipes the shared secret; what it gives is
 * the receiver's to wipe.
 */
export const messageKey = (kemId: number, sharedSecret: Buffer, info: Buffer): Buffer => {
  const ids = [BEFORE_KEM_ID, uint16(kemId), AFTER_KEM_ID];
  const input = Buffer.concat([NO_PSK, uint16(sharedSecret.length), sharedSecret, ...ids, uint16(info.length), info]);
  sharedSecret.fill(0);
  const secret = hash('shake256', input, { outputEncoding: 'buffer', outputLength: OUTPUT_BYTES });
  input.fill(0);
  const taken = Buffer.from(secret.subarray(0, MESSAGE_KEY_BYTES));
  secret.fill(0);
  return taken;
};

/** Ciphertext with the tag at its end. */
export const sealMessage = (key: Buffer, aad: Buffer, plaintext: Buffer): Buffer => {
  const secret = createSecretKey(key.subarray(0, KEY_BYTES));
  const cipher = createCipheriv('aes-256-gcm', secret, key.subarray(KEY_BYTES), { authTagLength: TAG_BYTES });
  cipher.setAAD(aad);
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
};

/** Undefined where it does not open. */
export const openMessage = (key: Buffer, aad: Buffer, sealed: Buffer): Buffer | undefined => {
  if (sealed.length < TAG_BYTES) return undefined;
  const secret = createSecretKey(key.subarray(0, KEY_BYTES));
  const decipher = createDecipheriv('aes-256-gcm', secret, key.subarray(KEY_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plaintext = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
  try {
    decipher.final();
    return plaintext;
  } catch {
    plaintext.fill(0); // unauthenticated
    return undefined;
  }
};

/** `info` of key encryption: it binds the CEK to the content encryption it is for. */
export const recipientInfo = (enc: string): Buffer => Buffer.from(`JOSE-HPKE rcpt\xff${enc}\xff`, 'latin1'); // and no recipient_extra_info
