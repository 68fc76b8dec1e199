// Runs OAEP vectors: node oaep-vectors.ts LIBRARY PIN_FILE VECTORS. Imports each private key as a session object and
// decrypts by the route that the token process takes on SoftHSM. Prints counts and what went wrong as JSON.
import { readFileSync } from 'node:fs';
import { Pkcs11Module } from '../../../agent/token/process/module.ts';
import type { KeyObjects, TokenKey } from '../../../agent/token/process/objects.ts';
import { perform } from '../../../agent/token/process/perform.ts';
import { Refusal } from '../../../agent/token/process/refusal.ts';
import { A, CLASS, KEY_TYPE } from '../../../agent/token/process/templates.ts';
import { profileOf } from '../../../agent/token/profiles/vendors.ts';

interface Vectors {
  readonly testGroups: readonly {
    readonly sha: string;
    readonly mgfSha: string;
    readonly privateKey: Readonly<Record<string, string>>;
    readonly tests: readonly {
      readonly tcId: number;
      readonly comment: string;
      readonly msg: string;
      readonly ct: string;
      readonly label: string;
      readonly result: 'valid' | 'invalid' | 'acceptable';
    }[];
  }[];
}

const [, , library, pinFile, file] = process.argv as [string, string, string, string, string];
const vectors = JSON.parse(readFileSync(file, 'utf8')) as Vectors;
const module = new Pkcs11Module({ path: library, withheld: new Set() });
module.initialize();
const [slot] = module.slots() as [Buffer];
const handle = module.openSession(slot);
module.loginWithString(handle, readFileSync(pinFile, 'utf8').trim());
const session = { module, handle };

const integer = (hex: string): Buffer => {
  const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  return bytes.subarray(bytes.findIndex((byte) => byte !== 0));
};

/** CKA numbers of the private parts: exponent, primes, exponents of the primes, coefficient. */
const PARTS: Readonly<Record<string, number>> = {
  modulus: 0x120,
  publicExponent: 0x122,
  privateExponent: 0x123,
  prime1: 0x124,
  prime2: 0x125,
  exponent1: 0x126,
  exponent2: 0x127,
  coefficient: 0x128,
};

const importKey = (parts: Readonly<Record<string, string>>): TokenKey => {
  const key = module.createObject(handle, [
    { type: A.CLASS, value: CLASS.PRIVATE },
    { type: A.KEY_TYPE, value: KEY_TYPE.RSA },
    { type: A.TOKEN, value: false },
    { type: A.SENSITIVE, value: true },
    { type: A.EXTRACTABLE, value: false },
    { type: A.DECRYPT, value: true },
    ...Object.entries(PARTS).map(([name, type]) => ({ type, value: integer(parts[name] as string) })),
  ]);
  return { handle: key, type: 'rsa', modulus: integer(parts['modulus'] as string), uses: new Set([A.DECRYPT]) };
};

const result = { accepted: 0, refused: 0, wrong: [] as string[] };
for (const group of vectors.testGroups) {
  if (group.sha !== 'SHA-256' || group.mgfSha !== 'SHA-256') throw new Error('vectors of another hash');
  const key = importKey(group.privateKey);
  const keys = {
    use: <T>(_: unknown, __: Buffer, ___: string, use: (key: TokenKey) => T): T => use(key),
  } as unknown as KeyObjects;
  const profile = profileOf('SoftHSM', '');
  for (const one of group.tests) {
    const scratch = Buffer.alloc(1024);
    let opened: string | undefined;
    try {
      const fields = [Buffer.from('id'), Buffer.from(one.ct, 'hex')];
      const [message] = perform(
        { session, keys, profile, oaep: 'raw', gcmIv: 'caller', kwp: 'CKM_AES_KEY_WRAP_KWP', scratch },
        'oaepDecrypt',
        fields,
      );
      opened = message?.toString('hex');
    } catch (thrown) {
      if (!(thrown instanceof Refusal) || thrown.code !== 'INVALID_CIPHERTEXT') throw thrown;
    }
    // We decrypt with the empty label only (RFC 7518 section 4.3), so a text with another label must be refused.
    const expected = one.result === 'valid' && one.label === '' ? one.msg : undefined;
    if (opened === expected) result[opened === undefined ? 'refused' : 'accepted'] += 1;
    else result.wrong.push(`${one.tcId} ${one.comment}: ${one.result}, got ${opened}`);
  }
}
if (result.accepted + result.refused === 0) throw new Error(`no vectors in ${file}`);
console.log(JSON.stringify(result));
