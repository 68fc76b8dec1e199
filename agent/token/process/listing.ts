// What lies in the token under the labels of somebody, for a catalogue that was lost. Nothing here uses a key; of one that
// could not be used (extractable, of a type or size that is not in the table) nothing is told but its label, and why.
import { algorithm, type Purpose } from '../../../proto/documents/algorithms.ts';
import { MAX_DATA_BYTES } from '../protocol.ts';
import { attribute, find, type KeyObjects, type Session, type TokenKey, truth } from './objects.ts';
import { Refusal } from './refusal.ts';
import { A, CLASS } from './templates.ts';

const ID_BYTES = 16;
const MAX_LISTED = MAX_DATA_BYTES / ID_BYTES;
const MAX_LOOKED_AT = 200_000; // some 20 µs each in SoftHSM

/** CKA_IDs of the private and secret keys whose label begins so, one behind the other, sorted. */
export const listIds = (session: Session, prefix: Buffer): Buffer => {
  const ids = new Set<string>();
  for (const value of [CLASS.PRIVATE, CLASS.SECRET]) {
    const template = [
      { type: A.CLASS, value },
      { type: A.TOKEN, value: true },
    ];
    const handles = session.module.findAll(session.handle, template, MAX_LOOKED_AT);
    if (handles === undefined) throw new Refusal('HSM_UNSUPPORTED', `more than ${MAX_LOOKED_AT} objects`);
    for (const handle of handles) {
      const label = attribute(session, handle, A.LABEL);
      if (label === undefined || !label.subarray(0, prefix.length).equals(prefix)) continue;
      const id = attribute(session, handle, A.ID);
      if (id?.length === ID_BYTES) ids.add(id.toString('hex'));
    }
  }
  if (ids.size > MAX_LISTED) throw new Refusal('HSM_UNSUPPORTED', `more than ${MAX_LISTED} keys under one label`);
  return Buffer.from([...ids].sort().join(''), 'hex');
};

const algorithmOf = ({ type, modulus, curve, set, bits }: TokenKey): string => {
  if (modulus !== undefined) return `RSA-${modulus.length * 8}`;
  if (type === 'ed25519') return 'Ed25519';
  if (bits !== undefined) return `${type === 'aes' ? 'AES-' : 'HMAC-SHA'}${bits}`;
  return curve?.algorithm ?? set?.id ?? '';
};

/** Undefined where it may do what keys of two purposes do, or nothing. */
const purposeOf = ({ type, uses }: TokenKey): Purpose | undefined => {
  const signs = uses.has(A.SIGN);
  const opens = [A.DECRYPT, A.DERIVE, A.DECAPSULATE].some((use) => uses.has(use));
  if (signs === opens) return undefined;
  if (opens) return 'encrypt';
  return type === 'secret' ? 'mac' : 'sign';
};

export interface Description {
  readonly label: Buffer;
  /** Of a composite both. */
  readonly algorithms: readonly string[];
  readonly purpose: Purpose | undefined;
  /** CKA_LOCAL. */
  readonly isLocal: boolean;
  readonly publicJwk: ReturnType<KeyObjects['publicJwk']>;
  readonly fault?: string;
}

const labelOf = (session: Session, id: Buffer): Buffer => {
  const own = [A.ID, A.TOKEN].map((type) => ({ type, value: type === A.ID ? id : true }));
  for (const value of [CLASS.PRIVATE, CLASS.SECRET]) {
    const [handle] = find(session, [...own, { type: A.CLASS, value }]);
    if (handle !== undefined) return attribute(session, handle, A.LABEL) ?? Buffer.alloc(0);
  }
  throw new Refusal('HSM_UNAVAILABLE', 'the token holds no key with this CKA_ID');
};

const keysOf = (session: Session, objects: KeyObjects, id: Buffer): readonly TokenKey[] | string => {
  try {
    const keys = objects.get(session, id);
    const isOfTable = keys.every((key) => algorithm(algorithmOf(key)) !== undefined);
    return isOfTable ? keys : 'the key is of a size that is not in the table';
  } catch (thrown) {
    if (thrown instanceof Refusal) return thrown.message;
    throw thrown;
  }
};

export const describe = (session: Session, objects: KeyObjects, id: Buffer): Description => {
  const label = labelOf(session, id);
  const keys = keysOf(session, objects, id);
  if (typeof keys === 'string') {
    return { label, algorithms: [], purpose: undefined, isLocal: false, publicJwk: undefined, fault: keys };
  }
  const [purpose, ...others] = new Set(keys.map(purposeOf));
  return {
    label,
    algorithms: keys.map(algorithmOf).sort(),
    purpose: others.length === 0 ? purpose : undefined,
    isLocal: keys.every(({ handle }) => truth(attribute(session, handle, A.LOCAL)) === true),
    publicJwk: objects.publicJwk(session, id),
  };
};
