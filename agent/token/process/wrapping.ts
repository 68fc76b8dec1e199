// Key material wrapped by a key of the token where AES-GCM does not do it: by AES-CBC, AES-KWP or AES-KW, and then by
// HMAC-SHA-256 under a second key with the same CKA_ID. Invariant: which scheme it is the key's CKA_ID says; nothing is
// decrypted or unwrapped before its MAC was found right, and whatever is wrong with a wrap is one and the same refusal.
import { randomBytes, timingSafeEqual } from 'node:crypto';
import {
  isMaterialLength,
  isSealedLength,
  MAX_MATERIAL_BYTES,
  macInput,
  schemeOfKey,
  type WrapScheme,
  wrapScheme,
} from '../../../proto/documents/wrap-schemes.ts';
import { cbc, keyWrap, MACS, type Mechanism, type SignatureScheme } from './mechanisms.ts';
import { Pkcs11Failure } from './module.ts';
import { decrypting, needUse, type Performer, room } from './performer.ts';
import { Refusal } from './refusal.ts';
import { readMade } from './secrets.ts';
import { signWith } from './sign.ts';
import { A, unwrappedSecret, wrappedSecret } from './templates.ts';

/** Encrypts material to iv || what is wrapped, and back. */
interface Cipher {
  readonly close: (performer: Performer, id: Buffer, material: Buffer) => Buffer;
  /** In a buffer of the caller's, to be wiped. */
  readonly open: (performer: Performer, id: Buffer, ivAndWrapped: Buffer) => Buffer;
}

const HMAC = MACS['HS256'] as SignatureScheme;
const NOTHING = Buffer.alloc(0);
const BLOCK = 16;
const SEMIBLOCK = 8;
/** CKR_WRAPPED_KEY_INVALID and CKR_WRAPPED_KEY_LEN_RANGE. */
const UNWRAP_REFUSED: readonly number[] = [0x110, 0x112];

const refused = (what: string): Refusal => new Refusal('INVALID_CIPHERTEXT', what);

const byCbc: Cipher = {
  close: ({ session, keys, scratch }, id, material) => {
    const iv = randomBytes(BLOCK); // unpredictable, SP 800-38A appendix C
    const output = room(scratch, material.length + BLOCK);
    return keys.use(session, id, 'aes', (key) => {
      needUse(key, 'aes', A.ENCRYPT, 'wrapping');
      return Buffer.concat([iv, session.module.encrypt(session.handle, cbc(iv), key.handle, material, output)]);
    });
  },
  open: ({ session, keys, scratch, profile }, id, ivAndWrapped) => {
    const [iv, wrapped] = [Buffer.from(ivAndWrapped.subarray(0, BLOCK)), ivAndWrapped.subarray(BLOCK)];
    const output = room(scratch, wrapped.length);
    return keys.use(session, id, 'aes', (key) => {
      needUse(key, 'aes', A.DECRYPT, 'unwrapping');
      return decrypting(profile, () => session.module.decrypt(session.handle, cbc(iv), key.handle, wrapped, output));
    });
  },
};

/** By C_WrapKey and C_UnwrapKey: many modules do these mechanisms by no other function. */
const byKeyWrap = (mechanismOf: (performer: Performer) => Mechanism): Cipher => ({
  close: (performer, id, material) => {
    const { session, keys, scratch } = performer;
    const { module, handle } = session;
    const output = room(scratch, material.length + 2 * SEMIBLOCK);
    return keys.use(session, id, 'aes', (key) => {
      needUse(key, 'aes', A.WRAP, 'wrapping');
      const object = module.createObject(handle, wrappedSecret(material));
      try {
        return Buffer.from(module.wrapKey(handle, mechanismOf(performer), key.handle, object, output));
      } finally {
        module.destroyObject(handle, object);
      }
    });
  },
  open: (performer, id, wrapped) => {
    const { session, keys, scratch } = performer;
    const { module, handle } = session;
    return keys.use(session, id, 'aes', (key) => {
      needUse(key, 'aes', A.UNWRAP, 'unwrapping');
      const made = unwrapped(() =>
        module.unwrapKey(handle, mechanismOf(performer), key.handle, wrapped, unwrappedSecret),
      );
      const value = readMade(session, made, MAX_MATERIAL_BYTES);
      const material = room(scratch, value.length);
      value.copy(material);
      value.fill(0);
      return material;
    });
  },
});

const unwrapped = <T>(run: () => T): T => {
  try {
    return run();
  } catch (thrown) {
    const isWrong = thrown instanceof Pkcs11Failure && UNWRAP_REFUSED.includes(thrown.ckr);
    throw isWrong ? refused(thrown.message) : thrown;
  }
};

const CIPHERS: Readonly<Record<Exclude<WrapScheme, 'aes-gcm'>, Cipher>> = {
  'aes-cbc-hmac': byCbc,
  'aes-kwp': byKeyWrap(({ kwp }) => keyWrap(kwp)),
  'aes-kw': byKeyWrap(() => keyWrap('CKM_AES_KEY_WRAP')),
};

const cipherOf = (id: Buffer): { readonly scheme: WrapScheme; readonly cipher: Cipher } => {
  const scheme = schemeOfKey(id.toString('hex'));
  if (scheme === 'aes-gcm') throw new Refusal('INVALID_REQUEST', 'the key is for AES-GCM');
  return { scheme, cipher: CIPHERS[scheme] };
};

const tagOf = (performer: Performer, id: Buffer, aad: Buffer, ivAndWrapped: Buffer): Buffer =>
  performer.keys.use(performer.session, id, HMAC.key, (key) =>
    Buffer.from(signWith(performer, HMAC, key, macInput(aad, ivAndWrapped), NOTHING)),
  );

/** id, associated data, material → iv || what is wrapped || tag */
export const wrap = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, aad, material] = fields as [Buffer, Buffer, Buffer];
  const { scheme, cipher } = cipherOf(id);
  if (!isMaterialLength(scheme, material.length)) {
    throw new Refusal('INVALID_REQUEST', 'material of a length that the scheme does not wrap');
  }
  const ivAndWrapped = cipher.close(performer, id, material);
  const sealed = Buffer.concat([ivAndWrapped, tagOf(performer, id, aad, ivAndWrapped)]);
  if (isSealedLength(wrapScheme(scheme), sealed.length)) return sealed;
  throw new Refusal('HSM_UNSUPPORTED', `the token made a wrap of ${sealed.length} bytes`);
};

/** id, associated data, what `wrap` made → material */
export const unwrap = (performer: Performer, fields: readonly Buffer[]): Buffer => {
  const [id, aad, sealed] = fields as [Buffer, Buffer, Buffer];
  const { scheme, cipher } = cipherOf(id);
  const row = wrapScheme(scheme);
  if (!isSealedLength(row, sealed.length)) throw refused('not a wrap of this scheme');
  const end = sealed.length - row.tagBytes;
  const [ivAndWrapped, tag] = [sealed.subarray(0, end), sealed.subarray(end)];
  const expected = tagOf(performer, id, aad, ivAndWrapped);
  if (expected.length !== tag.length || !timingSafeEqual(expected, tag)) throw refused('the tag is wrong');
  return cipher.open(performer, id, ivAndWrapped);
};
