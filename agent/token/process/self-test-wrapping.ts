// Proves the schemes that wrap key material without AES-GCM, each with keys of its own on session objects: what was
// wrapped comes back, is as long as its standard says, and with another tag or other associated data does not open.
import { randomBytes } from 'node:crypto';
import { WRAP_SCHEMES, type WrapScheme, wrappingKeyId, wrapScheme } from '../../../proto/documents/wrap-schemes.ts';
import { type Ability, wrapping } from '../abilities.ts';
import { generateWrappingKey, type MadeKey } from './generate-key.ts';
import { MECHANISMS } from './mechanisms.ts';
import type { KeyObjects, Session, TokenKey } from './objects.ts';
import type { Performer } from './performer.ts';
import { Refusal } from './refusal.ts';
import { assert, attempt, destroyLeft, ID, performerFor, type SelfTest } from './self-test-steps.ts';
import { unwrap, wrap } from './wrapping.ts';

type WithHmac = Exclude<WrapScheme, 'aes-gcm'>;

/** CKM_ names that a scheme can be done by, in the order in which they are tried. */
const BY: Readonly<Record<WithHmac, readonly string[]>> = {
  'aes-cbc-hmac': ['CKM_AES_CBC_PAD'],
  'aes-kwp': ['CKM_AES_KEY_WRAP_KWP', 'CKM_AES_KEY_WRAP_PAD'],
  'aes-kw': ['CKM_AES_KEY_WRAP'],
};
/** C_WrapKey does them, so the profile's list of what wraps keys counts. */
const WRAPS_KEYS: readonly WrapScheme[] = ['aes-kwp', 'aes-kw'];
const MATERIAL_BYTES = 32;
/** RFC 3394 and RFC 5649 section 4.1 add 8 bytes to a multiple of 8; another padding would add 16. */
const WRAPPED_BYTES: Readonly<Record<WithHmac, number>> = { 'aes-cbc-hmac': 48, 'aes-kwp': 40, 'aes-kw': 40 };
const AAD = Buffer.from('aad');

export interface WrappingTested {
  readonly abilities: readonly Ability[];
  /** By which mechanism AES-KWP is done. */
  readonly kwp: string;
}

const withWrappingKey = (test: SelfTest, scheme: WrapScheme, use: (made: readonly MadeKey[]) => void): void => {
  const { session, profile } = test;
  const { sessionObjects, namesUsesOnly } = profile;
  if (!sessionObjects) destroyLeft(session);
  const names = { id: ID, label: ID, onToken: !sessionObjects, namesUsesOnly };
  const made = generateWrappingKey(session, scheme, { ...names, race: [] });
  try {
    use(made);
  } finally {
    for (const { key } of made) session.module.destroyObject(session.handle, key.handle);
  }
};

/** A performer that knows these keys and no other, under whatever CKA_ID. */
const performerWith = (test: SelfTest, made: readonly MadeKey[], kwp: string): Performer => {
  const [first] = made as readonly [MadeKey];
  const keys = {
    use: <T>(_: Session, __: Buffer, type: TokenKey['type'], use: (key: TokenKey) => T): T =>
      use((made.find(({ key }) => key.type === type) ?? first).key),
  };
  return { ...performerFor(test, first.key), kwp, keys: keys as unknown as KeyObjects };
};

const isRefused = (run: () => unknown): boolean => {
  try {
    run();
    return false;
  } catch (thrown) {
    if (thrown instanceof Refusal && thrown.code === 'INVALID_CIPHERTEXT') return true;
    throw thrown;
  }
};

const proves = (test: SelfTest, scheme: WithHmac, mechanism: string): void =>
  withWrappingKey(test, scheme, (made) => {
    const performer = performerWith(test, made, mechanism);
    const id = Buffer.from(wrappingKeyId(scheme, randomBytes(16)), 'hex');
    const material = randomBytes(MATERIAL_BYTES);
    const sealed = wrap(performer, [id, AAD, material]);
    const { ivBytes, tagBytes } = wrapScheme(scheme);
    assert(
      sealed.length - ivBytes - tagBytes === WRAPPED_BYTES[scheme],
      'a wrap of another length than the standard has',
    );
    assert(!sealed.includes(material), 'what is wrapped can be read');
    assert(unwrap(performer, [id, AAD, sealed]).equals(material), 'it does not unwrap what it wrapped');
    const forged = Buffer.from(sealed);
    forged[0] = (forged[0] as number) ^ 1;
    assert(
      isRefused(() => unwrap(performer, [id, AAD, forged])),
      'it takes a forged wrap',
    );
    assert(
      isRefused(() => unwrap(performer, [id, ID, sealed])),
      'it takes other associated data',
    );
  });

const testScheme = (test: SelfTest, scheme: WithHmac): { readonly ability: Ability; readonly by: string } => {
  const { session, slot, profile } = test;
  const [first] = BY[scheme] as readonly [string];
  const name = wrapping(scheme);
  const allowed = profile.wraps.is;
  const fits = (mechanism: string): boolean =>
    !WRAPS_KEYS.includes(scheme) || allowed.length === 0 || allowed.includes(mechanism);
  const candidates = BY[scheme].filter(fits);
  if (candidates.length === 0) {
    return {
      ability: { name, ok: false, why: `the profile ${profile.name} does not wrap keys by ${first}` },
      by: first,
    };
  }
  const listed = session.module.mechanisms(slot);
  const offered = candidates.filter((mechanism) => listed.includes(MECHANISMS[mechanism] as number));
  const failures: string[] = [];
  for (const by of offered) {
    const ability = attempt(name, () => {
      proves(test, scheme, by);
      return by === first ? undefined : `by ${by}`;
    });
    if (ability.ok) return { ability, by };
    failures.push(`${by}: ${ability.why ?? ''}`);
  }
  const why = failures.join('; ') || `the token does not list ${candidates.join(' or ')}`;
  return { ability: { name, ok: false, why }, by: first };
};

export const testWrapping = (test: SelfTest): WrappingTested => {
  const tested = WRAP_SCHEMES.flatMap(({ scheme }) =>
    scheme === 'aes-gcm' ? [] : [{ scheme, ...testScheme(test, scheme) }],
  );
  return {
    abilities: tested.map(({ ability }) => ability),
    kwp: tested.find(({ scheme }) => scheme === 'aes-kwp')?.by as string,
  };
};
