// What the functions of perform.ts and beside it work with, and the check that a key is used for what it was made for.
import { CKR } from '../ckr.ts';
import type { GcmIv, Profile } from '../profiles/profile.ts';
import { Pkcs11Failure } from './module.ts';
import type { KeyObjects, Session, TokenKey } from './objects.ts';
import { Refusal } from './refusal.ts';

export interface Performer {
  readonly session: Session;
  readonly keys: KeyObjects;
  readonly profile: Profile;
  /** How RSA-OAEP with SHA-256 is reached; `raw` by CKM_RSA_X_509 and decodeOaep. */
  readonly oaep: 'native' | 'raw';
  /** Who makes the iv of AES-GCM, as self-test proved. */
  readonly gcmIv: GcmIv;
  /** CKM_ name of the mechanism that does AES-KWP, as self-test proved. */
  readonly kwp: string;
  /** Where results are put; wiped by the owner. */
  readonly scratch: Buffer;
}

export const needUse = (key: TokenKey, type: TokenKey['type'], use: number, what: string): void => {
  if (key.type !== type || !key.uses.has(use)) {
    throw new Refusal('HSM_UNSUPPORTED', `the key (${key.type}) was not made for ${what}`);
  }
};

export const room = (scratch: Buffer, bytes: number): Buffer =>
  bytes <= scratch.length ? scratch.subarray(0, bytes) : Buffer.allocUnsafeSlow(bytes);

/** How a C_Decrypt failure that may depend on the ciphertext is told: one code, whatever the module said. */
const invalidCiphertext = (profile: Profile, thrown: unknown): unknown => {
  if (!(thrown instanceof Pkcs11Failure) || thrown.method !== 'C_Decrypt') return thrown;
  const { ckr } = thrown;
  const means = ckr === 0x20 || ckr === 0x21 || (ckr >= 0x40 && ckr <= 0x42);
  if (means || (ckr === CKR.GENERAL_ERROR && profile.generalErrorMeansInvalid)) {
    return new Refusal('INVALID_CIPHERTEXT', thrown.message);
  }
  return thrown;
};

export const decrypting = (profile: Profile, run: () => Buffer): Buffer => {
  try {
    return run();
  } catch (thrown) {
    throw invalidCiphertext(profile, thrown);
  }
};
