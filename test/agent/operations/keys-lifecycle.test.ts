// Suspend, resume, revoke, destroy, restore and update: what changes, what the audit log says, who may, and that two
// changes at once never both win.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { type CreateKeyInput, createKey } from '../../../agent/operations/create-key.ts';
import { destroyKey } from '../../../agent/operations/destroy-key.ts';
import { getKey } from '../../../agent/operations/get-key.ts';
import { restoreKey } from '../../../agent/operations/restore-key.ts';
import { resumeKey } from '../../../agent/operations/resume-key.ts';
import { revokeKey } from '../../../agent/operations/revoke-key.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { suspendKey } from '../../../agent/operations/suspend-key.ts';
import { type UpdateKeyInput, updateKey } from '../../../agent/operations/update-key.ts';
import type { KeyState } from '../../../proto/documents/key-record.ts';
import { HOUR, openWorld, type World } from '../keys/world.ts';

const KEY = { key: 'invoices', reason: 'spring cleaning' };

const withKey = async (t: TestContext, change: Partial<CreateKeyInput> = {}): Promise<World> => {
  const world = openWorld(t);
  const input = { keyId: 'invoices', algorithm: '', jose: '', labels: {}, limits: {}, grants: [] };
  await createKey(world.ports, world.call(), { ...input, purpose: 'encrypt', ...change });
  return world;
};

const stateOf = async (world: World): Promise<KeyState> =>
  (await getKey(world.ports, world.call(), { key: 'invoices' })).value.key.state;
const update = (world: World, change: Partial<UpdateKeyInput>) =>
  updateKey(world.ports, world.call(), { key: 'invoices', revision: undefined, ...change });
const rotate = (world: World) =>
  rotateKey(world.ports, world.call(), {
    ...KEY,
    algorithm: '',
    jose: '',
    expectedVersion: undefined,
    acceptLoss: false,
  });

describe('changes of the state', () => {
  test('go round: suspend, resume, destroy, restore, and back to the state before', async (t) => {
    const world = await withKey(t);
    const { ports } = world;
    await suspendKey(ports, world.call(), KEY);
    assert.equal(await stateOf(world), 'SUSPENDED');
    await destroyKey(ports, world.call(), KEY);
    assert.equal(await stateOf(world), 'PENDING_DESTRUCTION');
    await restoreKey(ports, world.call(), KEY);
    assert.equal(await stateOf(world), 'SUSPENDED');
    await resumeKey(ports, world.call(), KEY);
    assert.equal(await stateOf(world), 'ACTIVE');
    await revokeKey(ports, world.call(), { ...KEY, version: undefined });
    await destroyKey(ports, world.call(), KEY);
    await restoreKey(ports, world.call(), KEY);
    assert.equal(await stateOf(world), 'REVOKED');
    await world.reopen('closed');
    assert.equal(await stateOf(world), 'REVOKED');
  });

  test('are recorded with both states, the reason and the key', async (t) => {
    const world = await withKey(t);
    await suspendKey(world.ports, world.call(), KEY);
    const record = world.records.at(-1);
    assert.equal(record?.key, 'invoices');
    assert.equal(record?.outcome, 'ok');
    const { previousState, newState, reason } = record?.detail ?? {};
    assert.deepEqual([previousState, newState, reason], ['ACTIVE', 'SUSPENDED', 'spring cleaning']);
  });

  test('can be repeated: nothing changes and the record says so', async (t) => {
    const world = await withKey(t);
    const { ports } = world;
    const acts = [
      () => resumeKey(ports, world.call(), KEY),
      () => restoreKey(ports, world.call(), KEY),
      () => suspendKey(ports, world.call(), KEY),
      () => revokeKey(ports, world.call(), { ...KEY, version: undefined }),
      () => destroyKey(ports, world.call(), KEY),
    ];
    for (const act of acts) {
      await act();
      const { revision, destroyAt } = world.keys.catalog.get('acme', 'invoices') ?? {};
      world.now += 1000;
      const { value } = await act();
      assert.equal(value.key.record.revision, revision);
      assert.equal(value.key.record.destroyAt, destroyAt, 'a repeated DestroyKey does not move the end');
      assert.equal(world.records.at(-1)?.detail?.['unchanged'], true);
    }
  });

  test('that cannot be undone record their intent before they act, and do not act where they cannot', async (t) => {
    const world = await withKey(t);
    const { ports } = world;
    await revokeKey(ports, world.call(), { ...KEY, version: undefined });
    assert.deepEqual(
      world.records.slice(-2).map((row) => [row.operation, row.outcome]),
      [
        ['revoke-key', 'intent'],
        ['revoke-key', 'ok'],
      ],
    );
    world.auditFails = true;
    await assert.rejects(destroyKey(ports, world.call(), KEY), { code: 'AUDIT_UNAVAILABLE' });
    assert.equal(world.keys.catalog.get('acme', 'invoices')?.state, 'REVOKED');
  });

  test('of two at once one wins', async (t) => {
    const world = await withKey(t);
    const results = await Promise.allSettled([
      revokeKey(world.ports, world.call(), { ...KEY, version: undefined }),
      suspendKey(world.ports, world.call(), KEY),
    ]);
    assert.deepEqual(
      results.map((row) => (row.status === 'fulfilled' ? 'ok' : row.reason.code)),
      ['KEY_CONFLICT', 'ok'],
    );
  });

  test('cannot restore after the window, even before the reaper came', async (t) => {
    const world = await withKey(t);
    await destroyKey(world.ports, world.call(), KEY);
    world.now += HOUR;
    await assert.rejects(restoreKey(world.ports, world.call(), KEY), { code: 'KEY_STATE' });
  });

  test('refuse a reason that is too long or has control characters', async (t) => {
    const world = await withKey(t);
    for (const reason of ['x'.repeat(256), 'ä'.repeat(128), 'line\nbreak', '\ud800']) {
      await assert.rejects(suspendKey(world.ports, world.call(), { ...KEY, reason }), {
        code: 'INVALID_REQUEST',
        fields: [{ field: 'reason', description: 'at most 255 bytes without control characters' }],
      });
    }
    await suspendKey(world.ports, world.call(), { ...KEY, reason: 'ä'.repeat(127) });
  });

  test('are refused across tenants, whether or not the key exists, and without the scope', async (t) => {
    const world = await withKey(t);
    for (const key of ['acme/invoices', 'acme/nothing']) {
      const call = world.call({ tenant: 'globex' });
      await assert.rejects(suspendKey(world.ports, call, { key, reason: '' }), { code: 'PERMISSION_DENIED' });
      assert.equal(world.records.at(-1)?.key, '-');
    }
    const globex = world.call({ tenant: 'globex' });
    await assert.rejects(suspendKey(world.ports, globex, KEY), { code: 'KEY_UNKNOWN' });
    const call = world.call({ scopes: ['keys.manage'] });
    await assert.rejects(destroyKey(world.ports, call, KEY), { code: 'PERMISSION_DENIED' });
    assert.equal(await stateOf(world), 'ACTIVE');
  });
});

describe('revoking one version', () => {
  test('withdraws a retired version alone', async (t) => {
    const world = await withKey(t);
    await rotate(world);
    const { value } = await revokeKey(world.ports, world.call(), { ...KEY, version: 1 });
    assert.deepEqual(
      value.key.record.versions.map((row) => row.state),
      ['REVOKED', 'PRIMARY'],
    );
    assert.equal(value.key.state, 'ACTIVE');
    assert.equal(world.records.at(-1)?.key, 'invoices/1');
    await revokeKey(world.ports, world.call(), { ...KEY, version: 1 });
    assert.equal(world.records.at(-1)?.detail?.['unchanged'], true);
  });

  test('is refused for the primary version and for one that is not there', async (t) => {
    const world = await withKey(t);
    await assert.rejects(revokeKey(world.ports, world.call(), { ...KEY, version: 1 }), { code: 'KEY_STATE' });
    await assert.rejects(revokeKey(world.ports, world.call(), { ...KEY, version: 9 }), { code: 'KEY_UNKNOWN' });
  });
});

describe('UpdateKey', () => {
  test('replaces what is given, keeps the rest, and records old and new', async (t) => {
    const world = await withKey(t, { labels: { team: 'pay' }, limits: { hardUses: 10 } });
    const { value } = await update(world, { labels: { team: 'audit' } });
    assert.deepEqual(value.key.record.labels, { team: 'audit' });
    assert.deepEqual(value.key.record.limits, { hardUses: 10 });
    assert.deepEqual(world.records.at(-1)?.detail?.['labels'], { previous: { team: 'pay' }, new: { team: 'audit' } });
    const cleared = await update(world, { limits: {}, grants: [] });
    assert.deepEqual(cleared.value.key.record.limits, {});
    assert.deepEqual(cleared.value.key.record.labels, { team: 'audit' });
  });

  test('refuses another revision than the current one', async (t) => {
    const world = await withKey(t);
    await assert.rejects(update(world, { labels: {}, revision: 2 }), { code: 'KEY_CONFLICT' });
    await assert.rejects(update(world, { labels: {}, revision: Number.POSITIVE_INFINITY }), {
      code: 'INVALID_REQUEST',
    });
    assert.equal((await update(world, { labels: {}, revision: 1 })).value.key.record.revision, 2);
  });

  test('expires the key at once by a limit below the uses made, and only then', async (t) => {
    const world = await withKey(t);
    const record = world.keys.catalog.get('acme', 'invoices');
    assert.ok(record);
    for (let made = 0; made < 5; made += 1) await world.keys.catalog.use(record);
    assert.equal((await update(world, { limits: { hardUses: 6 } })).value.key.state, 'ACTIVE');
    assert.equal((await update(world, { limits: { hardUses: 5 } })).value.key.state, 'EXPIRED');
    assert.equal((await update(world, { limits: { hardUses: 4 } })).value.key.state, 'EXPIRED');
  });

  test('names the field of a bad value', async (t) => {
    const world = await withKey(t);
    const bad: readonly [Partial<UpdateKeyInput>, string][] = [
      [{ labels: { 'no spaces': '' } }, 'labels'],
      [{ grants: [{ principal: '', operations: ['encrypt'] }] }, 'grants'],
      [{ grants: [{ principal: 'a', operations: ['create-key'] }] }, 'grants'],
      [{ grants: [{ principal: 'a', operations: ['rotate-key'] }] }, 'grants'], // nobody could update it any more
      [{ limits: { hardUses: Number.POSITIVE_INFINITY } }, 'limits.hard_uses'],
      [{ limits: { softUses: 0.5 } }, 'limits.soft_uses'],
      [{ limits: { softUses: 5, hardUses: 4 } }, 'limits.soft_uses'],
      [{ limits: { hardExpiry: Number.NaN } }, 'limits.hard_expiry'],
      [{ limits: { softExpiry: 2, hardExpiry: 1 } }, 'limits.soft_expiry'],
    ];
    for (const [change, field] of bad) {
      await assert.rejects(update(world, change), (error: { code: string; fields: { field: string }[] }) => {
        assert.equal(error.code, 'INVALID_REQUEST');
        assert.equal(error.fields[0]?.field, field);
        return true;
      });
    }
  });

  test('keeps within the policy’s limits', async (t) => {
    const world = await withKey(t);
    world.policy.limits = { hardUses: 100, softUses: 50, hardAge: HOUR };
    const denied = { code: 'POLICY_DENIED' };
    await assert.rejects(update(world, { limits: { hardUses: 101 } }), denied);
    await assert.rejects(update(world, { limits: { hardExpiry: world.now + HOUR + 1 } }), denied);
    const { value } = await update(world, { limits: { hardUses: 20 } });
    const madeAt = value.key.record.createdAt;
    assert.deepEqual(value.key.record.limits, { softUses: 20, hardUses: 20, hardExpiry: madeAt + HOUR });
  });
});

describe('grants', () => {
  test('of cryptographic operations alone leave reading and managing to the scopes', async (t) => {
    const world = await withKey(t, { grants: [{ principal: 'web', operations: ['encrypt'] }] });
    assert.equal(await stateOf(world), 'ACTIVE');
    await suspendKey(world.ports, world.call(), KEY);
  });

  test('of managing narrow it to those they name', async (t) => {
    const grants = [{ principal: 'bob', operations: ['update-key', 'get-key'] }];
    const world = await withKey(t, { grants });
    await assert.rejects(suspendKey(world.ports, world.call(), KEY), { code: 'PERMISSION_DENIED' });
    await assert.rejects(stateOf(world), { code: 'PERMISSION_DENIED' });
    const bob = world.call({ principal: 'bob' });
    await updateKey(world.ports, bob, { key: 'invoices', grants: [], revision: undefined });
    await suspendKey(world.ports, world.call(), KEY);
  });
});
