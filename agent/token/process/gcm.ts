// AES-GCM with a 96-bit iv. Who makes the iv of an encryption differs between modules, and self-test proves which it is:
// the caller; the token, which writes it into zeroes that it is given (AWS CloudHSM); or the token, which appends it to
// the tag (Thales Luna in FIPS configuration). Invariant: what is answered is ciphertext and tag, and the iv apart.
import type { GcmIv } from '../profiles/profile.ts';
import { gcm, gcmByToken } from './mechanisms.ts';
import { decrypting, needUse, type Performer, room } from './performer.ts';
import { Refusal } from './refusal.ts';
import { A } from './templates.ts';

const TAG_BYTES = 16;
const IV_BYTES = 12;
const IV_ROOM = 16; // what a token of 128-bit ivs appends
const OFF_HEAP = 128; // V8 keeps arrays of up to 64 bytes in its heap, where the collector moves them
const NOTHING = Buffer.alloc(0);

export interface Sealed {
  /** ciphertext || tag */
  readonly sealed: Buffer;
  /** The iv where the token made it, else empty. */
  readonly iv: Buffer;
}

const checkIv = (iv: Buffer): void => {
  if (iv.length !== IV_BYTES) throw new Refusal('INVALID_REQUEST', 'the iv is not 96 bits');
};

type Encrypt = (mechanism: ReturnType<typeof gcm>, bytes: number) => Buffer;

const BY_RULE: Readonly<Record<GcmIv, (encrypt: Encrypt, iv: Buffer, aad: Buffer, bytes: number) => Sealed>> = {
  caller: (encrypt, iv, aad, bytes) => ({ sealed: encrypt(gcm(iv, aad), bytes), iv: NOTHING }),
  zeroed: (encrypt, _, aad, bytes) => {
    const iv = Buffer.allocUnsafeSlow(OFF_HEAP).fill(0).subarray(0, IV_BYTES);
    const sealed = encrypt(gcmByToken(iv, aad), bytes); // which writes into it, at the latest with the data
    if (iv.every((byte) => byte === 0)) throw new Refusal('HSM_UNSUPPORTED', 'the token made no iv');
    return { sealed, iv };
  },
  appended: (encrypt, _, aad, bytes) => {
    const all = encrypt(gcmByToken(NOTHING, aad), bytes + IV_ROOM);
    if (all.length !== bytes + IV_BYTES) {
      throw new Refusal('HSM_UNSUPPORTED', `the token appends ${all.length - bytes} bytes where an iv of 12 belongs`);
    }
    return { sealed: all.subarray(0, bytes), iv: Buffer.from(all.subarray(bytes)) };
  },
};

export const gcmEncrypt = (performer: Performer, fields: readonly Buffer[]): Sealed => {
  const [id, iv, aad, data] = fields as [Buffer, Buffer, Buffer, Buffer];
  const { session, keys, scratch, gcmIv } = performer;
  checkIv(iv);
  return keys.use(session, id, 'aes', (key) => {
    needUse(key, 'aes', A.ENCRYPT, 'encryption');
    const encrypt: Encrypt = (mechanism, bytes) =>
      session.module.encrypt(session.handle, mechanism, key.handle, data, room(scratch, bytes));
    return BY_RULE[gcmIv](encrypt, iv, aad, data.length + TAG_BYTES);
  });
};

export const gcmDecrypt = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, iv, aad, data] = fields as [Buffer, Buffer, Buffer, Buffer];
  const { session, keys, scratch, profile } = performer;
  checkIv(iv);
  if (data.length < TAG_BYTES) throw new Refusal('INVALID_CIPHERTEXT', 'shorter than its tag');
  return keys.use(session, id, 'aes', (key) => {
    needUse(key, 'aes', A.DECRYPT, 'decryption');
    // SoftHSM wants room for the ciphertext with its tag, or answers BUFFER_TOO_SMALL and leaves the operation active.
    const output = room(scratch, data.length);
    return decrypting(profile, () => session.module.decrypt(session.handle, gcm(iv, aad), key.handle, data, output));
  });
};
