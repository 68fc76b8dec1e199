// Proves what the token does with RSA: key pairs of 2048 bits are made, so it is slow where the token is, and its result
// may be remembered between starts.
import { publicEncrypt } from 'node:crypto';
import { type Ability, generating } from '../abilities.ts';
import { MECHANISMS, SIGNATURES } from './mechanisms.ts';
import { perform } from './perform.ts';
import { Refusal } from './refusal.ts';
import {
  assert,
  attempt,
  ID,
  MESSAGE,
  one,
  performerFor,
  publicKey,
  type SelfTest,
  signs,
  withKey,
} from './self-test-steps.ts';

export interface RsaResult {
  readonly abilities: readonly Ability[];
  readonly oaep: 'native' | 'raw';
}

interface OaepTested extends Ability {
  /** What it says where the padding is wrong, if nothing tells it from a failure of the token. */
  readonly unclear?: string;
}

/** Runs it, which has to fail; undefined where it is plain that the ciphertext is to blame. */
const unclearRefusal = (run: () => unknown): string | undefined => {
  let thrown: unknown;
  try {
    run();
  } catch (error) {
    thrown = error;
  }
  assert(thrown !== undefined, 'OAEP takes a text made with SHA-1');
  if (thrown instanceof Refusal && thrown.code === 'INVALID_CIPHERTEXT') return undefined;
  return thrown instanceof Error ? thrown.message : String(thrown);
};

const testOaep = (test: SelfTest, oaep: 'native' | 'raw'): OaepTested => {
  let unclear: string | undefined;
  const tested = attempt('rsa-oaep-256', () => {
    withKey(test, 'RSA-2048', 'encrypt', ({ key, publicJwk }) => {
      const sealed = publicEncrypt({ key: publicKey(publicJwk), oaepHash: 'sha256' }, MESSAGE);
      const open = (data: Buffer, by: 'native' | 'raw'): Buffer =>
        one(perform(performerFor(test, key, { oaep: by }), 'oaepDecrypt', [ID, data]));
      assert(open(sealed, oaep).equals(MESSAGE), 'OAEP with SHA-256 does not decrypt');
      const sha1 = publicEncrypt({ key: publicKey(publicJwk), oaepHash: 'sha1' }, MESSAGE);
      unclear = unclearRefusal(() => open(sha1, oaep));
    });
    return oaep === 'raw' ? 'by CKM_RSA_X_509, decoded in the token process' : undefined;
  });
  return { ...tested, ...(unclear !== undefined && { unclear }) };
};

/** By the token's own OAEP, unless it is wrong or does not say plainly that a ciphertext is. */
const chooseOaep = (test: SelfTest): { readonly oaep: 'native' | 'raw'; readonly ability: Ability } => {
  const { unclear, ...native } = testOaep(test, 'native');
  const byToken = { oaep: 'native', ability: native } as const;
  if ((native.ok && unclear === undefined) || !test.profile.rawRsaForOaep) return byToken;
  const { unclear: _, ...raw } = testOaep(test, 'raw');
  if (!raw.ok) return native.ok ? byToken : { oaep: 'raw', ability: raw };
  if (unclear === undefined) return { oaep: 'raw', ability: raw };
  return { oaep: 'raw', ability: { ...raw, why: `${raw.why}: of a wrong padding the token says ${unclear}` } };
};

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
  const { oaep, ability } = pair.ok ? chooseOaep(test) : ({ oaep: 'raw', ability: pair } as const);
  const largest = made.ok
    ? test.session.module.maxKeySize(test.slot, MECHANISMS['CKM_RSA_PKCS_KEY_PAIR_GEN'] as number)
    : 0;
  const result = (name: string, why: string | undefined, how?: string): Ability =>
    why === undefined ? { name, ok: true, ...(how !== undefined && { why: how }) } : { name, ok: false, why };
  return {
    oaep,
    abilities: [
      ...[2048, 3072, 4096].map((bits) =>
        result(
          generating(`RSA-${bits}`),
          made.ok ? (bits <= largest ? undefined : `keys up to ${largest} bits only`) : pair.why,
        ),
      ),
      result('rsa-pss', pair.why ?? failed.PS),
      result('rsa-pkcs1', pair.why ?? failed.RS),
      { ...ability, name: 'rsa-oaep-256' },
    ],
  };
};
