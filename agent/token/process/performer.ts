// What the functions of perform.ts and beside it work with, and the check that a key is used for what it was made for.
import type { KeyObjects, Session, TokenKey } from './objects.ts';
import type { Profile } from './profile.ts';
import { Refusal } from './refusal.ts';

export interface Performer {
  readonly session: Session;
  readonly keys: KeyObjects;
  readonly profile: Profile;
  /** How RSA-OAEP with SHA-256 is reached; `raw` by CKM_RSA_X_509 and decodeOaep. */
  readonly oaep: 'native' | 'raw';
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
