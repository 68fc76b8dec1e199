// ImportKey as a new version of a key: a rotation whose material was made elsewhere.
import assert from 'node:assert/strict';
import { generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { describe, type TestContext, test } from 'node:test';
import { CompactEncrypt, importJWK } from 'jose';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { createKey } from '../../../agent/operations/create-key.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { getImportKey } from '../../../agent/operations/get-import-key.ts';
import { type ImportKeyInput, importKey } from '../../../agent/operations/import-key.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { sign } from '../../../agent/operations/sign.ts';
import { suspendKey } from '../../../agent/operations/suspend-key.ts';
import { updateKey } from '../../../agent/operations/update-key.ts';
import { keysHandlers } from '../../../agent/server/services/keys.ts';
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import { FakeToken } from '../../fakes/token.ts';
import { openWorld, type World } from '../keys/world.ts';

const fails = (promise: Promise<unknown>, code: Code, about = /./): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, about);
    return true;
  });

const none = Buffer.alloc(0);
const plaintext = Buffer.from('before and after');

const setUp = async (t: TestContext, algorithm = 'AES-256', purpose: Purpose = 'encrypt') => {
  const token = new FakeToken();
  const world = openWorld(t, { token });
  await createKey(world.ports, world.call(), {
    ...{ keyId: 'k', purpose, algorithm, jose: '', labels: { of: 'us' }, limits: {}, grants: [] },
  });
  return { token, world };
};

const wrapTo = async (world: World, material: JsonWebKey | Buffer): Promise<string> => {
  const jwk = JSON.parse((await getImportKey(world.ports, world.call())).value.publicJwk);
  const bytes = Buffer.isBuffer(material) ? material : Buffer.from(JSON.stringify(material));
  const cty = Buffer.isBuffer(material) ? {} : { cty: 'jwk+json' };
  return await new CompactEncrypt(bytes)
    .setProtectedHeader({ alg: jwk.alg, enc: 'A256GCM', kid: jwk.kid, ...cty })
    .encrypt(await importJWK(jwk, jwk.alg));
};

const bring = async (
  world: World,
  change: Partial<ImportKeyInput> = {},
  material: JsonWebKey | Buffer = randomBytes(32),
) =>
  importKey(world.ports, world.call(), {
    ...{ keyId: 'k', purpose: undefined, algorithm: 'AES-256', jose: '', labels: {}, limits: {}, grants: [] },
    wrappedKey: await wrapTo(world, material),
    asVersion: { expectedVersion: undefined, acceptLoss: false },
    ...change,
  });

const seal = async (world: World): Promise<string> =>
  (await encrypt(world.ports, world.call(), { key: 'k', plaintext, associatedData: none })).value.jwe;
const ec = (namedCurve: string): JsonWebKey =>
  generateKeyPairSync('ec', { namedCurve }).privateKey.export({ format: 'jwk' });

describe('ImportKey as a version', () => {
  test('retires the former version, which still opens what it sealed', async (t) => {
    const { world } = await setUp(t);
    const old = await seal(world);
    world.records.length = 0;
    const { value, envelope } = await bring(world, { purpose: 'encrypt' });
    const { versions, labels, purpose } = value.key.record;
    assert.deepEqual(
      versions.map(({ version, state, origin }) => [version, state, origin]),
      [
        [1, 'RETIRED', undefined],
        [2, 'PRIMARY', 'imported'],
      ],
    );
    assert.deepEqual([labels, purpose, envelope.keyUsed], [{ of: 'us' }, 'encrypt', { keyId: 'k', version: 2 }]);
    assert.deepEqual(
      world.records.filter(({ operation }) => operation === 'import-key').map(({ outcome, key }) => [outcome, key]),
      [
        ['intent', 'k/1'],
        ['ok', 'k/2'],
      ],
    );
    const { detail } = world.records.at(-1) ?? {};
    assert.deepEqual([detail?.['previousVersion'], detail?.['newVersion'], detail?.['origin']], [1, 2, 'imported']);
    assert.equal(value.key.uses, 0);
    for (const jwe of [old, await seal(world)]) {
      const opened = await decrypt(world.ports, world.call(), { jwe, key: '', associatedData: none });
      assert.deepEqual(opened.value.plaintext, plaintext);
    }
  });

  test('goes to another algorithm; losing an ability needs to be accepted', async (t) => {
    const { world } = await setUp(t, 'EC-P256', 'sign');
    const ed = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
    await fails(bring(world, { algorithm: 'Ed25519' }, ed), 'INVALID_REQUEST', /sign a digest/);
    const asVersion = { expectedVersion: 1, acceptLoss: true };
    const { value } = await bring(world, { algorithm: 'Ed25519', asVersion }, ed);
    assert.equal(value.key.record.versions[1]?.algorithm, 'Ed25519');
    const made = await sign(world.ports, world.call(), {
      ...{ key: 'k', input: { message: plaintext }, form: 'compact', type: '' },
    });
    assert.equal(made.envelope.algorithmUsed, 'Ed25519');
  });

  test('takes one import of each import key, and takes the material of another algorithm for none', async (t) => {
    const { world } = await setUp(t, 'EC-P256', 'sign');
    const wrappedKey = await wrapTo(world, ec('P-256'));
    await bring(world, { algorithm: 'EC-P256', wrappedKey });
    await fails(bring(world, { algorithm: 'EC-P256', wrappedKey }), 'INVALID_REQUEST', /has ended/);
    await fails(bring(world, { algorithm: 'EC-P256' }, ec('P-384')), 'INVALID_REQUEST');
    await fails(bring(world, { algorithm: 'ML-DSA-65' }), 'HSM_UNSUPPORTED');
    assert.equal(world.keys.catalog.get('acme', 'k')?.versions.length, 2);
  });

  test('refuses another purpose, and attributes, which stay as they are', async (t) => {
    const { world } = await setUp(t);
    await fails(bring(world, { purpose: 'mac' }), 'INVALID_REQUEST', /the key is for "encrypt"/);
    const attributes: readonly Partial<ImportKeyInput>[] = [
      { labels: { a: 'b' } },
      { limits: { hardUses: 1 } },
      { grants: [{ principal: 'bob', operations: ['encrypt'] }] },
      { activatesAt: 0 },
    ];
    for (const change of attributes) await fails(bring(world, change), 'INVALID_REQUEST', /UpdateKey/);
    assert.equal(world.keys.catalog.get('acme', 'k')?.versions.length, 1);
  });

  test('is judged as a rotation: state, grants and policy, and of the caller’s tenant alone', async (t) => {
    const { world } = await setUp(t);
    await fails(bring(world, { keyId: 'nobody' }), 'KEY_UNKNOWN');
    await fails(bring(world, { keyId: 'globex/k' }), 'PERMISSION_DENIED');
    for (const refused of ['import-key', 'rotate-key']) {
      world.policy.refuse = ({ operation }) => (operation === refused ? 'POLICY_DENIED' : undefined);
      await fails(bring(world), 'POLICY_DENIED');
    }
    world.policy.refuse = () => undefined;
    await updateKey(world.ports, world.call(), {
      key: 'k',
      grants: [
        { principal: 'bob', operations: ['rotate-key'] },
        { principal: 'alice', operations: ['update-key', 'suspend-key'] },
      ],
      revision: undefined,
    });
    await fails(bring(world), 'PERMISSION_DENIED', /no grant/);
    await updateKey(world.ports, world.call(), { key: 'k', grants: [], revision: undefined });
    await suspendKey(world.ports, world.call(), { key: 'k', reason: '' });
    await fails(bring(world), 'KEY_STATE');
    assert.equal(world.keys.catalog.get('acme', 'k')?.versions.length, 1);
  });

  test('loses to a rotation that comes between, and leaves no object of what it made', async (t) => {
    const { world, token } = await setUp(t);
    const asVersion = { expectedVersion: 2, acceptLoss: false };
    await fails(bring(world, { asVersion }), 'KEY_CONFLICT', /the primary version is 1/);
    const { objects } = world.ports;
    const create = objects.create.bind(objects);
    objects.create = async (...given) => {
      const made = await create(...given);
      const rotation = { key: 'k', algorithm: '', jose: '', expectedVersion: undefined, acceptLoss: false };
      await rotateKey(world.ports, world.call(), rotation);
      return made;
    };
    const destroyed = token.calls.get('destroy') ?? 0;
    await fails(bring(world), 'KEY_CONFLICT');
    assert.equal(token.calls.get('destroy'), destroyed + 1);
    const { versions } = world.keys.catalog.get('acme', 'k') ?? {};
    assert.deepEqual(
      versions?.map(({ origin }) => origin),
      [undefined, undefined],
    );
  });

  test('a store or a token that fails leaves the key as it was', async (t) => {
    const { world, token } = await setUp(t);
    token.fail({ method: 'create', code: 'HSM_UNAVAILABLE' });
    await fails(bring(world), 'HSM_UNAVAILABLE');
    world.auditFails = true;
    await fails(bring(world, { wrappedKey: 'a.b.c.d.e' }), 'AUDIT_UNAVAILABLE');
    world.auditFails = false;
    assert.equal(world.keys.catalog.get('acme', 'k')?.versions[0]?.state, 'PRIMARY');
    assert.equal(world.keys.catalog.get('acme', 'k')?.versions.length, 1);
  });

  test('the service carries it', async (t) => {
    const { world } = await setUp(t);
    const answer = await keysHandlers(world.ports).importKey(world.call(), {
      keyId: 'k',
      purpose: 'PURPOSE_UNSPECIFIED' as never,
      algorithm: 'AES-256',
      joseAlgorithm: '',
      wrappedKey: await wrapTo(world, randomBytes(32)),
      labels: {},
      limits: undefined,
      grants: [],
      activationTime: undefined,
      asVersion: { expectedVersion: 1, acceptLoss: false },
    });
    assert.equal(answer.key?.versions[1]?.origin, 'ORIGIN_IMPORTED');
  });
});
