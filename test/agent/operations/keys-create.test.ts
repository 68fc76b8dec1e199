// CreateKey and RotateKey: which algorithm in which custody, what policy and token refuse, repeats, races, and that
// nothing is left in the token that no record names.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { type CreateKeyInput, createKey } from '../../../agent/operations/create-key.ts';
import { type RotateKeyInput, rotateKey } from '../../../agent/operations/rotate-key.ts';
import { rotateTenantKek } from '../../../agent/operations/rotate-tenant-kek.ts';
import { suspendKey } from '../../../agent/operations/suspend-key.ts';
import { updateKey } from '../../../agent/operations/update-key.ts';
import { ALGORITHMS, type Purpose } from '../../../proto/documents/algorithms.ts';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { FakeToken } from '../../fakes/token.ts';
import { HOUR, LackingToken, openWorld, type World } from '../keys/world.ts';

const input = (change: Partial<CreateKeyInput> = {}): CreateKeyInput => ({
  keyId: 'invoices',
  purpose: 'encrypt',
  algorithm: '',
  jose: '',
  labels: {},
  limits: {},
  grants: [],
  ...change,
});

const create = async (world: World, change: Partial<CreateKeyInput> = {}) =>
  (await createKey(world.ports, world.call(), input(change))).value.key;
const rotate = (world: World, change: Partial<RotateKeyInput> = {}) =>
  rotateKey(world.ports, world.call(), {
    key: 'invoices',
    algorithm: '',
    jose: '',
    expectedVersion: undefined,
    acceptLoss: false,
    ...change,
  });

const setUp = (t: TestContext, token = new FakeToken()): { world: World; token: FakeToken } => ({
  world: openWorld(t, { token }),
  token,
});
const stored = (world: World): KeyRecord | undefined => world.keys.catalog.get('acme', 'invoices');

/** Objects made less objects destroyed. */
const objects = (token: FakeToken): number => (token.calls.get('generate') ?? 0) - (token.calls.get('destroy') ?? 0);
const invalidField = (field: string) => (error: { code: string; fields: { field: string }[] }) => {
  assert.equal(error.code, 'INVALID_REQUEST', String(error));
  assert.equal(error.fields[0]?.field, field);
  return true;
};

describe('CreateKey', () => {
  for (const [purpose, algorithm, jose] of [
    ['encrypt', 'AES-256', 'A256GCMKW'],
    ['sign', 'EC-P256', 'ES256'],
    ['mac', 'HMAC-SHA256', 'HS256'],
  ] as const) {
    test(`takes the policy’s default for ${purpose}`, async (t) => {
      const { world } = setUp(t);
      const { value, envelope } = await createKey(world.ports, world.call(), input({ purpose }));
      const version = value.key.record.versions[0];
      assert.deepEqual([version?.algorithm, version?.jose, version?.custody], [algorithm, jose, 'hsm']);
      assert.equal(value.key.state, 'ACTIVE');
      assert.equal(version?.publicJwk === undefined, purpose !== 'sign');
      assert.deepEqual(envelope.keyUsed, { keyId: 'invoices', version: 1 });
      assert.equal(envelope.algorithmUsed, jose);
      const record = world.records.at(-1);
      assert.deepEqual([record?.key, record?.algorithm, record?.outcome], ['invoices/1', jose, 'ok']);
    });
  }

  test('labels the object for people: mortise:key:<tenant>:<key id>:v<n>:<JOSE algorithm>', async (t) => {
    const { world, token } = setUp(t);
    const { record } = await create(world);
    const call = { tenant: 'acme', deadline: Date.now() + 1000, signal: new AbortController().signal };
    assert.equal(
      (await token.find('mortise:key:acme:invoices:v1:A256GCMKW', call))?.tokenId,
      record.versions[0]?.tokenId,
    );
  });

  test('makes an RSA key for the JOSE algorithm asked for, PS256 where none is', async (t) => {
    const { world } = setUp(t);
    const rsa = { purpose: 'sign', algorithm: 'RSA-2048' } as const;
    assert.equal((await create(world, { ...rsa, keyId: 'a' })).record.versions[0]?.jose, 'PS256');
    assert.equal((await create(world, { ...rsa, keyId: 'b', jose: 'RS512' })).record.versions[0]?.jose, 'RS512');
    await assert.rejects(create(world, { ...rsa, keyId: 'c', jose: 'ES256' }), invalidField('jose_algorithm'));
  });

  test('holds Ed25519 wrapped where the token cannot, and says so', async (t) => {
    const token = new LackingToken('Ed25519');
    const { world } = setUp(t, token);
    const version = (await create(world, { purpose: 'sign', algorithm: 'Ed25519' })).record.versions[0];
    assert.equal(version?.custody, 'wrapped');
    assert.equal(version?.tokenId, undefined);
    assert.ok(version?.wrapped);
    assert.equal(version?.publicJwk?.['crv'], 'Ed25519');
    assert.equal(token.calls.get('generate'), 1, 'only the KEK');
  });

  test('says why the token cannot hold another algorithm', async (t) => {
    const { world, token } = setUp(t, new LackingToken('EC-P521'));
    await assert.rejects(create(world, { purpose: 'sign', algorithm: 'EC-P521' }), {
      code: 'HSM_UNSUPPORTED',
      message: /EC-P521 for "sign": it has no such mechanism/,
    });
    assert.equal(token.calls.get('generate'), undefined);
  });

  test('refuses every forbidden algorithm by name in any case, whatever policy says', async (t) => {
    const { world, token } = setUp(t);
    const forbidden = ALGORITHMS.filter((row) => row.status === 'forbidden').map((row) => row.id);
    assert.ok(forbidden.length > 10);
    for (const algorithm of [...forbidden, 'rsa1_5', 'NONE']) {
      await assert.rejects(create(world, { algorithm }), { code: 'ALGORITHM_FORBIDDEN' });
    }
    await assert.rejects(create(world, { purpose: 'sign', algorithm: 'RSA-2048', jose: 'RS1' }), {
      code: 'ALGORITHM_FORBIDDEN',
    });
    assert.equal(token.calls.get('generate'), undefined);
  });

  test('refuses what policy denies, for making it and for using it, before the token makes it', async (t) => {
    const { world, token } = setUp(t);
    for (const operation of ['create-key', 'encrypt'] as const) {
      world.policy.refuse = (question) => (question.operation === operation ? 'FIPS_ONLY' : undefined);
      await assert.rejects(create(world), { code: 'FIPS_ONLY' });
      assert.equal(world.records.at(-1)?.detail?.['rule'], 'test.deny');
    }
    world.policy.refuse = (question) => (question.custody === 'hsm' ? undefined : 'POLICY_DENIED');
    await create(world);
    assert.equal(token.calls.get('generate'), 1);
  });

  test('names the field of a bad value', async (t) => {
    const { world, token } = setUp(t);
    world.policy.defaults = {};
    const aes = { algorithm: 'AES-256' };
    const bad: readonly [Partial<CreateKeyInput>, string][] = [
      [{ keyId: '' }, 'key_id'],
      [{ keyId: 'Upper' }, 'key_id'],
      [{ keyId: 'x'.repeat(65) }, 'key_id'],
      [{ keyId: 'a b' }, 'key_id'],
      [{ keyId: 'acme/invoices' }, 'key_id'],
      [{ purpose: undefined }, 'purpose'],
      [{ algorithm: '' }, 'algorithm'],
      [{ algorithm: 'AES-257' }, 'algorithm'],
      [{ algorithm: 'constructor' }, 'algorithm'],
      [{ algorithm: 'Ed25519' }, 'algorithm'],
      [{ ...aes, jose: 'A128GCMKW' }, 'jose_algorithm'],
      [{ ...aes, labels: { '': 'x' } }, 'labels'],
      [{ ...aes, labels: { a: 'x'.repeat(256) } }, 'labels'],
      [{ ...aes, grants: [{ principal: 'a', operations: [] }] }, 'grants'],
      [{ ...aes, grants: [{ principal: 'a', operations: ['toString'] }] }, 'grants'],
      [{ ...aes, limits: { hardExpiry: world.now } }, 'limits.hard_expiry'],
      [{ ...aes, limits: { hardExpiry: world.now + 1 }, activatesAt: world.now + 1 }, 'activation_time'],
      [{ ...aes, activatesAt: Number.NaN }, 'activation_time'],
    ];
    for (const [change, field] of bad) await assert.rejects(create(world, change), invalidField(field));
    await assert.rejects(create(world, { keyId: 'globex/invoices' }), { code: 'PERMISSION_DENIED' });
    assert.equal(token.calls.get('generate'), undefined);
    assert.equal(world.records.length, bad.length + 1, 'every refusal is recorded');
  });

  test('answers a repeated call with the key that is there, and refuses one that differs', async (t) => {
    const { world, token } = setUp(t);
    const first = await create(world);
    assert.deepEqual(await create(world), first);
    assert.deepEqual(await create(world, { algorithm: 'AES-256' }), first);
    assert.equal(token.calls.get('generate'), 1);
    await assert.rejects(create(world, { purpose: 'sign' }), { code: 'KEY_EXISTS' });
    await assert.rejects(create(world, { algorithm: 'AES-128' }), { code: 'KEY_EXISTS' });
  });

  test('of two at once makes one key, and keeps one object', async (t) => {
    const { world, token } = setUp(t);
    const [one, other] = await Promise.all([create(world), create(world)]);
    assert.deepEqual(one, other);
    assert.equal(token.calls.get('generate'), 2);
    assert.equal(objects(token), 1);
  });

  test('keeps no object where the record cannot be stored', async (t) => {
    const { world, token } = setUp(t);
    const { insert } = world.keys.catalog;
    world.keys.catalog.insert = async () => {
      throw new Error('the disk is full');
    };
    await assert.rejects(create(world), { code: 'INTERNAL' });
    assert.equal(objects(token), 0);
    world.keys.catalog.insert = insert;
    await create(world);
  });

  test('leaves nothing behind where the token fails', async (t) => {
    const { world, token } = setUp(t);
    for (const code of ['HSM_BUSY', 'HSM_UNAVAILABLE', 'DEADLINE_EXCEEDED'] as const) {
      token.fail({ method: 'generate', code });
      await assert.rejects(create(world), { code });
      assert.equal(world.records.at(-1)?.outcome, code);
    }
    assert.equal(stored(world), undefined);
    await create(world);
  });

  test('takes limits from policy, narrower ones from the caller, wider ones never', async (t) => {
    const { world } = setUp(t);
    world.policy.limits = { softUses: 10, hardUses: 20, softAge: HOUR, hardAge: 2 * HOUR };
    const { now } = world;
    const plain = (await create(world, { keyId: 'plain' })).record.limits;
    assert.deepEqual(plain, { softUses: 10, hardUses: 20, softExpiry: now + HOUR, hardExpiry: now + 2 * HOUR });
    const narrow = { softUses: 1, hardUses: 5, softExpiry: now + 10, hardExpiry: now + 20 };
    assert.deepEqual((await create(world, { keyId: 'narrow', limits: narrow })).record.limits, narrow);
    for (const limits of [
      { softUses: 11 },
      { hardUses: 21 },
      { softExpiry: now + HOUR + 1 },
      { hardExpiry: now + 9 * HOUR },
    ]) {
      await assert.rejects(create(world, { keyId: 'wide', limits }), { code: 'POLICY_DENIED' });
    }
  });
});

describe('RotateKey', () => {
  test('makes the next version primary, retires the old one and keeps the id', async (t) => {
    const { world } = setUp(t);
    await create(world);
    const { value, envelope } = await rotate(world);
    assert.deepEqual(
      value.key.record.versions.map((row) => [row.version, row.state]),
      [
        [1, 'RETIRED'],
        [2, 'PRIMARY'],
      ],
    );
    assert.deepEqual(envelope.keyUsed, { keyId: 'invoices', version: 2 });
    const [intent, ok] = world.records.slice(-2);
    assert.deepEqual(
      [intent?.outcome, intent?.key, ok?.outcome, ok?.key],
      ['intent', 'invoices/1', 'ok', 'invoices/2'],
    );
    assert.equal(ok?.detail?.['previousVersion'], 1);
  });

  test('of two at once has one winner; the loser keeps no object', async (t) => {
    const { world, token } = setUp(t);
    await create(world);
    const results = await Promise.allSettled([rotate(world), rotate(world), rotate(world)]);
    const codes = results.map((row) => (row.status === 'fulfilled' ? 'ok' : row.reason.code));
    assert.deepEqual(codes.toSorted(), ['KEY_CONFLICT', 'KEY_CONFLICT', 'ok']);
    assert.equal(objects(token), 2);
    assert.equal(stored(world)?.versions.length, 2);
  });

  test('goes on beside a change of labels, and stops where the key was suspended meanwhile', async (t) => {
    const { world, token } = setUp(t);
    await create(world);
    const whileGenerating = async (change: () => Promise<unknown>): Promise<unknown> => {
      const gate = Promise.withResolvers<void>();
      token.fail({ method: 'generate', until: gate.promise });
      const rotating = rotate(world);
      await change();
      gate.resolve();
      return rotating;
    };
    const labels = { changed: 'meanwhile' };
    await whileGenerating(() => updateKey(world.ports, world.call(), { key: 'invoices', labels, revision: undefined }));
    assert.deepEqual(stored(world)?.labels, labels);
    assert.equal(stored(world)?.versions.length, 2);
    const suspend = () => suspendKey(world.ports, world.call(), { key: 'invoices', reason: '' });
    await assert.rejects(whileGenerating(suspend), { code: 'KEY_STATE' });
    assert.equal(objects(token), 2);
  });

  test('is safe to repeat with expected_version', async (t) => {
    const { world } = setUp(t);
    await create(world);
    await rotate(world, { expectedVersion: 1 });
    await assert.rejects(rotate(world, { expectedVersion: 1 }), { code: 'KEY_CONFLICT', metadata: { version: '2' } });
    assert.equal(stored(world)?.versions.length, 2);
  });

  test('goes to another algorithm; losing an ability needs to be accepted', async (t) => {
    const { world } = setUp(t);
    await create(world, { algorithm: 'EC-P256' });
    await assert.rejects(rotate(world, { algorithm: 'AES-256' }), invalidField('accept_loss'));
    assert.equal((await rotate(world, { algorithm: 'RSA-2048' })).value.key.record.versions[1]?.jose, 'RSA-OAEP-256');
    await rotate(world, { algorithm: 'AES-256', acceptLoss: true });
    await rotate(world, { algorithm: 'EC-P384' });
    assert.deepEqual(
      stored(world)?.versions.map((row) => row.algorithm),
      ['EC-P256', 'RSA-2048', 'AES-256', 'EC-P384'],
    );
    await assert.rejects(rotate(world, { algorithm: 'HMAC-SHA256' }), invalidField('algorithm'));
  });

  test('from ECDSA to Ed25519 loses signing of digests', async (t) => {
    const { world } = setUp(t);
    await create(world, { purpose: 'sign', algorithm: 'EC-P256' });
    await assert.rejects(rotate(world, { algorithm: 'Ed25519' }), invalidField('accept_loss'));
    await rotate(world, { algorithm: 'Ed25519', acceptLoss: true });
  });

  test('keeps the JOSE algorithm of an RSA key unless another is named', async (t) => {
    const { world } = setUp(t);
    await create(world, { purpose: 'sign', algorithm: 'RSA-2048', jose: 'RS384' });
    assert.equal((await rotate(world)).value.key.record.versions[1]?.jose, 'RS384');
    assert.equal((await rotate(world, { jose: 'PS512' })).value.key.record.versions[2]?.jose, 'PS512');
  });

  test('goes to the policy’s default where the old algorithm is no longer allowed', async (t) => {
    const { world } = setUp(t);
    await create(world, { algorithm: 'AES-128' });
    world.policy.refuse = (question) => (question.algorithm === 'AES-128' ? 'POLICY_DENIED' : undefined);
    assert.equal((await rotate(world)).value.key.record.versions[1]?.algorithm, 'AES-256');
    world.policy.defaults = {};
    world.policy.refuse = () => 'POLICY_DENIED';
    await assert.rejects(rotate(world), { code: 'POLICY_DENIED' });
  });

  test('starts uses and expiry anew, within the policy’s ages', async (t) => {
    const { world } = setUp(t);
    await create(world, { limits: { hardUses: 1, softExpiry: world.now + HOUR, hardExpiry: world.now + 2 * HOUR } });
    await world.keys.catalog.use(stored(world) as KeyRecord);
    world.now += 5 * HOUR;
    const { value } = await rotate(world);
    assert.equal(value.key.state, 'ACTIVE');
    assert.equal(value.key.uses, 0);
    assert.deepEqual(value.key.record.limits, {
      hardUses: 1,
      softExpiry: world.now + HOUR,
      hardExpiry: world.now + 2 * HOUR,
    });
    world.policy.limits = { hardAge: HOUR };
    assert.equal((await rotate(world)).value.key.record.limits.hardExpiry, world.now + HOUR);
  });

  test('does not act where its intent cannot be recorded', async (t) => {
    const { world, token } = setUp(t);
    await create(world);
    world.auditFails = true;
    await assert.rejects(rotate(world), { code: 'AUDIT_UNAVAILABLE' });
    assert.equal(token.calls.get('generate'), 1);
  });

  test('keeps no object where the record cannot be replaced', async (t) => {
    const { world, token } = setUp(t);
    await create(world);
    world.keys.catalog.replace = async () => {
      throw new Error('the disk is full');
    };
    await assert.rejects(rotate(world), { code: 'INTERNAL' });
    assert.equal(objects(token), 1);
  });
});

describe('RotateTenantKek', () => {
  test('moves the tenant’s wrapped keys and is recorded', async (t) => {
    const { world } = setUp(t, new LackingToken('Ed25519'));
    const purpose: Purpose = 'sign';
    for (const keyId of ['a', 'b']) await create(world, { keyId, purpose, algorithm: 'Ed25519' });
    const { value } = await rotateTenantKek(world.ports, world.call());
    assert.deepEqual(value, { version: 2, rewrapped: 2 });
    assert.deepEqual(
      world.records.slice(-2).map((row) => [row.operation, row.algorithm, row.outcome]),
      [
        ['rotate-tenant-kek', 'AES-256', 'intent'],
        ['rotate-tenant-kek', 'AES-256', 'ok'],
      ],
    );
    assert.equal(world.records.at(-1)?.detail?.['rewrapped'], 2);
    world.auditFails = true;
    await assert.rejects(rotateTenantKek(world.ports, world.call()), { code: 'AUDIT_UNAVAILABLE' });
    world.auditFails = false;
    assert.equal((await rotateTenantKek(world.ports, world.call())).value.version, 3);
  });
});
