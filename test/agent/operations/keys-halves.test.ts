// CreateKey and RotateKey of keys whose private part is wrapped or lies half in the token: custody by what the token can,
// public keys of the right kind, and nothing left in the token when the record cannot be stored.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createKey } from '../../../agent/operations/create-key.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { rotateTenantKek } from '../../../agent/operations/rotate-tenant-kek.ts';
import { FakeToken } from '../../fakes/token.ts';
import { LackingToken, openWorld, type World } from '../keys/world.ts';

const create = async (world: World, algorithm: string, jose = '') => {
  const input = { keyId: 'k', purpose: 'encrypt', algorithm, jose, labels: {}, limits: {}, grants: [] } as const;
  const { value } = await createKey(world.ports, world.call(), input);
  const version = value.key.record.versions[0];
  if (version === undefined) assert.fail('no version');
  return version;
};
const objects = (token: FakeToken): number => (token.calls.get('generate') ?? 0) - (token.calls.get('destroy') ?? 0);
const setUp = (t: TestContext, token = new FakeToken()) => ({ token, world: openWorld(t, { token }) });

const roundTrip = async (world: World): Promise<void> => {
  const plaintext = Buffer.from('not all those who wander are lost');
  const associatedData = Buffer.alloc(0);
  const { jwe } = (await encrypt(world.ports, world.call(), { key: 'k', plaintext, associatedData })).value;
  const opened = await decrypt(world.ports, world.call(), { jwe, key: '', associatedData });
  assert.deepEqual(opened.value.plaintext, plaintext);
};

test('a hybrid is split where the token does ECDH, and opens after the tenant KEK was rotated', async (t) => {
  const { world } = setUp(t);
  const version = await create(world, 'ML-KEM-768-P256');
  assert.deepEqual([version.custody, version.jose, version.publicJwk?.['alg']], ['split', 'HPKE-8-KE', 'HPKE-8-KE']);
  assert.ok(version.tokenId !== undefined && version.wrapped !== undefined);
  await roundTrip(world);
  await rotateTenantKek(world.ports, world.call());
  await roundTrip(world);
  await world.reopen('closed');
  await roundTrip(world);
});

test('a hybrid is wrapped whole where the token does no ECDH, and the policy question says which', async (t) => {
  const { world, token } = setUp(t, new LackingToken('EC-P256'));
  const asked: (string | undefined)[] = [];
  world.policy.refuse = (question) => {
    asked.push(question.custody);
    return undefined;
  };
  const version = await create(world, 'ML-KEM-768-P256');
  assert.deepEqual([version.custody, version.tokenId], ['wrapped', undefined]);
  assert.ok(asked.length > 0 && asked.every((custody) => custody === 'wrapped'));
  assert.equal(token.calls.get('generate') ?? 0, 1, 'the tenant KEK alone');
  await roundTrip(world);
});

test('an RSA composite is refused where the token has no RSA', async (t) => {
  const { world } = setUp(t, new LackingToken('RSA-2048'));
  await assert.rejects(create(world, 'ML-KEM-768-RSA2048'), { code: 'HSM_UNSUPPORTED' });
});

test('the public key is for the JOSE algorithm that the version is for', async (t) => {
  const { world } = setUp(t);
  const version = await create(world, 'ML-KEM-1024', 'HPKE-13');
  assert.deepEqual([version.jose, version.publicJwk?.['alg']], ['HPKE-13', 'HPKE-13']);
});

test('X25519 and ML-KEM are wrapped, and open', async (t) => {
  for (const id of ['X25519', 'ML-KEM-768', 'ML-KEM-1024', 'ML-KEM-768-X25519']) {
    const { world } = setUp(t);
    assert.equal((await create(world, id)).custody, 'wrapped', id);
    await roundTrip(world);
  }
});

test('a rotation that loses its race leaves no half in the token', async (t) => {
  const { world, token } = setUp(t);
  await create(world, 'AES-256');
  const before = objects(token);
  const rotate = () =>
    rotateKey(world.ports, world.call(), {
      key: 'k',
      algorithm: 'ML-KEM-768-P256',
      jose: '',
      expectedVersion: 1,
      acceptLoss: false,
    });
  const results = await Promise.allSettled([rotate(), rotate()]);
  assert.deepEqual(results.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
  assert.equal(objects(token), before + 2, 'one half and the tenant KEK');
  await roundTrip(world);
});

test('a token that fails at the classical half leaves no record', async (t) => {
  const { world, token } = setUp(t);
  await create(world, 'ML-KEM-768');
  token.fail({ method: 'generate', code: 'HSM_UNAVAILABLE' });
  const rotated = rotateKey(world.ports, world.call(), {
    key: 'k',
    algorithm: 'ML-KEM-768-P256',
    jose: '',
    expectedVersion: undefined,
    acceptLoss: false,
  });
  await assert.rejects(rotated, { code: 'HSM_UNAVAILABLE' });
  assert.equal(world.keys.catalog.get('acme', 'k')?.versions.length, 1);
  await roundTrip(world);
});
