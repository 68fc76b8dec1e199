// Proves each ability but RSA's on session objects: what the token makes is checked by node:crypto, and what it must
// refuse it must refuse. Nothing is left on the token.
import { createECDH, randomBytes } from 'node:crypto';
import { type Ability, generating } from '../abilities.ts';
import { CKR } from '../ckr.ts';
import type { GcmIv } from '../profiles/profile.ts';
import { CURVES } from './curves.ts';
import { MACS, SIGNATURES, type SignatureScheme } from './mechanisms.ts';
import { Pkcs11Failure } from './module.ts';
import type { TokenKey } from './objects.ts';
import { perform } from './perform.ts';
import { testPostQuantum } from './self-test-pqc.ts';
import { assert, attempt, ID, MESSAGE, one, performerFor, type SelfTest, signs, withKey } from './self-test-steps.ts';
import { testWrapping, type WrappingTested } from './self-test-wrapping.ts';

interface GcmTested {
  readonly ability: Ability;
  readonly gcmIv: GcmIv;
  /** The module says CKR_GENERAL_ERROR where a tag is wrong. */
  readonly generalErrorMeansInvalid: boolean;
}

/** Does it refuse, and with the one code that means anything or this? */
const refusesByGeneralError = (run: () => unknown): boolean => {
  let refusal: unknown;
  try {
    run();
  } catch (thrown) {
    refusal = thrown;
  }
  assert(refusal !== undefined, 'GCM takes a forged text');
  return refusal instanceof Pkcs11Failure && refusal.ckr === CKR.GENERAL_ERROR && refusal.method === 'C_Decrypt';
};

/** Which rule of the iv the token follows: the first of its profile under which it does what it must. */
const testGcm = (test: SelfTest, key: TokenKey): GcmTested => {
  const failures: string[] = [];
  for (const gcmIv of test.profile.gcmIv.is) {
    let generalErrorMeansInvalid = false;
    const tested = attempt('aes-gcm', () => {
      const performer = performerFor(test, key, { gcmIv });
      const [iv, aad] = [randomBytes(12), Buffer.from('aad')];
      const [sealed, made] = perform(performer, 'gcmEncrypt', [ID, iv, aad, MESSAGE]).map((field) =>
        Buffer.from(field),
      );
      assert(sealed?.length === MESSAGE.length + 16 && !sealed.includes(MESSAGE), 'not a GCM ciphertext');
      if (made !== undefined && made.length > 0) made.copy(iv);
      const opened = one(perform(performer, 'gcmDecrypt', [ID, iv, aad, sealed]));
      assert(opened.equals(MESSAGE), 'GCM does not decrypt what it encrypted');
      sealed[0] = (sealed[0] as number) ^ 1;
      generalErrorMeansInvalid = refusesByGeneralError(() => perform(performer, 'gcmDecrypt', [ID, iv, aad, sealed]));
      return gcmIv === 'caller' ? undefined : 'the token makes the iv';
    });
    if (tested.ok) return { ability: tested, gcmIv, generalErrorMeansInvalid };
    failures.push(`iv ${gcmIv}: ${tested.why ?? ''}`);
  }
  const why = failures.join('; ') || 'the module has none';
  return { ...NO_GCM, ability: { name: 'aes-gcm', ok: false, why } };
};

const NO_GCM: GcmTested = {
  ability: { name: 'aes-gcm', ok: false, why: 'no AES key could be made' },
  gcmIv: 'caller',
  generalErrorMeansInvalid: false,
};

const testAes = (test: SelfTest): { readonly made: Ability[]; readonly gcm: GcmTested } => {
  let gcm: GcmTested | undefined;
  const made = [256, 192, 128].map((bits) =>
    attempt(generating(`AES-${bits}`), () => {
      withKey(test, `AES-${bits}`, 'encrypt', ({ key }) => {
        gcm ??= testGcm(test, key);
      });
      return undefined;
    }),
  );
  return { made, gcm: gcm ?? NO_GCM };
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

export interface Tested extends Pick<GcmTested & WrappingTested, 'gcmIv' | 'generalErrorMeansInvalid' | 'kwp'> {
  readonly abilities: Ability[];
}

/** Everything but RSA: some milliseconds on SoftHSM. */
export const testAbilities = (test: SelfTest): Tested => {
  const { made, gcm } = testAes(test);
  const wrapping = testWrapping(test);
  return {
    ...gcm,
    kwp: wrapping.kwp,
    abilities: [
      testRandom(test),
      ...made,
      gcm.ability,
      ...wrapping.abilities,
      ...testHmac(test),
      ...CURVES.flatMap((row) => testCurve(test, row)),
      ...testEd25519(test),
      ...testPostQuantum(test),
    ],
  };
};
