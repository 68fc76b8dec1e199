// One function per request of the table in requests.ts. Answers may be views of a scratch buffer that the caller writes
// out and wipes before the next request. Invariant: lengths, curves and key types are checked here, before the library
// sees bytes that a stranger chose.
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import { CKR } from '../ckr.ts';
import { readU32 } from '../protocol.ts';
import type { RequestName } from '../requests.ts';
import { MAX_RANDOM_BYTES } from '../requests.ts';
import { createKey } from './create-key.ts';
import { isOnCurve } from './curves.ts';
import { generateKey, type KeyWanted } from './generate-key.ts';
import { ecdh1, gcm, MACS, oaepSha256, rawRsa, SIGNATURES, type SignatureScheme } from './mechanisms.ts';
import { Pkcs11Failure } from './module.ts';
import { decodeOaep } from './oaep.ts';
import type { KeyObjects, Session, TokenKey } from './objects.ts';
import type { Profile } from './profile.ts';
import { Refusal } from './refusal.ts';
import { A, agreedSecret } from './templates.ts';

export interface Performer {
  readonly session: Session;
  readonly keys: KeyObjects;
  readonly profile: Profile;
  /** How RSA-OAEP with SHA-256 is reached; `raw` by CKM_RSA_X_509 and decodeOaep. */
  readonly oaep: 'native' | 'raw';
  /** Where results are put; wiped by the owner. */
  readonly scratch: Buffer;
}

const TAG_BYTES = 16;
const IV_BYTES = 12;
const EMPTY = Buffer.alloc(0);

const needUse = (key: TokenKey, type: TokenKey['type'], use: number, what: string): void => {
  if (key.type !== type || !key.uses.has(use)) {
    throw new Refusal('HSM_UNSUPPORTED', `the key (${key.type}) was not made for ${what}`);
  }
};

const room = (scratch: Buffer, bytes: number): Buffer =>
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

const decrypting = (profile: Profile, run: () => Buffer): Buffer => {
  try {
    return run();
  } catch (thrown) {
    throw invalidCiphertext(profile, thrown);
  }
};

const schemeOf = (table: Readonly<Record<string, SignatureScheme>>, name: Buffer): SignatureScheme => {
  const jose = name.toString('latin1');
  if (!Object.hasOwn(table, jose)) throw new Refusal('HSM_UNSUPPORTED', `${JSON.stringify(jose)} is not offered`);
  return table[jose] as SignatureScheme;
};

const signWith = ({ session, scratch }: Performer, scheme: SignatureScheme, key: TokenKey, data: Buffer): Buffer => {
  needUse(key, scheme.key, A.SIGN, 'this signature or MAC');
  if (scheme.curve !== undefined && key.curve?.crv !== scheme.curve) {
    throw new Refusal('HSM_UNSUPPORTED', `the key is on ${key.curve?.crv}, not on ${scheme.curve}`);
  }
  if (scheme.keyBits !== undefined && (key.bits ?? 0) < scheme.keyBits) {
    throw new Refusal('HSM_UNSUPPORTED', `the key of ${key.bits} bits is too short for this MAC`);
  }
  if (scheme.digestBytes !== undefined && data.length !== scheme.digestBytes) {
    throw new Refusal('INVALID_REQUEST', `the digest is not ${scheme.digestBytes} bytes`);
  }
  const input = scheme.prefix === undefined ? data : Buffer.concat([scheme.prefix, data]);
  const output = room(scratch, key.modulus?.length ?? 2 * 66);
  return session.module.sign(session.handle, scheme.mechanism, key.handle, input, output);
};

const gcmEncrypt = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, iv, aad, data] = fields as [Buffer, Buffer, Buffer, Buffer];
  const { session, keys, scratch } = performer;
  if (iv.length !== IV_BYTES) throw new Refusal('INVALID_REQUEST', 'the iv is not 96 bits');
  return keys.use(session, id, (key) => {
    needUse(key, 'aes', A.ENCRYPT, 'encryption');
    const output = room(scratch, data.length + TAG_BYTES);
    return session.module.encrypt(session.handle, gcm(iv, aad), key.handle, data, output);
  });
};

const gcmDecrypt = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, iv, aad, data] = fields as [Buffer, Buffer, Buffer, Buffer];
  const { session, keys, scratch, profile } = performer;
  if (iv.length !== IV_BYTES) throw new Refusal('INVALID_REQUEST', 'the iv is not 96 bits');
  if (data.length < TAG_BYTES) throw new Refusal('INVALID_CIPHERTEXT', 'shorter than its tag');
  return keys.use(session, id, (key) => {
    needUse(key, 'aes', A.DECRYPT, 'decryption');
    // SoftHSM wants room for the ciphertext with its tag, or answers BUFFER_TOO_SMALL and leaves the operation active.
    const output = room(scratch, data.length);
    return decrypting(profile, () => session.module.decrypt(session.handle, gcm(iv, aad), key.handle, data, output));
  });
};

const bigEndian = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString('hex')}`);

const oaepDecrypt = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, data] = fields as [Buffer, Buffer];
  const { session, keys, scratch, profile, oaep } = performer;
  return keys.use(session, id, (key) => {
    needUse(key, 'rsa', A.DECRYPT, 'decryption');
    const modulus = key.modulus as Buffer;
    // RFC 8017 section 7.1.2 step 1 and 5.1.2: both are public, so these checks tell nothing.
    if (data.length !== modulus.length || bigEndian(data) >= bigEndian(modulus)) {
      throw new Refusal('INVALID_CIPHERTEXT', 'not a ciphertext of this modulus');
    }
    const output = room(scratch, modulus.length);
    if (oaep === 'native') {
      return decrypting(profile, () => session.module.decrypt(session.handle, oaepSha256, key.handle, data, output));
    }
    const encoded = decrypting(profile, () => session.module.decrypt(session.handle, rawRsa, key.handle, data, output));
    const padded = Buffer.alloc(modulus.length); // a module may leave leading zeros out
    encoded.copy(padded, padded.length - encoded.length);
    encoded.fill(0); // anybody can undo the padding
    const message = decodeOaep(padded);
    if (message === undefined) throw new Refusal('INVALID_CIPHERTEXT', 'the padding is wrong');
    return message;
  });
};

/** From one key to another without an answer in between: the CEK is in this process only, and wiped. */
const rewrap = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [sourceId, sourceIv, data, targetId, targetIv, length] = fields as [
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
  ];
  const opened =
    sourceIv.length === 0
      ? oaepDecrypt(performer, [sourceId, data])
      : gcmDecrypt(performer, [sourceId, sourceIv, EMPTY, data]);
  const cek = Buffer.from(opened); // `opened` may lie where the answer goes
  opened.fill(0);
  try {
    if (cek.length !== readU32(length)) throw new Refusal('INVALID_CIPHERTEXT', 'not a key of this length');
    return gcmEncrypt(performer, [targetId, targetIv, EMPTY, cek]);
  } finally {
    cek.fill(0);
  }
};

const ecdh = ({ session, keys, scratch }: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, point] = fields as [Buffer, Buffer];
  const { module, handle } = session;
  return keys.use(session, id, (key) => {
    needUse(key, 'ec', A.DERIVE, 'key agreement');
    const curve = key.curve;
    if (curve === undefined || !isOnCurve(curve, point)) {
      throw new Refusal('INVALID_CIPHERTEXT', 'the point is not on the curve of the key');
    }
    const made = module.deriveKey(handle, ecdh1(point), key.handle, agreedSecret(curve.bytes));
    try {
      for (const [type, value] of [
        [A.TOKEN, 0],
        [A.SENSITIVE, 0],
        [A.EXTRACTABLE, 1],
      ] as const) {
        if (module.attribute(handle, made, type)?.[0] !== value) {
          throw new Refusal('HSM_UNSUPPORTED', 'the token made the agreed secret with other attributes');
        }
      }
      const secret = module.attribute(handle, made, A.VALUE);
      if (secret === undefined || secret.length === 0 || secret.length > curve.bytes) {
        throw new Refusal('HSM_UNSUPPORTED', 'the token does not give the agreed secret');
      }
      // SP 800-56A section 5.7.1.2: the field length, with leading zeros. Not a small buffer of its own, which V8 moves.
      const full = room(scratch, curve.bytes).fill(0);
      secret.copy(full, full.length - secret.length);
      secret.fill(0);
      return full;
    } finally {
      module.destroyObject(handle, made);
    }
  });
};

const random = ({ session, scratch }: Performer, fields: readonly Buffer[]): Buffer => {
  const length = readU32(fields[0] as Buffer);
  if (length < 1 || length > MAX_RANDOM_BYTES) throw new Refusal('INVALID_REQUEST', 'a length that is not served');
  const output = room(scratch, length);
  session.module.random(session.handle, output);
  return output;
};

const json = (value: unknown): Buffer => (value === undefined ? EMPTY : Buffer.from(JSON.stringify(value)));

const wantedKey = ({ profile }: Performer, fields: readonly Buffer[]): KeyWanted => {
  const [id, algorithm, purpose, label] = fields as [Buffer, Buffer, Buffer, Buffer];
  return {
    algorithm: algorithm.toString('latin1'),
    purpose: purpose.toString('latin1') as Purpose, // planKey refuses what is not one
    id: Buffer.from(id),
    label: Buffer.from(label),
    onToken: true,
    race: profile.creationRace,
  };
};

/** Does what a request asks; throws Refusal or Pkcs11Failure. */
export const perform = (performer: Performer, name: RequestName, fields: readonly Buffer[]): readonly Buffer[] => {
  const { session, keys } = performer;
  switch (name) {
    case 'generate':
      return [json(generateKey(session, wantedKey(performer, fields)).publicJwk)];
    case 'create':
      return [json(createKey(session, wantedKey(performer, fields), fields[4] as Buffer).publicJwk)];
    case 'find': {
      const found = keys.find(session, Buffer.from(fields[0] as Buffer));
      return found === undefined ? [EMPTY, EMPTY] : [found.id, json(found.publicJwk)];
    }
    case 'destroy':
      keys.destroy(session, Buffer.from(fields[0] as Buffer));
      return [];
    case 'gcmEncrypt':
      return [gcmEncrypt(performer, fields)];
    case 'gcmDecrypt':
      return [gcmDecrypt(performer, fields)];
    case 'sign':
    case 'mac': {
      const scheme = schemeOf(name === 'sign' ? SIGNATURES : MACS, fields[1] as Buffer);
      return [keys.use(session, fields[0] as Buffer, (key) => signWith(performer, scheme, key, fields[2] as Buffer))];
    }
    case 'oaepDecrypt':
      return [oaepDecrypt(performer, fields)];
    case 'rewrap':
      return [rewrap(performer, fields)];
    case 'ecdh':
      return [ecdh(performer, fields)];
    case 'random':
      return [random(performer, fields)];
  }
};
