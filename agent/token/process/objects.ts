// Key objects of the token: found by CKA_ID or label, inspected, destroyed. Invariant: a private or secret key is used only
// after its attributes were read back from the token and say that it cannot leave; what a template asked for proves
// nothing (openCryptoki ignores it on unwrap, NSS exports regardless).
import { MIN_RSA_BITS } from '../../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import { schemeOfKey } from '../../../proto/documents/wrap-schemes.ts';
import { CKR } from '../ckr.ts';
import type { Handle, Template } from './arguments.ts';
import { type Curve, curveByParams, ED25519_NAME, ED25519_PARAMS } from './curves.ts';
import { Pkcs11Failure, type Pkcs11Module } from './module.ts';
import { PARAMETER_SETS, type ParameterSet } from './parameter-sets.ts';
import { akpJwk, ecJwk, ed25519Jwk, joinedJwk, rsaJwk } from './public-key.ts';
import { Refusal } from './refusal.ts';
import { A, CLASS, KEY_TYPE } from './templates.ts';

/** A private or secret key that may be used. */
export interface TokenKey {
  readonly handle: Handle;
  readonly type: 'rsa' | 'ec' | 'ed25519' | 'ml-dsa' | 'ml-kem' | 'aes' | 'secret';
  /** Modulus of an RSA key, without leading zeros. */
  readonly modulus?: Buffer;
  readonly curve?: Curve;
  /** Of an ML-DSA or ML-KEM key. */
  readonly set?: ParameterSet;
  /** Bits of an AES or HMAC key. */
  readonly bits?: number;
  readonly uses: ReadonlySet<number>;
}

const MAX_CACHED = 10_000; // ids; a key costs about 300 bytes here
const MAX_FOUND = 64;
const LOOKUPS = 2; // see KeyObjects.use
const USES = [A.SIGN, A.ENCRYPT, A.DECRYPT, A.DERIVE];
const USES_OF_KEM = [A.DECAPSULATE];
const USES_OF_WRAPPING = [A.WRAP, A.UNWRAP];

export interface Session {
  readonly module: Pkcs11Module;
  readonly handle: Handle;
}

const number = (value: Buffer | undefined): number | undefined =>
  value === undefined || value.length < 4 ? undefined : value.readUInt32LE(0);
export const truth = (value: Buffer | undefined): boolean | undefined =>
  value === undefined ? undefined : value[0] === 1;

/** An attribute, undefined where the token does not give it. */
export const attribute = ({ module, handle }: Session, object: Handle, type: number): Buffer | undefined => {
  try {
    return module.attribute(handle, object, type);
  } catch (thrown) {
    // ATTRIBUTE_SENSITIVE, ATTRIBUTE_TYPE_INVALID: not there for us. Everything else is a failure.
    if (thrown instanceof Pkcs11Failure && (thrown.ckr === 0x11 || thrown.ckr === 0x12)) return undefined;
    throw thrown;
  }
};
const needed = (session: Session, object: Handle, type: number, name: string): Buffer => {
  const value = attribute(session, object, type);
  if (value === undefined) throw new Refusal('HSM_UNAVAILABLE', `the token does not give ${name} of a key`);
  return value;
};
export const find = ({ module, handle }: Session, template: Template): Handle[] =>
  module.find(handle, template, MAX_FOUND);

export const publicJwkOf = (
  session: Session,
  key: TokenKey,
  publicObject: Handle | undefined,
): PublicJwk | undefined => {
  if (key.type === 'aes' || key.type === 'secret') return undefined;
  const from = publicObject ?? key.handle; // some modules keep the public part on the private object
  if (key.type === 'rsa') {
    return rsaJwk(
      needed(session, from, A.MODULUS, 'CKA_MODULUS'),
      needed(session, from, A.PUBLIC_EXPONENT, 'CKA_PUBLIC_EXPONENT'),
    );
  }
  if (key.set !== undefined) return akpJwk(key.set, needed(session, from, A.VALUE, 'CKA_VALUE of the public key'));
  const point = needed(session, from, A.EC_POINT, 'CKA_EC_POINT');
  return key.curve === undefined ? ed25519Jwk(point) : ecJwk(key.curve, point);
};

const TYPES: Readonly<Record<number, TokenKey['type']>> = {
  [KEY_TYPE.RSA]: 'rsa',
  [KEY_TYPE.EC]: 'ec',
  [KEY_TYPE.EC_EDWARDS]: 'ed25519',
  [KEY_TYPE.AES]: 'aes',
  [KEY_TYPE.GENERIC_SECRET]: 'secret',
  [KEY_TYPE.ML_DSA]: 'ml-dsa',
  [KEY_TYPE.ML_KEM]: 'ml-kem',
};

const setOf = (session: Session, handle: Handle, family: ParameterSet['family']): ParameterSet => {
  const value = number(needed(session, handle, A.PARAMETER_SET, 'CKA_PARAMETER_SET'));
  const set = PARAMETER_SETS.find((row) => row.family === family && row.number === value);
  if (set === undefined)
    throw new Refusal('HSM_UNSUPPORTED', `the key is of a set of ${family} that is not in the table`);
  return set;
};

/** Looks at a private or secret object and refuses one that may leave the token or is too weak. */
export const inspect = (session: Session, handle: Handle): TokenKey => {
  const type = TYPES[number(needed(session, handle, A.KEY_TYPE, 'CKA_KEY_TYPE')) ?? -1];
  if (type === undefined) throw new Refusal('HSM_UNSUPPORTED', 'the key is of a type that is not in the table');
  const sensitive = truth(attribute(session, handle, A.SENSITIVE));
  const extractable = truth(attribute(session, handle, A.EXTRACTABLE));
  if (sensitive !== true || extractable !== false) {
    throw new Refusal('HSM_UNAVAILABLE', 'the key in the token is not sensitive or can be extracted; it is not used');
  }
  const isFor = (use: number): boolean => truth(attribute(session, handle, use)) === true;
  const uses = new Set((type === 'ml-kem' ? USES_OF_KEM : USES).filter(isFor));
  if (type === 'aes' && uses.size === 0) for (const use of USES_OF_WRAPPING.filter(isFor)) uses.add(use);
  const key = { handle, type, uses };
  if (type === 'rsa') {
    const raw = needed(session, handle, A.MODULUS, 'CKA_MODULUS');
    const modulus = raw.subarray(raw.findIndex((byte) => byte !== 0));
    if (modulus.length * 8 < MIN_RSA_BITS) {
      throw new Refusal('ALGORITHM_FORBIDDEN', `an RSA key below ${MIN_RSA_BITS} bits is not used`);
    }
    return { ...key, modulus };
  }
  if (type === 'aes' || type === 'secret') {
    const bytes = number(needed(session, handle, A.VALUE_LEN, 'CKA_VALUE_LEN')) ?? 0;
    return { ...key, bits: bytes * 8 };
  }
  if (type === 'ml-dsa' || type === 'ml-kem') return { ...key, set: setOf(session, handle, type) };
  const params = needed(session, handle, A.EC_PARAMS, 'CKA_EC_PARAMS');
  if (type === 'ed25519') {
    if (params.equals(ED25519_PARAMS) || params.equals(ED25519_NAME)) return key;
    throw new Refusal('HSM_UNSUPPORTED', 'the Edwards key is not on Ed25519');
  }
  const curve = curveByParams(params);
  if (curve === undefined) throw new Refusal('HSM_UNSUPPORTED', 'the key is on a curve that is not in the table');
  return { ...key, curve };
};

/** A key for a scheme with HMAC is of two objects: with one alone, its making was cut off, and nothing is wrapped by it. */
const isWhole = (id: Buffer, ids: readonly Buffer[]): boolean =>
  schemeOfKey(id.toString('hex')) === 'aes-gcm' || ids.filter((other) => other.equals(id)).length > 1;

const isOfType = (session: Session, object: Handle, type: TokenKey['type']): boolean =>
  TYPES[number(needed(session, object, A.KEY_TYPE, 'CKA_KEY_TYPE')) ?? -1] === type;

/**
 * The keys that a session has looked up, by CKA_ID: one, or the two halves of a composite, which are of two types.
 * Handles are good until the object or the login is gone.
 */
export class KeyObjects {
  readonly #keys = new Map<string, readonly TokenKey[]>();

  forget(id: string): void {
    this.#keys.delete(id);
  }
  clear(): void {
    this.#keys.clear();
  }

  /** The keys with this CKA_ID, at least one. */
  get(session: Session, id: Buffer): readonly TokenKey[] {
    const cached = this.#keys.get(id.toString('hex'));
    if (cached !== undefined) return cached;
    for (let left = LOOKUPS; ; left -= 1) {
      try {
        return this.#look(session, id);
      } catch (thrown) {
        if (left <= 1 || !(thrown instanceof Refusal)) throw thrown;
      }
    }
  }

  #look(session: Session, id: Buffer): readonly TokenKey[] {
    const handles = [CLASS.PRIVATE, CLASS.SECRET].flatMap((value) =>
      find(session, [
        { type: A.ID, value: id },
        { type: A.CLASS, value },
        { type: A.TOKEN, value: true },
      ]),
    );
    if (handles.length === 0) throw new Refusal('HSM_UNAVAILABLE', 'the token holds no key with this CKA_ID');
    const keys = handles.map((handle) => inspect(session, handle));
    if (new Set(keys.map(({ type }) => type)).size < keys.length) {
      throw new Refusal('HSM_UNAVAILABLE', 'the token holds several keys of one type with this CKA_ID');
    }
    if (this.#keys.size >= MAX_CACHED) this.#keys.clear();
    this.#keys.set(id.toString('hex'), keys);
    return keys;
  }

  /**
   * Runs `use` with the key of this type, or with any where there is none, which `use` has to refuse; once more with a
   * fresh look where the token no longer knows the handle, or where the key
   * seems to be of the wrong kind: SoftHSM may leave attributes out while another session makes an object.
   */
  use<T>(session: Session, id: Buffer, type: TokenKey['type'], use: (key: TokenKey) => T): T {
    const name = id.toString('hex');
    const pick = (): TokenKey => {
      const keys = this.get(session, id);
      return keys.find((key) => key.type === type) ?? (keys[0] as TokenKey);
    };
    try {
      return use(pick());
    } catch (thrown) {
      const gone =
        thrown instanceof Pkcs11Failure &&
        (thrown.ckr === CKR.OBJECT_HANDLE_INVALID || thrown.ckr === CKR.KEY_HANDLE_INVALID);
      const unsuited = thrown instanceof Refusal && thrown.code === 'HSM_UNSUPPORTED';
      if (!gone && !unsuited) throw thrown;
      this.#keys.delete(name);
      return use(pick());
    }
  }

  /** The whole key with this label; where there are several, the one with the least CKA_ID, so that all hosts choose alike. */
  find(
    session: Session,
    label: Buffer,
  ): { readonly id: Buffer; readonly publicJwk: PublicJwk | undefined } | undefined {
    const handles = [CLASS.PRIVATE, CLASS.SECRET].flatMap((value) =>
      find(session, [
        { type: A.LABEL, value: label },
        { type: A.CLASS, value },
        { type: A.TOKEN, value: true },
      ]),
    );
    const ids = handles.map((handle) => needed(session, handle, A.ID, 'CKA_ID')).sort(Buffer.compare);
    const id = ids.find((one) => isWhole(one, ids));
    if (id === undefined) return undefined;
    return { id, publicJwk: this.publicJwk(session, id) };
  }

  /** The public key of a pair, or of both halves of a composite. */
  publicJwk(session: Session, id: Buffer): PublicJwk | undefined {
    const publicObjects = find(session, [
      { type: A.ID, value: id },
      { type: A.CLASS, value: CLASS.PUBLIC },
    ]);
    const keys = this.get(session, id);
    const [only, second] = keys as readonly [TokenKey, TokenKey?];
    if (second === undefined) return publicJwkOf(session, only, publicObjects[0]);
    const halves = keys.map((key) =>
      publicJwkOf(
        session,
        key,
        publicObjects.find((object) => isOfType(session, object, key.type)),
      ),
    );
    return joinedJwk(halves);
  }

  /** Destroys all objects with this CKA_ID, private ones first, so that a failure half-way leaves no usable key. */
  destroy(session: Session, id: Buffer): void {
    for (const value of [CLASS.PRIVATE, CLASS.SECRET, CLASS.PUBLIC]) {
      for (const handle of find(session, [
        { type: A.ID, value: id },
        { type: A.CLASS, value },
        { type: A.TOKEN, value: true },
      ])) {
        session.module.destroyObject(session.handle, handle);
      }
    }
    this.forget(id.toString('hex'));
  }
}
