// Both halves of a composite under one CKA_ID, on a module in memory that fails where the test says: all or nothing is
// left, each half is found by its type, and what could not be told apart is not used.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Attribute, Template } from '../../../agent/token/process/arguments.ts';
import { CURVES } from '../../../agent/token/process/curves.ts';
import { generate, generateWrappingKey } from '../../../agent/token/process/generate-key.ts';
import { Pkcs11Failure } from '../../../agent/token/process/module.ts';
import { KeyObjects, type Session } from '../../../agent/token/process/objects.ts';
import { A, CLASS, KEY_TYPE } from '../../../agent/token/process/templates.ts';
import { wrappingKeyId } from '../../../proto/documents/wrap-schemes.ts';

const ID = Buffer.alloc(16, 3);
const P256 = CURVES[0] ?? assert.fail();
/** The base point of P-256 (SP 800-186 section 3.2.1.3). */
const POINT = Buffer.from(
  '046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5',
  'hex',
);

const bytesOf = (value: Attribute['value']): Buffer => {
  if (Buffer.isBuffer(value)) return value;
  if (typeof value === 'boolean') return Buffer.of(value ? 1 : 0);
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value, 0);
  return bytes;
};

/** As much of a module as making, finding and destroying key pairs takes. */
class ModuleInMemory {
  readonly objects = new Map<number, Map<number, Buffer>>();
  /** CKA_KEY_TYPE whose generation fails. */
  failing: number | undefined;
  #next = 1;

  #add(template: Template, more: readonly (readonly [number, Buffer])[]): Buffer {
    const handle = this.#next;
    this.#next += 1;
    this.objects.set(handle, new Map([...template.map(({ type, value }) => [type, bytesOf(value)] as const), ...more]));
    return bytesOf(handle);
  }

  generateKeyPair(_: Buffer, __: object, templates: { publicKey: Template; privateKey: Template }) {
    const type = templates.publicKey.find((row) => row.type === A.KEY_TYPE)?.value;
    if (type === this.failing) throw new Pkcs11Failure(0x31, 'C_GenerateKeyPair'); // DEVICE_MEMORY
    const made =
      type === KEY_TYPE.EC
        ? [[A.EC_POINT, POINT] as const]
        : [[A.VALUE, Buffer.alloc(type === KEY_TYPE.ML_DSA ? 1952 : 1184, 7)] as const];
    const size = templates.publicKey.filter((row) => row.type === A.EC_PARAMS || row.type === A.PARAMETER_SET);
    const publicKey = this.#add(templates.publicKey, made);
    return { publicKey, privateKey: this.#add([...templates.privateKey, ...size], []) };
  }
  generateKey(_: Buffer, __: object, template: Template): Buffer {
    return this.#add(template, []);
  }
  find(_: Buffer, template: Template): Buffer[] {
    const fits = (object: Map<number, Buffer>): boolean =>
      template.every(({ type, value }) => object.get(type)?.equals(bytesOf(value)) === true);
    return [...this.objects].filter(([, object]) => fits(object)).map(([handle]) => bytesOf(handle));
  }
  attribute(_: Buffer, object: Buffer, type: number): Buffer | undefined {
    return this.objects.get(object.readUInt32LE(0))?.get(type);
  }
  destroyObject(_: Buffer, object: Buffer): void {
    this.objects.delete(object.readUInt32LE(0));
  }
}

const opened = (): { module: ModuleInMemory; session: Session } => {
  const module = new ModuleInMemory();
  return { module, session: { module, handle: Buffer.alloc(8) } as unknown as Session };
};
const wanted = (algorithm: string, purpose: 'sign' | 'encrypt', id = ID) => ({
  algorithm,
  purpose,
  id,
  label: Buffer.from('both'),
  onToken: true,
  race: [0x31], // a retry would remove the half that is there already
});

test('both halves are made, found by their types, and destroyed together', () => {
  const { module, session } = opened();
  const jwk = generate(session, wanted('ML-DSA-65-ES256', 'sign'));
  assert.equal(Buffer.from(jwk?.['pub'] ?? '', 'base64url').length, 1952 + 64);
  assert.equal(module.objects.size, 4);
  const keys = new KeyObjects();
  assert.equal(
    keys.use(session, ID, 'ec', (key) => key.curve),
    P256,
  );
  assert.equal(
    keys.use(session, ID, 'ml-dsa', (key) => key.set?.id),
    'ML-DSA-65',
  );
  assert.deepEqual(keys.find(session, Buffer.from('both')), { id: ID, publicJwk: jwk });
  keys.destroy(session, ID);
  assert.equal(module.objects.size, 0);
});

test('where the second half cannot be made, the first one goes, and other objects stay', () => {
  for (const [algorithm, purpose, failing] of [
    ['ML-DSA-65-ES256', 'sign', KEY_TYPE.ML_DSA],
    ['ML-KEM-768-P256', 'encrypt', KEY_TYPE.ML_KEM],
    ['ML-KEM-768-P256', 'encrypt', KEY_TYPE.EC],
  ] as const) {
    const { module, session } = opened();
    generate(session, wanted('EC-P256', 'sign', Buffer.alloc(16, 9)));
    module.failing = failing;
    assert.throws(() => generate(session, wanted(algorithm, purpose)), { name: 'Pkcs11Failure' });
    assert.deepEqual(
      [...module.objects.values()].map((object) => object.get(A.ID)),
      [Buffer.alloc(16, 9), Buffer.alloc(16, 9)],
    );
  }
});

test('an id that is taken is refused, and what was there is left alone', () => {
  const { module, session } = opened();
  generate(session, wanted('EC-P256', 'sign'));
  assert.throws(() => generate(session, wanted('ML-DSA-65-ES256', 'sign')), { code: 'INVALID_REQUEST' });
  assert.equal(module.objects.size, 2);
});

test('two keys of one type under one id are not used, because they cannot be told apart', () => {
  const { module, session } = opened();
  generate(session, wanted('EC-P256', 'sign'));
  const [privateKey] = module.find(Buffer.alloc(8), [{ type: A.CLASS, value: CLASS.PRIVATE }]);
  const copy = module.objects.get(privateKey?.readUInt32LE(0) ?? 0) ?? assert.fail();
  module.objects.set(99, new Map(copy));
  assert.throws(() => new KeyObjects().use(session, ID, 'ec', () => assert.fail()), { code: 'HSM_UNAVAILABLE' });
});

test('a wrapping key whose making was cut off after its first object is not found, so that another is made', () => {
  const { module, session } = opened();
  const [label, keys] = [Buffer.from('wraps'), new KeyObjects()];
  const make = (byte: number): Buffer => {
    const id = Buffer.from(wrappingKeyId('aes-cbc-hmac', Buffer.alloc(16, byte)), 'hex');
    generateWrappingKey(session, 'aes-cbc-hmac', { id, label, onToken: true, race: [] });
    return id;
  };
  const cutOff = make(1);
  assert.deepEqual(keys.find(session, label)?.id, cutOff);
  module.objects.delete([...module.objects.keys()].at(-1) as number);
  assert.equal(keys.find(session, label), undefined);
  const whole = make(2);
  assert.deepEqual(keys.find(session, label)?.id, whole, 'although the other has the least CKA_ID');
});
