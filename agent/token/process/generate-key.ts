// Makes keys. Invariant: what is given back was read back from the token, attribute by attribute, and is what was asked
// for; what is not is repaired or destroyed.
import { algorithm, type Purpose } from '../../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import type { WrapScheme } from '../../../proto/documents/wrap-schemes.ts';
import type { Handle } from './arguments.ts';
import { Pkcs11Failure } from './module.ts';
import { attribute, find, inspect, publicJwkOf, type Session, type TokenKey, truth } from './objects.ts';
import { joinedJwk } from './public-key.ts';
import { Refusal } from './refusal.ts';
import { A, type KeyPlan, planKey, planWrappingKey } from './templates.ts';

const CREATION_RETRIES = 5;

/** One way only: towards sensitive and not extractable (PKCS #11 3.1 section 4.9). */
const REPAIRS: readonly (readonly [number, boolean])[] = [
  [A.SENSITIVE, true],
  [A.EXTRACTABLE, false],
];

const repair = (session: Session, object: Handle): void => {
  for (const [type, value] of REPAIRS) {
    if (truth(attribute(session, object, type)) === value) continue;
    session.module.setAttribute(session.handle, object, { type, value });
  }
};

const differences = (session: Session, object: Handle, mustBe: ReadonlyMap<number, boolean>): string[] =>
  [...mustBe].flatMap(([type, value]) => {
    const is = truth(attribute(session, object, type));
    // A module may leave out a use that it does not know; whether the key can leave it must say.
    const fine = is === value || (is === undefined && !value && type !== A.EXTRACTABLE);
    return fine ? [] : [`0x${type.toString(16)} is ${is}, asked for ${value}`];
  });

/** Reads back, repairs what may be repaired, and throws where the key is not what was asked for. */
const verifyMade = (session: Session, object: Handle, plan: KeyPlan): void => {
  let wrong = differences(session, object, plan.mustBe);
  if (wrong.length > 0) {
    repair(session, object);
    wrong = differences(session, object, plan.mustBe);
  }
  if (wrong.length > 0) {
    throw new Refusal('HSM_UNSUPPORTED', `the token made a key with other attributes: ${wrong.join('; ')}`);
  }
};

export interface MadeKey {
  readonly key: TokenKey;
  readonly publicJwk: PublicJwk | undefined;
  readonly publicObject: Handle | undefined;
}

export interface ObjectsWanted {
  /** A CKA_ID that no other object has. */
  readonly id: Buffer;
  readonly label: Buffer;
  /** False for the session objects of self-tests. */
  readonly onToken: boolean;
  /** CKR values after which it is tried again, see profile.ts. */
  readonly race: readonly number[];
  /** As KeyNames. */
  readonly namesUsesOnly?: boolean;
}

export interface KeyWanted extends ObjectsWanted {
  readonly algorithm: string;
  readonly purpose: Purpose;
}

/** The secret or private object, and the public one. */
export type MadeObjects = readonly [Handle, Handle | undefined];

/** Generates the objects of a plan. */
const generateObjects = (session: Session, plan: KeyPlan): MadeObjects => {
  const { module, handle } = session;
  if (plan.publicKey === undefined) return [module.generateKey(handle, plan.mechanism, plan.secret), undefined];
  const pair = module.generateKeyPair(handle, plan.mechanism, { publicKey: plan.publicKey, privateKey: plan.secret });
  return [pair.privateKey, pair.publicKey];
};

/** SoftHSM fails a creation, now and then, while another session searches; what may be left of it is removed. */
const makePatiently = (session: Session, { id, race }: ObjectsWanted, make: () => MadeObjects): MadeObjects => {
  for (let left = CREATION_RETRIES; ; left -= 1) {
    try {
      return make();
    } catch (thrown) {
      if (left <= 0 || !(thrown instanceof Pkcs11Failure) || !race.includes(thrown.ckr)) throw thrown;
      for (const made of find(session, [{ type: A.ID, value: id }])) session.module.destroyObject(session.handle, made);
    }
  }
};

/** Makes the objects of a plan, reads them back, and destroys them where they are not what was asked for. */
export const makeKey = (session: Session, wanted: ObjectsWanted, plan: KeyPlan, make: () => MadeObjects): MadeKey => {
  requireFreeId(session, wanted);
  return makeChecked(session, wanted, plan, make);
};

/** Two keys of one type under one CKA_ID could not be told apart, and no clean-up may meet another's object. */
const requireFreeId = (session: Session, { onToken, id }: ObjectsWanted): void => {
  if (onToken && find(session, [{ type: A.ID, value: id }]).length > 0) {
    throw new Refusal('INVALID_REQUEST', 'the token has an object with this CKA_ID already');
  }
};

const makeChecked = (session: Session, wanted: ObjectsWanted, plan: KeyPlan, make: () => MadeObjects): MadeKey => {
  const objects = makePatiently(session, wanted, make);
  const [object, publicObject] = objects;
  try {
    verifyMade(session, object, plan);
    const key = inspect(session, object);
    return { key, publicJwk: publicJwkOf(session, key, publicObject), publicObject };
  } catch (thrown) {
    for (const made of objects) if (made !== undefined) session.module.destroyObject(session.handle, made);
    throw thrown;
  }
};

export const generateKey = (session: Session, wanted: KeyWanted): MadeKey => {
  const plan = planKey(wanted.algorithm, wanted.purpose, wanted);
  return makeKey(session, wanted, plan, () => generateObjects(session, plan));
};

/**
 * All objects of one key under one CKA_ID and one label, told apart by their types, so that they come and go as one.
 * Nothing is retried after the first one is there: what a retry removes is all that has the CKA_ID.
 */
const generateParts = (session: Session, wanted: ObjectsWanted, plans: readonly KeyPlan[]): MadeKey[] => {
  requireFreeId(session, wanted);
  try {
    return plans.map((plan, index) => {
      const once = index === 0 ? wanted : { ...wanted, race: [] };
      return makeChecked(session, once, plan, () => generateObjects(session, plan));
    });
  } catch (thrown) {
    for (const left of find(session, [{ type: A.ID, value: wanted.id }])) {
      session.module.destroyObject(session.handle, left);
    }
    throw thrown;
  }
};

/** Generates the key, or both halves of a composite, and gives the public key. */
export const generate = (session: Session, wanted: KeyWanted): PublicJwk | undefined => {
  const components = algorithm(wanted.algorithm)?.components;
  if (components === undefined) return generateKey(session, wanted).publicJwk;
  const halves = [components.classical, components.pqc].map((half) => planKey(half, wanted.purpose, wanted));
  return joinedJwk(generateParts(session, wanted, halves).map(({ publicJwk }) => publicJwk));
};

/** A key that wraps by the scheme. */
export const generateWrappingKey = (session: Session, scheme: WrapScheme, wanted: ObjectsWanted): MadeKey[] =>
  generateParts(session, wanted, planWrappingKey(scheme, wanted));
