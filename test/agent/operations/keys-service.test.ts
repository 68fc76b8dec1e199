// KeysService: proto messages in and out, through their wire form so that defaults are what a real client's are.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { keysHandlers } from '../../../agent/server/services/keys.ts';
import {
  CreateKeyRequest,
  GetPublicKeyRequest,
  KeysServiceService,
  ListKeysRequest,
  RotateKeyRequest,
  UpdateKeyRequest,
} from '../../../proto/gen/mortise/agent/v1/keys.ts';
import { Custody, Key, KeyState, Origin, Purpose, VersionState } from '../../../proto/gen/mortise/agent/v1/types.ts';
import { HOUR, openWorld, type World } from '../keys/world.ts';

const setUp = (t: TestContext) => {
  const world = openWorld(t);
  return { world, handlers: keysHandlers(world.ports) };
};
const KEY = { key: 'k', reason: '' };

/** A request as it arrives from the wire. */
const create = (change: Partial<CreateKeyRequest>): CreateKeyRequest =>
  CreateKeyRequest.decode(CreateKeyRequest.encode(CreateKeyRequest.fromPartial({ keyId: 'k', ...change })).finish());

const refusedField = (field: string) => (error: { code: string; fields: { field: string }[] }) => {
  assert.equal(error.code, 'INVALID_REQUEST', String(error));
  assert.equal(error.fields[0]?.field, field);
  return true;
};

const makeKey = async (world: World): Promise<Key> => {
  const hardExpiry = new Date(world.now + 1_000_000);
  const { key } = await keysHandlers(world.ports).createKey(
    world.call(),
    create({
      purpose: Purpose.SIGN,
      algorithm: 'RSA-2048',
      joseAlgorithm: 'RS256',
      labels: { team: 'pay' },
      limits: { softUses: 5n, hardUses: 10n, softExpiry: undefined, hardExpiry },
      grants: [{ principal: 'alice', operations: ['sign'] }],
      activationTime: new Date(world.now + 1000),
    }),
  );
  assert.ok(key);
  return Key.decode(Key.encode(key).finish());
};

describe('keysHandlers', () => {
  test('has a handler for every rpc of the service, and no other', (t) => {
    assert.deepEqual(Object.keys(setUp(t).handlers).toSorted(), Object.keys(KeysServiceService).toSorted());
  });

  test('maps a key with everything set', async (t) => {
    const { world } = setUp(t);
    const made = new Date(world.now);
    world.policy.sunsets = { 'RSA-2048': { warnAfter: world.now + HOUR, refuseAfter: world.now + 2 * HOUR } };
    const key = await makeKey(world);
    assert.deepEqual(key, {
      keyId: 'k',
      tenant: 'acme',
      purpose: Purpose.SIGN,
      state: KeyState.PRE_ACTIVE,
      labels: { team: 'pay' },
      limits: { softUses: 5n, hardUses: 10n, softExpiry: undefined, hardExpiry: new Date(world.now + 1_000_000) },
      grants: [{ principal: 'alice', operations: ['sign'] }],
      versions: [
        {
          version: 1,
          algorithm: 'RSA-2048',
          joseAlgorithm: 'RS256',
          state: VersionState.PRIMARY,
          custody: Custody.HSM,
          origin: Origin.GENERATED,
          createTime: made,
          uses: 0n,
          lastApplyTime: undefined,
          lastProcessTime: undefined,
          sunsetWarnTime: new Date(world.now + HOUR),
          sunsetTime: new Date(world.now + 2 * HOUR),
        },
      ],
      createTime: made,
      updateTime: made,
      activationTime: new Date(world.now + 1000),
      destroyTime: undefined,
      revision: 1n,
      uses: 0n,
    });
  });

  test('never lets material of the token or the vault into an answer', async (t) => {
    const { world } = setUp(t);
    await makeKey(world);
    const record = world.keys.catalog.get('acme', 'k');
    const { key } = await keysHandlers(world.ports).getKey(world.call(), { key: 'k' });
    const text = JSON.stringify(key, (_, value) => (typeof value === 'bigint' ? String(value) : value));
    assert.equal(text.includes(record?.versions[0]?.tokenId ?? 'none'), false);
  });

  test('refuses numbers above 2^53-1 and times beyond Date with the field’s name', async (t) => {
    const { world, handlers } = setUp(t);
    const limits = { softUses: 0n, hardUses: 0n, softExpiry: undefined, hardExpiry: undefined };
    const aes = { purpose: Purpose.ENCRYPT };
    for (const [field, change] of [
      ['limits.hard_uses', { hardUses: 2n ** 53n }],
      ['limits.soft_uses', { softUses: 2n ** 64n - 1n }],
      ['limits.hard_expiry', { hardExpiry: new Date(Number.NaN) }],
      ['limits.soft_expiry', { softExpiry: new Date(-1) }],
    ] as const) {
      const request = { ...create(aes), limits: { ...limits, ...change } };
      await assert.rejects(handlers.createKey(world.call(), request), refusedField(field));
    }
    const exact = { ...create(aes), limits: { ...limits, hardUses: 2n ** 53n - 1n } };
    assert.equal((await handlers.createKey(world.call(), exact)).key?.limits?.hardUses, 2n ** 53n - 1n);
    const update = UpdateKeyRequest.fromPartial({ key: 'k', revision: 2n ** 53n });
    await assert.rejects(handlers.updateKey(world.call(), update), refusedField('revision'));
  });

  test('refuses an unset purpose, takes an unset public-key form as JWK, refuses an unset state', async (t) => {
    const { world, handlers } = setUp(t);
    await assert.rejects(handlers.createKey(world.call(), create({})), refusedField('purpose'));
    await makeKey(world);
    world.now += 1000;
    const { publicKey, envelope } = await handlers.getPublicKey(
      world.call(),
      GetPublicKeyRequest.fromPartial({ key: 'k' }),
    );
    assert.equal(JSON.parse(publicKey).kid, 'acme/k/1');
    assert.deepEqual(envelope?.keyUsed, { keyId: 'k', version: 1 });
    const unset = ListKeysRequest.fromPartial({ states: [KeyState.UNSPECIFIED] });
    await assert.rejects(handlers.listKeys(world.call(), unset), refusedField('states'));
  });

  test('leaves unset parts of UpdateKey alone', async (t) => {
    const { world, handlers } = setUp(t);
    await makeKey(world);
    const none = await handlers.updateKey(world.call(), UpdateKeyRequest.fromPartial({ key: 'k' }));
    assert.deepEqual(
      [none.key?.labels, none.key?.grants.length, none.key?.limits?.hardUses],
      [{ team: 'pay' }, 1, 10n],
    );
    const request = UpdateKeyRequest.fromPartial({
      key: 'k',
      labels: { labels: {} },
      grants: { grants: [] },
      revision: 2n,
    });
    const cleared = await handlers.updateKey(world.call(), request);
    assert.deepEqual([cleared.key?.labels, cleared.key?.grants, cleared.key?.revision], [{}, [], 3n]);
  });

  test('walks a key through its life', async (t) => {
    const { world, handlers } = setUp(t);
    await handlers.createKey(world.call(), create({ purpose: Purpose.SIGN }));
    const rotated = await handlers.rotateKey(
      world.call(),
      RotateKeyRequest.fromPartial({ key: 'k', expectedVersion: 1 }),
    );
    assert.equal(rotated.envelope?.keyUsed?.version, 2);
    const revoked = await handlers.revokeKey(world.call(), { ...KEY, version: 1 });
    assert.deepEqual(
      revoked.key?.versions.map((row) => row.state),
      [VersionState.REVOKED, VersionState.PRIMARY],
    );
    assert.equal((await handlers.suspendKey(world.call(), KEY)).key?.state, KeyState.SUSPENDED);
    assert.equal((await handlers.resumeKey(world.call(), KEY)).key?.state, KeyState.ACTIVE);
    const destroyed = await handlers.destroyKey(world.call(), KEY);
    assert.equal(destroyed.key?.state, KeyState.PENDING_DESTRUCTION);
    assert.deepEqual(destroyed.key?.destroyTime, new Date(world.now + world.policy.destroyWait));
    const restored = await handlers.restoreKey(world.call(), KEY);
    assert.deepEqual([restored.key?.state, restored.key?.destroyTime], [KeyState.ACTIVE, undefined]);
    const listed = await handlers.listKeys(world.call(), ListKeysRequest.fromPartial({ purpose: Purpose.SIGN }));
    assert.deepEqual(
      listed.keys.map((key) => key.keyId),
      ['k'],
    );
    assert.deepEqual(await handlers.rotateTenantKek(world.call(), {}), { version: 1, rewrapped: 0n });
  });
});
