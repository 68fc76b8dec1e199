// What the self-tests are made of: keys that live for one test, requests run on them as for a caller, signatures checked
// by node:crypto, and attempts whose failure is an answer. Invariant: nothing is left on the token.
import { constants, createHash, createPublicKey, type JsonWebKey, type KeyObject, verify } from 'node:crypto';
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import type { Ability } from '../abilities.ts';
import type { GcmIv, Profile } from '../profiles/profile.ts';
import type { Handle } from './arguments.ts';
import { generateKey, type MadeKey } from './generate-key.ts';
import type { SignatureScheme } from './mechanisms.ts';
import { find, type KeyObjects, type Session, type TokenKey } from './objects.ts';
import { perform } from './perform.ts';
import type { Performer } from './performer.ts';
import { A } from './templates.ts';

export interface SelfTest {
  readonly session: Session;
  readonly slot: Handle;
  readonly profile: Profile;
}

class TestFailed extends Error {
  override readonly name = 'TestFailed';
}
export const assert: (fine: boolean, what: string) => asserts fine = (fine, what) => {
  if (!fine) throw new TestFailed(what);
};

export const ID = Buffer.from('mortise:self-test');
const EMPTY = Buffer.alloc(0);
export const MESSAGE = Buffer.from('mortise self-test');
const HASHES: Readonly<Record<string, string>> = { '256': 'sha256', '384': 'sha384', '512': 'sha512' };

/** A performer whose one key is the one under test, which is no token object and so cannot be found by CKA_ID. */
export const performerFor = (
  test: SelfTest,
  key: TokenKey,
  { oaep = 'native', gcmIv = 'caller' }: { readonly oaep?: 'native' | 'raw'; readonly gcmIv?: GcmIv } = {},
): Performer => ({
  session: test.session,
  profile: test.profile,
  oaep,
  gcmIv,
  kwp: 'CKM_AES_KEY_WRAP_KWP',
  scratch: Buffer.alloc(8 * 1024),
  keys: {
    use: <T>(_: Session, __: Buffer, ___: TokenKey['type'], use: (key: TokenKey) => T): T => use(key),
  } as unknown as KeyObjects,
});

/** Of a start that ended within a self-test on a token without session objects. */
export const destroyLeft = (session: Session): void => {
  for (const object of find(session, [{ type: A.LABEL, value: ID }])) {
    session.module.destroyObject(session.handle, object);
  }
};

export const withKey = (test: SelfTest, algorithm: string, purpose: Purpose, use: (made: MadeKey) => void): void => {
  const { sessionObjects, namesUsesOnly } = test.profile;
  const names = { id: ID, label: ID, onToken: !sessionObjects, namesUsesOnly };
  if (!sessionObjects) destroyLeft(test.session);
  const made = generateKey(test.session, { algorithm, purpose, ...names, race: [] });
  try {
    use(made);
  } finally {
    for (const object of [made.key.handle, made.publicObject]) {
      if (object !== undefined) test.session.module.destroyObject(test.session.handle, object);
    }
  }
};

export const attempt = (name: string, run: () => string | undefined): Ability => {
  try {
    const why = run();
    return { name, ok: true, ...(why !== undefined && { why }) };
  } catch (thrown) {
    return { name, ok: false, why: thrown instanceof Error ? thrown.message : String(thrown) };
  }
};

export const publicKey = (jwk: PublicJwk | undefined): KeyObject => {
  assert(jwk !== undefined, 'no public key');
  return createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
};

export const one = (fields: readonly Buffer[]): Buffer => Buffer.from(fields[0] as Buffer);

export const signs = (test: SelfTest, made: MadeKey, jose: string, scheme: SignatureScheme): void => {
  const hash = HASHES[jose.slice(-3)];
  const data =
    scheme.digestBytes === undefined
      ? MESSAGE
      : createHash(hash as string)
          .update(MESSAGE)
          .digest();
  const signature = one(perform(performerFor(test, made.key), 'sign', [ID, Buffer.from(jose), data, EMPTY]));
  const key = publicKey(made.publicJwk);
  const padding = jose.startsWith('PS') ? constants.RSA_PKCS1_PSS_PADDING : constants.RSA_PKCS1_PADDING;
  const options = jose.startsWith('E')
    ? { key, dsaEncoding: 'ieee-p1363' as const }
    : { key, padding, ...(jose.startsWith('PS') && { saltLength: constants.RSA_PSS_SALTLEN_DIGEST }) };
  const algorithm = scheme.digestBytes === undefined ? null : (hash as string);
  assert(verify(algorithm, MESSAGE, options, signature), `${jose}: node:crypto refuses the signature`);
};
