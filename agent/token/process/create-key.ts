// Makes token objects of key material that was made elsewhere (C_CreateObject). Invariant: the objects get the very
// attributes that a generated key gets, and are read back like one; only where their numbers come from differs.
import { MIN_RSA_BITS } from '../../../proto/documents/algorithms.ts';
import { decodeFields } from '../protocol.ts';
import type { Attribute, Handle, Template } from './arguments.ts';
import { curveByAlgorithm, isOnCurve } from './curves.ts';
import { type KeyWanted, type MadeKey, type MadeObjects, makeKey } from './generate-key.ts';
import { Pkcs11Failure } from './module.ts';
import type { Session } from './objects.ts';
import { parameterSet } from './parameter-sets.ts';
import { Refusal } from './refusal.ts';
import { A, type KeyPlan, planKey } from './templates.ts';

const MAX_PART = 1024; // the private exponent of RSA-8192

/** What the numbers of a key are, by CKA type, in each of its objects. */
interface Numbers {
  readonly secret: Template;
  /** In the forms that modules take, to be tried in turn. */
  readonly publicKeys?: readonly Template[];
}

const wrong = (what: string): Refusal => new Refusal('INVALID_REQUEST', `the key material ${what}`);

const parts = (material: Buffer, count: number): Buffer[] => {
  try {
    return decodeFields(material, Array<number>(count).fill(MAX_PART));
  } catch {
    throw wrong('is not in the form of its algorithm');
  }
};

/** DER OCTET STRING (PKCS #11 3.1 section 6.3.3). */
const octetString = (bytes: Buffer): Buffer =>
  Buffer.concat([bytes.length < 128 ? Buffer.of(4, bytes.length) : Buffer.of(4, 0x81, bytes.length), bytes]);

const row = (type: number, value: Buffer): Attribute => ({ type, value });

const rsaNumbers = (id: string, material: Buffer): Numbers => {
  const [n, e, d, p, q, dp, dq, qi] = parts(material, 8) as [
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
  ];
  const bits = Number(id.slice(4));
  if (bits < MIN_RSA_BITS || n.length * 8 !== bits || ((n[0] as number) & 0x80) === 0) throw wrong(`is not of ${id}`);
  const open = [row(A.MODULUS, n), row(A.PUBLIC_EXPONENT, e)];
  const crt = [
    row(A.PRIME_1, p),
    row(A.PRIME_2, q),
    row(A.EXPONENT_1, dp),
    row(A.EXPONENT_2, dq),
    row(A.COEFFICIENT, qi),
  ];
  return { secret: [...open, row(A.PRIVATE_EXPONENT, d), ...crt], publicKeys: [open] };
};

const numbersOf = (id: string, material: Buffer, plan: KeyPlan): Numbers => {
  if (parameterSet(id) !== undefined) throw new Refusal('HSM_UNSUPPORTED', `${id} is generated in the token only`);
  if (id.startsWith('RSA-')) return rsaNumbers(id, material);
  const params = plan.publicKey?.find(({ type }) => type === A.EC_PARAMS);
  if (params === undefined) return { secret: [row(A.VALUE, parts(material, 1)[0] as Buffer)] };
  const [point, secret] = parts(material, 2) as [Buffer, Buffer];
  const curve = curveByAlgorithm(id);
  const bytes = curve?.bytes ?? 32;
  if (secret.length !== bytes || !(curve === undefined ? point.length === 32 : isOnCurve(curve, point))) {
    throw wrong(`is not of ${id}`);
  }
  // Points of Edwards curves were DER at first and are raw since PKCS #11 3.1; SoftHSM takes the one, NSS and openCryptoki
  // the other.
  const points = curve === undefined ? [octetString(point), point] : [octetString(point)];
  return {
    secret: [params, row(A.VALUE, secret)],
    publicKeys: points.map((form) => [params, row(A.EC_POINT, form)]),
  };
};

const SIZES: ReadonlySet<number> = new Set([A.VALUE_LEN, A.MODULUS_BITS, A.PUBLIC_EXPONENT, A.EC_PARAMS]);
/** A template for generating, with the numbers in place of the size. */
const filled = (template: Template, numbers: Template): Template => [
  ...template.filter(({ type }) => !SIZES.has(type)),
  ...numbers,
];

const createPublic = ({ module, handle }: Session, template: Template, forms: readonly Template[]): Handle => {
  for (let index = 0; ; index += 1) {
    try {
      return module.createObject(handle, filled(template, forms[index] as Template));
    } catch (thrown) {
      if (!(thrown instanceof Pkcs11Failure) || index + 1 >= forms.length) throw thrown;
    }
  }
};

export const createKey = (session: Session, wanted: KeyWanted, material: Buffer): MadeKey => {
  const plan = planKey(wanted.algorithm, wanted.purpose, wanted);
  const numbers = numbersOf(wanted.algorithm, material, plan);
  const { module, handle } = session;
  return makeKey(session, wanted, plan, (): MadeObjects => {
    const secret = module.createObject(handle, filled(plan.secret, numbers.secret));
    if (plan.publicKey === undefined || numbers.publicKeys === undefined) return [secret, undefined];
    try {
      return [secret, createPublic(session, plan.publicKey, numbers.publicKeys)];
    } catch (thrown) {
      module.destroyObject(handle, secret);
      throw thrown;
    }
  });
};
