// RSAES-OAEP decryption in the token, by its own mechanism or by raw RSA and decodeOaep. Invariant: where the asker says
// how long the secret is, a ciphertext that is refused is answered by as many random bytes, after the same work and on the
// same way as a good one (implicit rejection, as ML-KEM does: FIPS 203 section 6.3).
import { randomBytes } from 'node:crypto';
import { readU32 } from '../protocol.ts';
import { oaepSha256, rawRsa } from './mechanisms.ts';
import { decodeOaep } from './oaep.ts';
import type { TokenKey } from './objects.ts';
import { decrypting, needUse, type Performer, room } from './performer.ts';
import { Refusal } from './refusal.ts';
import { A } from './templates.ts';

const ANY_LENGTH = Buffer.alloc(4);
const MAX_SECRET_BYTES = 64;

const bigEndian = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString('hex')}`);

/** Below the modulus, whose first bit is set as those of the table are; what is not decrypts to something as well. */
const belowModulus = (data: Buffer): Buffer => Buffer.concat([Buffer.alloc(1), data.subarray(1)]);

/** Undefined where the padding is wrong; a module with OAEP of its own throws then. */
const open = ({ session, scratch, profile, oaep }: Performer, key: TokenKey, data: Buffer): Buffer | undefined => {
  const { length } = key.modulus as Buffer;
  const output = room(scratch, length);
  if (oaep === 'native') {
    return decrypting(profile, () => session.module.decrypt(session.handle, oaepSha256, key.handle, data, output));
  }
  const encoded = decrypting(profile, () => session.module.decrypt(session.handle, rawRsa, key.handle, data, output));
  const padded = Buffer.alloc(length); // a module may leave leading zeros out
  encoded.copy(padded, padded.length - encoded.length);
  encoded.fill(0); // anybody can undo the padding
  return decodeOaep(padded);
};

const openOrUndefined = (performer: Performer, key: TokenKey, data: Buffer): Buffer | undefined => {
  try {
    return open(performer, key, data);
  } catch (thrown) {
    if (thrown instanceof Refusal && thrown.code === 'INVALID_CIPHERTEXT') return undefined;
    throw thrown;
  }
};

/** The secret, or random bytes of its length; both are made in every case. */
const openImplicitly = (performer: Performer, key: TokenKey, data: Buffer, bytes: number): Buffer => {
  const standIn = randomBytes(bytes);
  const isNumber = bigEndian(data) < bigEndian(key.modulus as Buffer);
  const message = openOrUndefined(performer, key, isNumber ? data : belowModulus(data));
  const [given, other] = isNumber && message?.length === bytes ? [message, standIn] : [standIn, message];
  other?.fill(0);
  return given;
};

/** Fields: tokenId, ciphertext, length of the secret or 0 for any. */
export const oaepDecrypt = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, data, length = ANY_LENGTH] = fields as [Buffer, Buffer, Buffer?];
  const { session, keys } = performer;
  const bytes = readU32(length);
  if (bytes > MAX_SECRET_BYTES) throw new Refusal('INVALID_REQUEST', 'a length that is not served');
  return keys.use(session, id, 'rsa', (key) => {
    needUse(key, 'rsa', A.DECRYPT, 'decryption');
    const modulus = key.modulus as Buffer;
    // RFC 8017 section 7.1.2 step 1 and 5.1.2: both are public, so these checks tell nothing.
    if (data.length !== modulus.length) throw new Refusal('INVALID_CIPHERTEXT', 'not as long as this modulus');
    if (bytes > 0) return openImplicitly(performer, key, data, bytes);
    if (bigEndian(data) >= bigEndian(modulus)) throw new Refusal('INVALID_CIPHERTEXT', 'not below this modulus');
    const message = open(performer, key, data);
    if (message === undefined) throw new Refusal('INVALID_CIPHERTEXT', 'the padding is wrong');
    return message;
  });
};
