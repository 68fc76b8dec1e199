// Cobblestone-256: C2SP chunked-encryption with SHA-512 and AES-256-GCM (c2sp.org/chunked-encryption@v1). Key
// derivation, commitment and single chunks. Invariant: a chunk's plaintext is given out only after its tag has verified.
import { createCipheriv, createDecipheriv, createHmac, createSecretKey, type KeyObject } from 'node:crypto';

export const INPUT_KEY_BYTES = 32;
export const SALT_BYTES = 24;
const COMMITMENT_BYTES = 32;
/** Salt and commitment, in front of the chunks. */
export const PREFIX_BYTES = SALT_BYTES + COMMITMENT_BYTES;
export const CHUNK_BYTES = 16 * 1024;
export const TAG_BYTES = 16;
export const SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES;
/** Numbers from here on MUST NOT be used ("Message chunking"). */
export const MAX_CHUNKS = 2 ** 38;

const NONCE_BYTES = 12;
const LABEL = Buffer.from('c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0', 'ascii');

/** HKDF-Expand with SHA-512 (RFC 5869 section 2.3); node:crypto has it only together with the Extract step. */
const hkdfExpand = (key: Buffer, info: readonly Buffer[], length: number): Buffer => {
  const prk = createSecretKey(key);
  const blocks: Buffer[] = [];
  for (let made = 0; made < length; made += 64) {
    const hmac = createHmac('sha512', prk);
    const last = blocks.at(-1);
    if (last !== undefined) hmac.update(last);
    for (const part of info) hmac.update(part);
    blocks.push(hmac.update(Buffer.of(blocks.length + 1)).digest());
  }
  const okm = Buffer.alloc(length);
  Buffer.concat(blocks).copy(okm);
  for (const block of blocks) block.fill(0);
  return okm;
};

export interface ChunkedKeys {
  readonly key: KeyObject;
  readonly baseNonce: Buffer;
  /** Compared with the one in front of the ciphertext before any chunk is touched. */
  readonly commitment: Buffer;
}

/** The keys of one message. The salt must not come twice under one input key; the context may be empty. */
export const deriveChunkedKeys = (inputKey: Buffer, salt: Buffer, context: Buffer): ChunkedKeys => {
  if (inputKey.length !== INPUT_KEY_BYTES) throw new RangeError(`an input key has ${INPUT_KEY_BYTES} bytes`);
  if (salt.length !== SALT_BYTES) throw new RangeError(`a salt has ${SALT_BYTES} bytes`);
  const okm = hkdfExpand(inputKey, [LABEL, salt, context], INPUT_KEY_BYTES + NONCE_BYTES + COMMITMENT_BYTES);
  const keyBytes = okm.subarray(0, INPUT_KEY_BYTES);
  const key = createSecretKey(keyBytes);
  keyBytes.fill(0);
  const commitmentAt = INPUT_KEY_BYTES + NONCE_BYTES;
  return { key, baseNonce: okm.subarray(INPUT_KEY_BYTES, commitmentAt), commitment: okm.subarray(commitmentAt) };
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
export const sealChunk = (keys: ChunkedKeys, number: number, plaintext: Buffer): [Buffer, Buffer] => {
  const cipher = createCipheriv('aes-256-gcm', keys.key, nonceOf(keys.baseNonce, number));
  const ciphertext = cipher.update(plaintext);
  cipher.final(); // empty: GCM is a stream
  return [ciphertext, cipher.getAuthTag()];
};

/** The plaintext, or undefined where the chunk is not number `number` of this message. */
export const openChunk = (keys: ChunkedKeys, number: number, sealed: Buffer): Buffer | undefined => {
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

/** Where chunk `number` begins, counted from the salt ("Implementation notes"). */
export const chunkOffset = (number: number): number => PREFIX_BYTES + number * SEALED_CHUNK_BYTES;
