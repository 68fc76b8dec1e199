// Cobblestone-256: C2SP chunked-encryption with SHA-512 and AES-256-GCM (c2sp.org/chunked-encryption@v1). Derivation of
// the keys of one message and its commitment. Invariant: who is handed the keys of one message learns nothing of another.
import { createHmac, createSecretKey } from 'node:crypto';
import { CHUNK_KEY_BYTES, type ChunkKeys, NONCE_BYTES } from '../../proto/documents/chunked/chunks.ts';
import { COMMITMENT_BYTES, SALT_BYTES } from '../../proto/documents/chunked/layout.ts';

export const INPUT_KEY_BYTES = 32;
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

export interface DerivedKeys extends ChunkKeys {
  /** Compared with the one in front of the ciphertext before any chunk is touched. */
  readonly commitment: Buffer;
}

/** The keys of one message. The salt must not come twice under one input key; the context may be empty. */
export const deriveChunkedKeys = (inputKey: Buffer, salt: Buffer, context: Buffer): DerivedKeys => {
  if (inputKey.length !== INPUT_KEY_BYTES) throw new RangeError(`an input key has ${INPUT_KEY_BYTES} bytes`);
  if (salt.length !== SALT_BYTES) throw new RangeError(`a salt has ${SALT_BYTES} bytes`);
  const okm = hkdfExpand(inputKey, [LABEL, salt, context], CHUNK_KEY_BYTES + NONCE_BYTES + COMMITMENT_BYTES);
  const keyBytes = okm.subarray(0, CHUNK_KEY_BYTES);
  const key = createSecretKey(keyBytes);
  keyBytes.fill(0);
  const commitmentAt = CHUNK_KEY_BYTES + NONCE_BYTES;
  return { key, baseNonce: okm.subarray(CHUNK_KEY_BYTES, commitmentAt), commitment: okm.subarray(commitmentAt) };
};

/** The keys of one message as bytes, for a client that works on its chunks. */
export interface HandedOut {
  readonly key: Buffer;
  readonly baseNonce: Buffer;
}

export const handOut = ({ key, baseNonce }: ChunkKeys): HandedOut => ({
  key: key.export(),
  baseNonce: Buffer.from(baseNonce),
});
