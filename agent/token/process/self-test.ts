// Proves each ability on session objects: what the token makes is checked by node:crypto, and what it must refuse it
// must refuse. Nothing is left on the token. RSA key generation is slow, so its results may be remembered.
import {
  constants,
  createECDH,
  createHash,
  createPublicKey,
  type JsonWebKey,
  type KeyObject,
  publicEncrypt,
  randomBytes,
  verify,
} from 'node:crypto';
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import { type Ability, generating } from '../abilities.ts';
import { CURVES } from './curves.ts';
import { generateKey, type MadeKey } from './generate-key.ts';
import { MACS, MECHANISMS, SIGNATURES, type SignatureScheme } from './mechanisms.ts';
import type { Handle } from './module.ts';
import type { KeyObjects, Session, TokenKey } from './objects.ts';
import { type Performer, perform } from './perform.ts';
import type { Profile } from './profile.ts';

export interface SelfTest {
  readonly session: Session;
  readonly slot: Handle;
  readonly profile: Profile;
}

export interface RsaResult {
  readonly abilities: readonly Ability[];
  readonly oaep: 'native' | 'raw';
}

class TestFailed extends Error {
  override readonly name = 'TestFailed';
}
const assert: (fine: boolean, what: string) => asserts fine = (fine, what) => {
  if (!fine) throw new TestFailed(what);
};

const ID = Buffer.from('self-test');
const MESSAGE = Buffer.from('mortise self-test');
const HASHES: Readonly<Record<string, string>> = { '256': 'sha256', '384': 'sha384', '512': 'sha512' };

/** A performer whose one key is the one under test, which is no token object and so cannot be found by CKA_ID. */
const performerFor = (test: SelfTest, key: TokenKey, oaep: 'native' | 'raw' = 'native'): Performer => ({
  session: test.session,
  profile: test.profile,
  oaep,
  scratch: Buffer.alloc(1024),
  keys: { use: <T>(_: Session, __: Buffer, use: (key: TokenKey) => T): T => use(key) } as unknown as KeyObjects,
});

const withKey = (test: SelfTest, algorithm: string, purpose: Purpose, use: (made: MadeKey) => void): void => {
  const made = generateKey(test.session, { algorithm, purpose, id: ID, label: ID, onToken: false, race: [] });
  try {
    use(made);
  } finally {
    for (const object of [made.key.handle, made.publicObject]) {
      if (object !== undefined) test.session.module.destroyObject(test.session.handle, object);
    }
  }
};

const attempt = (name: string, run: () => string | undefined): Ability => {
  try {
    const why = run();
    return { name, ok: true, ...(why !== undefined && { why }) };
  } catch (thrown) {
    return { name, ok: false, why: thrown instanceof Error ? thrown.message : String(thrown) };
  }
};

const refuses = (run: () => unknown): boolean => {
  try {
    run();
    return false;
  } catch {
    return true; // any refusal will do here: the code is the business of perform.ts and its tests
  }
};

const publicKey = (jwk: PublicJwk | undefined): KeyObject => {
  assert(jwk !== undefined, 'no public key');
  return createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
};

const one = (fields: readonly Buffer[]): Buffer => Buffer.from(fields[0] as Buffer);

const signs = (test: SelfTest, made: MadeKey, jose: string, scheme: SignatureScheme): void => {
  const hash = HASHES[jose.slice(-3)];
  const data =
    scheme.digestBytes === undefined
      ? MESSAGE
      : createHash(hash as string)
          .update(MESSAGE)
          .digest();
  const signature = one(perform(performerFor(test, made.key), 'sign', [ID, Buffer.from(jose), data]));
  const key = publicKey(made.publicJwk);
  const padding = jose.startsWith('PS') ? constants.RSA_PKCS1_PSS_PADDING : constants.RSA_PKCS1_PADDING;
  const options = jose.startsWith('E')
    ? { key, dsaEncoding: 'ieee-p1363' as const }
    : { key, padding, ...(jose.startsWith('PS') && { saltLength: constants.RSA_PSS_SALTLEN_DIGEST }) };
  const algorithm = scheme.digestBytes === undefined ? null : (hash as string);
  assert(verify(algorithm, MESSAGE, options, signature), `${jose}: node:crypto refuses the signature`);
};

const testAes = (test: SelfTest): Ability[] => {
  let cipher: string | undefined = 'no AES key could be made';
  const made = [256, 192, 128].map((bits) =>
    attempt(generating(`AES-${bits}`), () => {
      withKey(test, `AES-${bits}`, 'encrypt', ({ key }) => {
        cipher = attempt('', () => {
          const performer = performerFor(test, key);
          const [iv, aad] = [randomBytes(12), Buffer.from('aad')];
          const sealed = one(perform(performer, 'gcmEncrypt', [ID, iv, aad, MESSAGE]));
          assert(sealed.length === MESSAGE.length + 16 && !sealed.includes(MESSAGE), 'not a GCM ciphertext');
          const opened = one(perform(performer, 'gcmDecrypt', [ID, iv, aad, sealed]));
          assert(opened.equals(MESSAGE), 'GCM does not decrypt what it encrypted');
          sealed[0] = (sealed[0] as number) ^ 1;
          assert(
            refuses(() => perform(performer, 'gcmDecrypt', [ID, iv, aad, sealed])),
            'GCM takes a forged text',
          );
          return undefined;
        }).why;
      });
      return undefined;
    }),
  );
  return [...made, { name: 'aes-gcm', ok: cipher === undefined, ...(cipher !== undefined && { why: cipher }) }];
};

const testHmac = (test: SelfTest): Ability[] =>
  Object.keys(MACS).flatMap((jose) => {
    const id = `HMAC-SHA${jose.slice(2)}`;
    let mac: Ability = { name: id.toLowerCase(), ok: false, why: 'no key could be made' };
    const made = attempt(generating(id), () => {
      withKey(test, id, 'mac', ({ key }) => {
        mac = attempt(id.toLowerCase(), () => {
          const run = (data: Buffer): Buffer =>
            one(perform(performerFor(test, key), 'mac', [ID, Buffer.from(jose), data]));
          const first = run(MESSAGE);
          assert(first.length === Number(jose.slice(2)) / 8, 'a MAC of the wrong length');
          assert(first.equals(run(MESSAGE)) && !first.equals(run(ID)), 'not a function of its input');
          return undefined;
        });
      });
      return undefined;
    });
    return [made, mac];
  });

const testCurve = (test: SelfTest, row: (typeof CURVES)[number]): Ability[] => {
  const short = row.algorithm.slice(3).toLowerCase();
  const [jose, scheme] = Object.entries(SIGNATURES).find(([, of]) => of.curve === row.crv) as [string, SignatureScheme];
  const node = { 'P-256': 'prime256v1', 'P-384': 'secp384r1', 'P-521': 'secp521r1' }[row.crv];
  let made: Ability = { name: generating(row.algorithm), ok: false };
  const signing = attempt(`ecdsa-${short}`, () => {
    withKey(test, row.algorithm, 'sign', (key) => {
      made = { name: made.name, ok: true };
      signs(test, key, jose, scheme);
    });
    return undefined;
  });
  const agreeing = attempt(`ecdh-${short}`, () => {
    withKey(test, row.algorithm, 'encrypt', ({ key, publicJwk }) => {
      made = { name: made.name, ok: true };
      const ours = createECDH(node);
      ours.generateKeys();
      const [x, y] = [publicJwk?.['x'] ?? '', publicJwk?.['y'] ?? ''].map((part) => Buffer.from(part, 'base64url'));
      const expected = ours.computeSecret(Buffer.concat([Buffer.of(4), x as Buffer, y as Buffer]));
      const secret = one(perform(performerFor(test, key), 'ecdh', [ID, ours.getPublicKey()]));
      assert(secret.subarray(secret.length - expected.length).equals(expected), 'another secret than node:crypto');
    });
    return undefined;
  });
  return [made.ok ? made : { ...made, why: signing.why ?? 'no key could be made' }, signing, agreeing];
};

const testEd25519 = (test: SelfTest): Ability[] => {
  let made: Ability = { name: generating('Ed25519'), ok: false, why: 'no key could be made' };
  const signing = attempt('eddsa', () => {
    withKey(test, 'Ed25519', 'sign', (key) => {
      made = { name: made.name, ok: true };
      signs(test, key, 'Ed25519', SIGNATURES['Ed25519'] as SignatureScheme);
    });
    return undefined;
  });
  return [made.ok ? made : { ...made, ...(signing.why !== undefined && { why: signing.why }) }, signing];
};

const testRandom = (test: SelfTest): Ability =>
  attempt('random', () => {
    const [first, second] = [Buffer.alloc(32), Buffer.alloc(32)];
    for (const output of [first, second]) test.session.module.random(test.session.handle, output);
    assert(!first.equals(second) && !first.equals(Buffer.alloc(32)), 'the generator repeats itself');
    return undefined;
  });

/** Everything but RSA: some milliseconds on SoftHSM. */
export const testAbilities = (test: SelfTest): Ability[] => [
  testRandom(test),
  ...testAes(test),
  ...testHmac(test),
  ...CURVES.flatMap((row) => testCurve(test, row)),
  ...testEd25519(test),
];

const testOaep = (test: SelfTest, oaep: 'native' | 'raw'): Ability =>
  attempt('rsa-oaep-256', () => {
    withKey(test, 'RSA-2048', 'encrypt', ({ key, publicJwk }) => {
      const sealed = publicEncrypt({ key: publicKey(publicJwk), oaepHash: 'sha256' }, MESSAGE);
      const open = (data: Buffer, by: 'native' | 'raw'): Buffer =>
        one(perform(performerFor(test, key, by), 'oaepDecrypt', [ID, data]));
      assert(open(sealed, oaep).equals(MESSAGE), 'OAEP with SHA-256 does not decrypt');
      const sha1 = publicEncrypt({ key: publicKey(publicJwk), oaepHash: 'sha1' }, MESSAGE);
      assert(
        refuses(() => open(sha1, oaep)),
        'OAEP takes a text made with SHA-1',
      );
    });
    return oaep === 'raw' ? 'by CKM_RSA_X_509, decoded in the token process' : undefined;
  });

/** RSA: a key pair for signing and one for decryption of 2048 bits; larger keys by CKA ulMaxKeySize. */
export const testRsa = (test: SelfTest): RsaResult => {
  let made: Ability = { name: '', ok: false };
  const failed: Record<'PS' | 'RS', string | undefined> = { PS: undefined, RS: undefined };
  const pair = attempt('', () => {
    withKey(test, 'RSA-2048', 'sign', (key) => {
      made = { ...made, ok: true };
      for (const [jose, scheme] of Object.entries(SIGNATURES)) {
        const family = jose.slice(0, 2);
        if (family !== 'PS' && family !== 'RS') continue;
        failed[family] ??= attempt('', () => {
          signs(test, key, jose, scheme);
          return undefined;
        }).why;
      }
    });
    return undefined;
  });
  const native = pair.ok ? testOaep(test, 'native') : pair;
  const raw = native.ok || !pair.ok || !test.profile.rawRsaForOaep ? native : testOaep(test, 'raw');
  const largest = made.ok
    ? test.session.module.maxKeySize(test.slot, MECHANISMS['CKM_RSA_PKCS_KEY_PAIR_GEN'] as number)
    : 0;
  const result = (name: string, why: string | undefined, how?: string): Ability =>
    why === undefined ? { name, ok: true, ...(how !== undefined && { why: how }) } : { name, ok: false, why };
  return {
    oaep: native.ok ? 'native' : 'raw',
    abilities: [
      ...[2048, 3072, 4096].map((bits) =>
        result(
          generating(`RSA-${bits}`),
          made.ok ? (bits <= largest ? undefined : `keys up to ${largest} bits only`) : pair.why,
        ),
      ),
      result('rsa-pss', pair.why ?? failed.PS),
      result('rsa-pkcs1', pair.why ?? failed.RS),
      { ...raw, name: 'rsa-oaep-256' },
    ],
  };
};
