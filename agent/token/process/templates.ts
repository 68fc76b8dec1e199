// Algorithm and purpose → how the key is generated and which attributes it must have afterwards. SENSITIVE and
// EXTRACTABLE are always stated: the defaults of the modules differ.
import pkcs11js from 'pkcs11js';
import {
  algorithm,
  MIN_CURVE_BITS,
  MIN_HMAC_BITS,
  MIN_RSA_BITS,
  type Purpose,
} from '../../../proto/documents/algorithms.ts';
import type { WrapScheme } from '../../../proto/documents/wrap-schemes.ts';
import type { Attribute, Template } from './arguments.ts';
import { curveByAlgorithm, ED25519_PARAMS } from './curves.ts';
import { MECHANISMS, type Mechanism } from './mechanisms.ts';
import { parameterSet } from './parameter-sets.ts';
import { Refusal } from './refusal.ts';

export const A = {
  CLASS: pkcs11js.CKA_CLASS,
  TOKEN: pkcs11js.CKA_TOKEN,
  PRIVATE: pkcs11js.CKA_PRIVATE,
  LABEL: pkcs11js.CKA_LABEL,
  LOCAL: pkcs11js.CKA_LOCAL,
  ID: pkcs11js.CKA_ID,
  VALUE: pkcs11js.CKA_VALUE,
  VALUE_LEN: pkcs11js.CKA_VALUE_LEN,
  KEY_TYPE: pkcs11js.CKA_KEY_TYPE,
  SENSITIVE: pkcs11js.CKA_SENSITIVE,
  EXTRACTABLE: pkcs11js.CKA_EXTRACTABLE,
  ENCRYPT: pkcs11js.CKA_ENCRYPT,
  DECRYPT: pkcs11js.CKA_DECRYPT,
  WRAP: pkcs11js.CKA_WRAP,
  UNWRAP: pkcs11js.CKA_UNWRAP,
  SIGN: pkcs11js.CKA_SIGN,
  VERIFY: pkcs11js.CKA_VERIFY,
  DERIVE: pkcs11js.CKA_DERIVE,
  MODULUS: pkcs11js.CKA_MODULUS,
  MODULUS_BITS: pkcs11js.CKA_MODULUS_BITS,
  PUBLIC_EXPONENT: pkcs11js.CKA_PUBLIC_EXPONENT,
  PRIVATE_EXPONENT: pkcs11js.CKA_PRIVATE_EXPONENT,
  PRIME_1: pkcs11js.CKA_PRIME_1,
  PRIME_2: pkcs11js.CKA_PRIME_2,
  EXPONENT_1: pkcs11js.CKA_EXPONENT_1,
  EXPONENT_2: pkcs11js.CKA_EXPONENT_2,
  COEFFICIENT: pkcs11js.CKA_COEFFICIENT,
  EC_PARAMS: pkcs11js.CKA_EC_PARAMS,
  EC_POINT: pkcs11js.CKA_EC_POINT,
  PARAMETER_SET: 0x61d, // PKCS #11 3.2, as the next two
  ENCAPSULATE: 0x633,
  DECAPSULATE: 0x634,
} as const;

export const CLASS = { PUBLIC: 2, PRIVATE: 3, SECRET: 4 } as const;
/** CK_KEY_TYPE values that we make and use. */
export const KEY_TYPE = {
  RSA: 0x00,
  EC: 0x03,
  GENERIC_SECRET: 0x10,
  AES: 0x1f,
  EC_EDWARDS: 0x40,
  ML_KEM: 0x49,
  ML_DSA: 0x4a,
} as const;
/** CKA_PUBLIC_EXPONENT 65537, the least that FIPS 186-5 allows. */
const EXPONENT = Buffer.of(1, 0, 1);

export interface KeyPlan {
  readonly mechanism: Mechanism;
  /** One template: a secret key. Two: a pair. */
  readonly secret: Template;
  readonly publicKey?: Template;
  /** Boolean attributes of the secret or private object that must read back so. */
  readonly mustBe: ReadonlyMap<number, boolean>;
}

const PRIVATE_USES = [A.ENCRYPT, A.DECRYPT, A.SIGN, A.WRAP, A.UNWRAP, A.DERIVE];

const flags = (uses: readonly number[], of: readonly number[], only: boolean | undefined): Attribute[] =>
  of.map((type) => ({ type, value: uses.includes(type) })).filter(({ value }) => value || only !== true);

interface Shape {
  readonly generate: string;
  readonly keyType: number;
  readonly uses: readonly number[];
  readonly size?: Attribute;
  readonly publicUses?: readonly number[];
  readonly publicSize?: Template;
}

const least = (bits: number, minimum: number, id: string): void => {
  if (bits < minimum) throw new Refusal('ALGORITHM_FORBIDDEN', `${id} is below the least size of ${minimum} bits`);
};

const shapeOf = (id: string, purpose: Purpose): Shape => {
  const bits = Number(id.slice(-3));
  if (id.startsWith('AES-')) {
    return {
      generate: 'CKM_AES_KEY_GEN',
      keyType: KEY_TYPE.AES,
      uses: [A.ENCRYPT, A.DECRYPT],
      size: { type: A.VALUE_LEN, value: bits / 8 },
    };
  }
  if (id.startsWith('HMAC-')) {
    least(bits, MIN_HMAC_BITS, id);
    return {
      generate: 'CKM_GENERIC_SECRET_KEY_GEN',
      keyType: KEY_TYPE.GENERIC_SECRET,
      uses: [A.SIGN, A.VERIFY],
      size: { type: A.VALUE_LEN, value: bits / 8 },
    };
  }
  if (id.startsWith('RSA-')) {
    const modulusBits = Number(id.slice(4));
    least(modulusBits, MIN_RSA_BITS, id);
    return {
      generate: 'CKM_RSA_PKCS_KEY_PAIR_GEN',
      keyType: KEY_TYPE.RSA,
      uses: purpose === 'sign' ? [A.SIGN] : [A.DECRYPT],
      publicUses: purpose === 'sign' ? [A.VERIFY] : [A.ENCRYPT],
      publicSize: [
        { type: A.MODULUS_BITS, value: modulusBits },
        { type: A.PUBLIC_EXPONENT, value: EXPONENT },
      ],
    };
  }
  if (id === 'Ed25519') {
    return {
      generate: 'CKM_EC_EDWARDS_KEY_PAIR_GEN',
      keyType: KEY_TYPE.EC_EDWARDS,
      uses: [A.SIGN],
      publicUses: [A.VERIFY],
      publicSize: [{ type: A.EC_PARAMS, value: ED25519_PARAMS }],
    };
  }
  const set = parameterSet(id);
  if (set !== undefined) {
    const signs = set.family === 'ml-dsa';
    return {
      generate: signs ? 'CKM_ML_DSA_KEY_PAIR_GEN' : 'CKM_ML_KEM_KEY_PAIR_GEN',
      keyType: signs ? KEY_TYPE.ML_DSA : KEY_TYPE.ML_KEM,
      uses: [signs ? A.SIGN : A.DECAPSULATE],
      publicUses: [signs ? A.VERIFY : A.ENCAPSULATE],
      publicSize: [{ type: A.PARAMETER_SET, value: set.number }],
    };
  }
  const curve = curveByAlgorithm(id);
  if (curve === undefined) throw new Refusal('HSM_UNSUPPORTED', `no way to generate ${id}`);
  least(curve.bits, MIN_CURVE_BITS, id);
  return {
    generate: 'CKM_EC_KEY_PAIR_GEN',
    keyType: KEY_TYPE.EC,
    uses: purpose === 'sign' ? [A.SIGN] : [A.DERIVE],
    publicUses: purpose === 'sign' ? [A.VERIFY] : [],
    publicSize: [{ type: A.EC_PARAMS, value: curve.params }],
  };
};

export interface KeyNames {
  readonly id: Buffer;
  readonly label: Buffer;
  /** False for the session objects of self-tests. */
  readonly onToken: boolean;
  /** Templates name only what a key is for, not what it is not for, because the module refuses that. */
  readonly namesUsesOnly?: boolean;
}

/** How to generate a key of this algorithm for this purpose. Refuses what is forbidden, unknown or not for it. */
export const planKey = (id: string, purpose: Purpose, names: KeyNames): KeyPlan => {
  const row = algorithm(id);
  if (row === undefined || !row.custody.includes('hsm') || row.jose[purpose] === undefined) {
    const forbidden = row?.status === 'forbidden';
    throw new Refusal(forbidden ? 'ALGORITHM_FORBIDDEN' : 'HSM_UNSUPPORTED', `no key of ${id} for ${purpose}`);
  }
  return planOf(shapeOf(id, purpose), names);
};

const WRAPPING_AES: Shape = {
  generate: 'CKM_AES_KEY_GEN',
  keyType: KEY_TYPE.AES,
  uses: [A.WRAP, A.UNWRAP],
  size: { type: A.VALUE_LEN, value: 32 },
};

/** How to generate the objects of a key that wraps by this scheme: AES-256, and for all but AES-GCM a key for HMAC-SHA-256. */
export const planWrappingKey = (scheme: WrapScheme, names: KeyNames): readonly KeyPlan[] => {
  const byCipher = planKey('AES-256', 'encrypt', names);
  if (scheme === 'aes-gcm') return [byCipher];
  const aes = scheme === 'aes-cbc-hmac' ? byCipher : planOf(WRAPPING_AES, names);
  return [aes, planKey('HMAC-SHA256', 'mac', names)];
};

const planOf = (shape: Shape, names: KeyNames): KeyPlan => {
  const common: Template = [
    { type: A.TOKEN, value: names.onToken },
    { type: A.ID, value: names.id },
    { type: A.LABEL, value: names.label },
    { type: A.KEY_TYPE, value: shape.keyType },
  ];
  const pair = shape.publicSize !== undefined;
  const privateUses = pair ? PRIVATE_USES.filter((type) => type !== A.ENCRYPT && type !== A.WRAP) : PRIVATE_USES;
  // CKA_DECAPSULATE is of 3.2: tokens without it refuse a template that names it.
  const later = shape.uses.filter((type) => type === A.DECAPSULATE);
  const only = names.namesUsesOnly;
  const uses = flags(shape.uses, pair ? [...privateUses, ...later] : [...PRIVATE_USES, A.VERIFY], only);
  const protection: readonly (readonly [number, boolean])[] = [
    [A.PRIVATE, true],
    [A.SENSITIVE, true],
    [A.EXTRACTABLE, false],
  ];
  const secret: Template = [
    ...common,
    { type: A.CLASS, value: pair ? CLASS.PRIVATE : CLASS.SECRET },
    ...protection.map(([type, value]) => ({ type, value })),
    ...uses,
    ...(shape.size === undefined ? [] : [shape.size]),
  ];
  const mustBe = new Map([...protection, [A.TOKEN, names.onToken] as const]);
  for (const { type, value } of uses) mustBe.set(type, value as boolean);
  const mechanism = { mechanism: MECHANISMS[shape.generate] as number };
  if (shape.publicSize === undefined) return { mechanism, secret, mustBe };
  const publicKey: Template = [
    ...common,
    { type: A.CLASS, value: CLASS.PUBLIC },
    { type: A.PRIVATE, value: false },
    ...flags(
      shape.publicUses ?? [],
      shape.publicUses?.includes(A.ENCAPSULATE)
        ? [A.VERIFY, A.ENCRYPT, A.WRAP, A.ENCAPSULATE]
        : [A.VERIFY, A.ENCRYPT, A.WRAP],
      only,
    ),
    ...shape.publicSize,
  ];
  return { mechanism, secret, publicKey, mustBe };
};

/** The key that an agreed or decapsulated secret is read from: a session object that lives for one call and may be read. */
export const agreedSecret = (bytes: number): Template => [
  { type: A.CLASS, value: CLASS.SECRET },
  { type: A.KEY_TYPE, value: KEY_TYPE.GENERIC_SECRET },
  { type: A.TOKEN, value: false },
  { type: A.PRIVATE, value: true },
  { type: A.SENSITIVE, value: false },
  { type: A.EXTRACTABLE, value: true },
  { type: A.VALUE_LEN, value: bytes },
];

/** Private bytes that are about to be wrapped, as an object that lives for one call and nobody can read. */
export const wrappedSecret = (value: Buffer): Template => [
  { type: A.CLASS, value: CLASS.SECRET },
  { type: A.KEY_TYPE, value: KEY_TYPE.GENERIC_SECRET },
  { type: A.TOKEN, value: false },
  { type: A.PRIVATE, value: true },
  { type: A.SENSITIVE, value: true },
  { type: A.EXTRACTABLE, value: true },
  { type: A.VALUE, value },
];

/** As which they are unwrapped: the same, to be read. The wrap says how long they are. */
export const unwrappedSecret: Template = agreedSecret(0).filter(({ type }) => type !== A.VALUE_LEN);
