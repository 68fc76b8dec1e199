// Cobblestone-256: the single chunks of C2SP chunked-encryption with AES-256-GCM (c2sp.org/chunked-encryption@v1), as
// agent and client make and open them. Invariant: a chunk's plaintext is given out only after its tag has verified.
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto';

export const CHUNK_BYTES = 16 * 1024;
export const TAG_BYTES = 16;
export const SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES;
/** Numbers from here on MUST NOT be used ("Message chunking"). */
export const MAX_CHUNKS = 2 ** 38;
export const CHUNK_KEY_BYTES = 32;
export const NONCE_BYTES = 12;

/** What the chunks of one message are made with, and nothing else. */
export interface ChunkKeys {
  readonly key: KeyObject;
  readonly baseNonce: Buffer;
}

/** The keys out of their bytes, which stay the caller's to wipe. */
export const chunkKeysOf = (key: Buffer, baseNonce: Buffer): ChunkKeys => {
  if (key.length !== CHUNK_KEY_BYTES) throw new RangeError(`the key of the chunks has ${CHUNK_KEY_BYTES} bytes`);
  if (baseNonce.length !== NONCE_BYTES) throw new RangeError(`a base nonce has ${NONCE_BYTES} bytes`);
  return { key: createSecretKey(key), baseNonce: Buffer.from(baseNonce) };
};

/** The base nonce XOR the number, big-endian ("AEAD usage"); a number has 38 bits, so five bytes are touched. */
const nonceOf = (baseNonce: Buffer, number: number): Buffer => {
  if (!(number < MAX_CHUNKS)) throw new RangeError('a message has at most 2^38 chunks');
  const nonce = Buffer.from(baseNonce);
  const high = Math.floor(number / 2 ** 32);
  nonce[7] = (nonce[7] as number) ^ high;
  nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ number) >>> 0, 8);
  return nonce;
};

/** Ciphertext and tag, in this order. */
export const sealChunk = (keys: ChunkKeys, number: number, plaintext: Buffer): [Buffer, Buffer] => {
  const cipher = createCipheriv('aes-256-gcm', keys.key, nonceOf(keys.baseNonce, number));
  const ciphertext = cipher.update(plaintext);
  cipher.final(); // empty: GCM is a stream
  return [ciphertext, cipher.getAuthTag()];
};

/** The plaintext, or undefined where the chunk is not number `number` of this message. */
export const openChunk = (keys: ChunkKeys, number: number, sealed: Buffer): Buffer | undefined => {
  if (sealed.length < TAG_BYTES || sealed.length > SEALED_CHUNK_BYTES) return undefined;
  const end = sealed.length - TAG_BYTES;
  const nonce = nonceOf(keys.baseNonce, number);
  const decipher = createDecipheriv('aes-256-gcm', keys.key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(sealed.subarray(end));
  const plaintext = decipher.update(sealed.subarray(0, end));
  try {
    decipher.final();
    return plaintext;
  } catch {
    plaintext.fill(0); // unauthenticated
    return undefined;
  }
};
