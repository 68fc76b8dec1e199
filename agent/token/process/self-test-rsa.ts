// Proves what the token does with RSA: key pairs of 2048 bits are made, so it is slow where the token is, and its result
// may be remembered between starts.
import { publicEncrypt } from 'node:crypto';
import { type Ability, generating } from '../abilities.ts';
import { MECHANISMS, SIGNATURES } from './mechanisms.ts';
import { perform } from './perform.ts';
import {
  assert,
  attempt,
  ID,
  MESSAGE,
  one,
  performerFor,
  publicKey,
  refuses,
  type SelfTest,
  signs,
  withKey,
} from './self-test-steps.ts';

export interface RsaResult {
  readonly abilities: readonly Ability[];
  readonly oaep: 'native' | 'raw';
}

const testOaep = (test: SelfTest, oaep: 'native' | 'raw'): Ability =>
  attempt('rsa-oaep-256', () => {
    withKey(test, 'RSA-2048', 'encrypt', ({ key, publicJwk }) => {
      const sealed = publicEncrypt({ key: publicKey(publicJwk), oaepHash: 'sha256' }, MESSAGE);
      const open = (data: Buffer, by: 'native' | 'raw'): Buffer =>
        one(perform(performerFor(test, key, { oaep: by }), 'oaepDecrypt', [ID, data]));
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
