// Proves what the token does with ML-DSA and ML-KEM of PKCS #11 3.2, as self-test.ts does for the rest: the mechanism list
// only says what is worth trying.
import { createPublicKey, encapsulate, type JsonWebKey, verify } from 'node:crypto';
import { type Ability, generating } from '../abilities.ts';
import type { MadeKey } from './generate-key.ts';
import { MECHANISMS, mechanismName } from './mechanisms.ts';
import { PARAMETER_SETS, type ParameterSet } from './parameter-sets.ts';
import { perform } from './perform.ts';
import {
  assert,
  attempt,
  ID,
  MESSAGE,
  one,
  performerFor,
  publicKey,
  type SelfTest,
  withKey,
} from './self-test-steps.ts';

const CONTEXT = Buffer.from('mortise self-test context');

/** With and without a context, which composites sign under. */
const testSigning = (test: SelfTest, { key, publicJwk }: MadeKey, { id }: ParameterSet): void => {
  const verifier = publicKey(publicJwk);
  for (const context of [Buffer.alloc(0), CONTEXT]) {
    const signature = one(perform(performerFor(test, key), 'sign', [ID, Buffer.from(id), MESSAGE, context]));
    assert(verify(null, MESSAGE, { key: verifier, context }, signature), 'node:crypto refuses the signature');
    const others = context.length === 0 ? CONTEXT : Buffer.alloc(0);
    assert(!verify(null, MESSAGE, { key: verifier, context: others }, signature), 'the context is not signed');
  }
};

/** The right ciphertext, and one that is not: FIPS 203 rejects implicitly, with another secret. */
const testDecapsulation = (test: SelfTest, { key, publicJwk }: MadeKey): void => {
  const { sharedKey, ciphertext } = encapsulate(createPublicKey({ key: publicJwk as JsonWebKey, format: 'jwk' }));
  const open = (): Buffer => one(perform(performerFor(test, key), 'decapsulate', [ID, ciphertext]));
  assert(open().equals(sharedKey), 'another secret than node:crypto');
  ciphertext[0] = (ciphertext[0] as number) ^ 1;
  assert(!open().equals(sharedKey), 'the secret of a forged ciphertext');
};

const testSet = (test: SelfTest, set: ParameterSet): Ability[] => {
  const [purpose, run] =
    set.family === 'ml-dsa' ? (['sign', testSigning] as const) : (['encrypt', testDecapsulation] as const);
  let made: Ability = { name: generating(set.id), ok: false };
  const using = attempt(set.id.toLowerCase(), () => {
    withKey(test, set.id, purpose, (key) => {
      made = { name: made.name, ok: true };
      run(test, key, set);
    });
    return undefined;
  });
  return [made.ok ? made : { ...made, ...(using.why !== undefined && { why: using.why }) }, using];
};

const needed = ({ family }: ParameterSet): readonly number[] =>
  (family === 'ml-dsa' ? ['CKM_ML_DSA_KEY_PAIR_GEN', 'CKM_ML_DSA'] : ['CKM_ML_KEM_KEY_PAIR_GEN', 'CKM_ML_KEM']).map(
    (name) => MECHANISMS[name] as number,
  );

export const testPostQuantum = (test: SelfTest): Ability[] => {
  const listed = new Set(test.session.module.mechanisms(test.slot));
  return PARAMETER_SETS.flatMap((set) => {
    const lacking = needed(set).filter((number) => !listed.has(number));
    if (lacking.length === 0) return testSet(test, set);
    const why = `the token does not list ${lacking.map(mechanismName).join(', ')}`;
    return [generating(set.id), set.id.toLowerCase()].map((name) => ({ name, ok: false, why }));
  });
};
