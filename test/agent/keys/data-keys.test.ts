// Content keys kept in memory: the room by itself, and through Encrypt and Decrypt with a token whose visits are counted.
import assert from 'node:assert/strict';
import { createSecretKey, randomBytes } from 'node:crypto';
import { describe, type TestContext, test } from 'node:test';
import { compactDecrypt } from 'jose';
import { DataKeys } from '../../../agent/keys/data-keys.ts';
import { createKey } from '../../../agent/operations/create-key.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { destroyKey } from '../../../agent/operations/destroy-key.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { getKey } from '../../../agent/operations/get-key.ts';
import { reEncrypt } from '../../../agent/operations/re-encrypt.ts';
import { revokeKey } from '../../../agent/operations/revoke-key.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { suspendKey } from '../../../agent/operations/suspend-key.ts';
import { updateKey } from '../../../agent/operations/update-key.ts';
import { FakeToken } from '../../fakes/token.ts';
import { openWorld, type World } from './world.ts';

const RULES = { maxAgeSeconds: 60, maxUses: 4, maxBytes: 1000 };
const USE = { tenant: 'acme', keyId: 'k', version: 1, bytes: 10 };

const room = (rules: typeof RULES | null = RULES) => {
  const clock = { at: 0, now: () => clock.at };
  const seen: string[] = [];
  const dataKeys = new DataKeys({
    clock,
    rules: () => rules ?? undefined,
    events: { dataKeyLookedUp: ({ use, found }) => void seen.push(`${use} ${found ? 'hit' : 'miss'}`) },
  });
  return { dataKeys, clock, seen };
};

const put = (dataKeys: DataKeys, use = USE) => {
  const cek = randomBytes(32);
  const slot = dataKeys.toEncrypt(use);
  assert.ok(slot !== undefined && 'keep' in slot);
  slot.keep({ cek, encryptedKey: Buffer.from('wrapped'), members: { iv: 'a' } });
  return cek;
};
const has = (dataKeys: DataKeys, use = USE): boolean => {
  const slot = dataKeys.toEncrypt(use);
  return slot !== undefined && 'found' in slot;
};

describe('kept content keys', () => {
  test('are none where policy names no bounds', () => {
    const { dataKeys, seen } = room(null);
    assert.equal(dataKeys.toEncrypt(USE), undefined);
    assert.equal(dataKeys.toDecrypt({ ...USE, wrap: () => 'w' }), undefined);
    assert.deepEqual(seen, []);
  });

  test('come back as copies, with their wrap, and are counted as hits and misses', (t) => {
    const { dataKeys, seen } = room();
    t.after(() => dataKeys.close());
    const cek = put(dataKeys);
    const kept = Buffer.from(cek);
    cek.fill(0); // the caller's own copy
    for (let count = 0; count < 2; count += 1) {
      const slot = dataKeys.toEncrypt(USE);
      assert.ok(slot !== undefined && 'found' in slot);
      assert.deepEqual(slot.found.cek, kept);
      assert.deepEqual([slot.found.encryptedKey, slot.found.members], [Buffer.from('wrapped'), { iv: 'a' }]);
      slot.found.cek.fill(0); // must not touch what is kept
    }
    assert.deepEqual(seen, ['encrypt miss', 'encrypt hit', 'encrypt hit']);
  });

  test('serve as many uses, the first included, and bytes as policy says', (t) => {
    const { dataKeys } = room();
    t.after(() => dataKeys.close());
    put(dataKeys);
    assert.deepEqual(
      [1, 2, 3, 4].map(() => has(dataKeys)),
      [true, true, true, false],
    );
    put(dataKeys, { ...USE, bytes: 900 });
    assert.equal(has(dataKeys, { ...USE, bytes: 101 }), false);
    assert.equal(dataKeys.size, 0);
    assert.equal(dataKeys.toEncrypt({ ...USE, bytes: 1001 }), undefined);
  });

  test('end with their age, also where nobody asks for them', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const { dataKeys, clock } = room();
    put(dataKeys);
    clock.at = 59_999;
    assert.ok(has(dataKeys));
    t.mock.timers.tick(1000);
    assert.equal(dataKeys.size, 1);
    clock.at = 60_000;
    t.mock.timers.tick(1000);
    assert.equal(dataKeys.size, 0);
    put(dataKeys);
    clock.at += 60_000;
    assert.equal(has(dataKeys), false);
    dataKeys.close();
  });

  test('go with a change of their key, and leave others', (t) => {
    const { dataKeys } = room();
    t.after(() => dataKeys.close());
    put(dataKeys);
    put(dataKeys, { ...USE, version: 2 });
    put(dataKeys, { ...USE, keyId: 'other' });
    put(dataKeys, { ...USE, tenant: 'globex' });
    dataKeys.keyChanged({ tenant: 'acme', keyId: 'k' });
    assert.equal(dataKeys.size, 2);
    assert.ok(has(dataKeys, { ...USE, keyId: 'other' }) && has(dataKeys, { ...USE, tenant: 'globex' }));
    dataKeys.policyChanged();
    assert.equal(dataKeys.size, 0);
  });

  test('are not kept where a key or policy changed while they were made', (t) => {
    const { dataKeys } = room();
    t.after(() => dataKeys.close());
    for (const change of [() => dataKeys.keyChanged({ tenant: 'acme', keyId: 'k' }), () => dataKeys.policyChanged()]) {
      const slot = dataKeys.toDecrypt({ ...USE, wrap: () => 'w' });
      assert.ok(slot !== undefined && 'keep' in slot);
      change();
      slot.keep(randomBytes(32));
      assert.equal(dataKeys.size, 0);
    }
  });

  test('for Decrypt are found by their wrap alone', (t) => {
    const { dataKeys } = room();
    t.after(() => dataKeys.close());
    const cek = randomBytes(32);
    const slot = dataKeys.toDecrypt({ ...USE, wrap: () => 'one' });
    assert.ok(slot !== undefined && 'keep' in slot);
    slot.keep(cek);
    const found = dataKeys.toDecrypt({ ...USE, wrap: () => 'one' });
    assert.ok(found !== undefined && 'found' in found && found.found.equals(cek));
    for (const other of [
      { ...USE, wrap: () => 'two' },
      { ...USE, wrap: () => 'one', version: 2 },
      { ...USE, wrap: () => 'one', tenant: 'globex' },
    ]) {
      const none = dataKeys.toDecrypt(other);
      assert.ok(none !== undefined && 'keep' in none);
    }
  });

  test('of one tenant never push out another’s, and are a bounded number', (t) => {
    const { dataKeys } = room();
    t.after(() => dataKeys.close());
    put(dataKeys, { ...USE, tenant: 'globex' });
    for (let count = 0; count < 1100; count += 1) put(dataKeys, { ...USE, keyId: `k${count}` });
    assert.equal(dataKeys.size, 1024 + 1);
    assert.ok(has(dataKeys, { ...USE, tenant: 'globex' }));
    assert.ok(!has(dataKeys, { ...USE, keyId: 'k0' }) && has(dataKeys, { ...USE, keyId: 'k1099' }));
  });

  test('are zeroed when they go', (t) => {
    const { dataKeys } = room();
    const made: Buffer[] = [];
    const original = Buffer.from;
    t.mock.method(Buffer, 'from', (...args: Parameters<typeof original>) => {
      const buffer = (original as (...given: unknown[]) => Buffer)(...args);
      if (buffer.length === 32) made.push(buffer);
      return buffer;
    });
    for (const end of [() => dataKeys.policyChanged(), () => dataKeys.keyChanged(USE), () => dataKeys.close()]) {
      put(dataKeys);
      const kept = made.at(-1) as Buffer;
      assert.ok(kept.some((byte) => byte !== 0));
      end();
      assert.ok(kept.every((byte) => byte === 0));
    }
  });

  test('are none any more after the end', () => {
    const { dataKeys } = room();
    dataKeys.close();
    assert.equal(dataKeys.toEncrypt(USE), undefined);
  });
});

describe('Encrypt and Decrypt with kept content keys', () => {
  const plaintext = Buffer.from('twice');
  const none = Buffer.alloc(0);

  const setUp = async (t: TestContext, algorithm = 'AES-256') => {
    const token = new FakeToken();
    const world = openWorld(t, { token });
    world.policy.dataKeys = { maxAgeSeconds: 60, maxUses: 1000, maxBytes: 1 << 20 };
    const input = { purpose: 'encrypt', algorithm, jose: '', labels: {}, limits: {}, grants: [] } as const;
    await createKey(world.ports, world.call(), { keyId: 'k', ...input });
    const seal = async (associatedData = none) =>
      (await encrypt(world.ports, world.call(), { key: 'k', plaintext, associatedData })).value.jwe;
    const open = async (jwe: string, associatedData = none) =>
      (await decrypt(world.ports, world.call(), { jwe, key: '', associatedData })).value.plaintext;
    const visits = (): number =>
      (['gcmEncrypt', 'gcmDecrypt', 'oaepDecrypt', 'ecdh'] as const).reduce(
        (sum, name) => sum + (token.calls.get(name) ?? 0),
        0,
      );
    return { token, world, seal, open, visits };
  };
  const parts = (jwe: string) => {
    const [header = '', encryptedKey, iv] = jwe.split('.');
    return { header: JSON.parse(Buffer.from(header, 'base64url').toString()), encryptedKey, iv };
  };

  for (const algorithm of ['AES-256', 'RSA-2048', 'EC-P256']) {
    test(`${algorithm}: many messages take one wrap and one unwrap, each with an iv of its own`, async (t) => {
      const { world, seal, open, visits } = await setUp(t, algorithm);
      const jwes = [await seal(), await seal(), await seal(Buffer.from('bound')), await seal()];
      assert.equal(visits(), algorithm === 'AES-256' ? 1 : 0);
      const [first, ...others] = jwes.map(parts);
      for (const other of others) {
        assert.equal(other.encryptedKey, first?.encryptedKey);
        for (const name of ['iv', 'tag', 'epk', 'kid']) assert.deepEqual(other.header[name], first?.header[name]);
      }
      assert.equal(new Set(jwes.map((jwe) => parts(jwe).iv)).size, jwes.length);
      const before = visits();
      for (const [index, jwe] of jwes.entries()) {
        assert.deepEqual(await open(jwe, index === 2 ? Buffer.from('bound') : none), plaintext);
      }
      assert.equal(visits(), before + 1);
      await assert.rejects(open(jwes[2] as string), { code: 'INVALID_CIPHERTEXT' });
      const details = world.records
        .filter((row) => row.operation !== 'create-key')
        .map((row) => row.detail?.['contentKey']);
      const cached = Array<string>(3).fill('cached');
      assert.deepEqual(details, [undefined, ...cached, undefined, ...cached, 'cached']);
    });
  }

  test('what is made is standard: another library opens every one of them', async (t) => {
    const { token, world, seal } = await setUp(t);
    const secret = randomBytes(32);
    const record = (await getKey(world.ports, world.call(), { key: 'k' })).value.key.record;
    const { tokenId } = token.import('AES-256', 'encrypt', { kty: 'oct', k: secret.toString('base64url') });
    const versions = record.versions.map((row) => ({ ...row, tokenId }));
    await world.keys.catalog.replace({ ...record, versions, revision: record.revision + 1 });
    for (let count = 0; count < 3; count += 1) {
      const { plaintext: opened } = await compactDecrypt(await seal(), createSecretKey(secret));
      assert.deepEqual(Buffer.from(opened), plaintext);
    }
    assert.equal(world.records.at(-1)?.detail?.['contentKey'], 'cached');
  });

  test('a changed wrap is not mistaken for the one that was kept, and what fails is not kept', async (t) => {
    const { seal, open, visits, world } = await setUp(t);
    const jwe = await seal();
    await open(jwe);
    const size = world.keys.dataKeys.size;
    const [header = '', key = '', ...rest] = jwe.split('.');
    const flipped = Buffer.from(key, 'base64url');
    flipped[0] = (flipped[0] as number) ^ 1;
    const before = visits();
    for (let count = 0; count < 2; count += 1) {
      await assert.rejects(open([header, flipped.toString('base64url'), ...rest].join('.')), {
        code: 'INVALID_CIPHERTEXT',
      });
    }
    assert.equal(visits(), before + 2);
    assert.equal(world.keys.dataKeys.size, size);
  });

  const CHANGES: Readonly<Record<string, (world: World) => Promise<unknown>>> = {
    suspension: (world) => suspendKey(world.ports, world.call(), { key: 'k', reason: '' }),
    revocation: (world) => revokeKey(world.ports, world.call(), { key: 'k', reason: '', version: undefined }),
    destruction: (world) => destroyKey(world.ports, world.call(), { key: 'k', reason: '' }),
    rotation: (world) =>
      rotateKey(world.ports, world.call(), {
        key: 'k',
        algorithm: '',
        jose: '',
        expectedVersion: undefined,
        acceptLoss: false,
      }),
    'a change of grants': (world) =>
      updateKey(world.ports, world.call(), {
        key: 'k',
        grants: [{ principal: 'bob', operations: ['decrypt'] }],
        revision: undefined,
      }),
  };
  for (const [name, change] of Object.entries(CHANGES)) {
    test(`${name} empties it at once`, async (t) => {
      const { world, seal, open } = await setUp(t);
      const jwe = await seal();
      await open(jwe);
      assert.equal(world.keys.dataKeys.size, 2);
      await change(world);
      assert.equal(world.keys.dataKeys.size, 0);
      if (name === 'rotation') {
        assert.equal(parts(await seal()).header.kid, 'acme/k/2');
        assert.deepEqual(await open(jwe), plaintext);
      } else {
        await assert.rejects(seal());
        await assert.rejects(open(jwe));
      }
      assert.equal(world.keys.dataKeys.size, name === 'rotation' ? 2 : 0);
    });
  }

  test('another policy takes it away, and authorisation is asked for every message', async (t) => {
    const { world, seal, open, visits } = await setUp(t);
    const jwe = await seal();
    await open(jwe);
    world.policy.refuse = () => 'POLICY_DENIED';
    await assert.rejects(seal(), { code: 'POLICY_DENIED' });
    await assert.rejects(open(jwe), { code: 'POLICY_DENIED' });
    world.policy.refuse = () => undefined;
    await assert.rejects(
      decrypt(world.ports, world.call({ scopes: ['crypto.encrypt'] }), { jwe, key: '', associatedData: none }),
      {
        code: 'PERMISSION_DENIED',
      },
    );
    world.keys.dataKeys.policyChanged();
    world.policy.dataKeys = undefined;
    const before = visits();
    await open(jwe);
    await open(jwe);
    assert.equal(visits(), before + 2);
    assert.equal(world.keys.dataKeys.size, 0);
  });

  test('re-encryption keeps to the same rules', async (t) => {
    const { world, seal, visits } = await setUp(t);
    const input = { sourceKey: '', targetKey: '', associatedData: none, newAssociatedData: undefined };
    const jwe = await seal();
    await reEncrypt(world.ports, world.call(), { jwe, ...input });
    const before = visits();
    await reEncrypt(world.ports, world.call(), { jwe, ...input });
    assert.equal(visits(), before);
    assert.equal(world.records.at(-1)?.outcome, 'ok');
  });
});
