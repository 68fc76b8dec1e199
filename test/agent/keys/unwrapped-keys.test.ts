// Private bytes of wrapped keys kept in memory: the cache by itself, and through the operations that use them, with a
// token whose unwraps are counted.
import assert from 'node:assert/strict';
import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { describe, type TestContext, test } from 'node:test';
import { type Held, UnwrappedKeys } from '../../../agent/keys/unwrapped-keys.ts';
import { createKey } from '../../../agent/operations/create-key.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { destroyKey } from '../../../agent/operations/destroy-key.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { reEncrypt } from '../../../agent/operations/re-encrypt.ts';
import { revokeKey } from '../../../agent/operations/revoke-key.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { rotateTenantKek } from '../../../agent/operations/rotate-tenant-kek.ts';
import { sign } from '../../../agent/operations/sign.ts';
import { suspendKey } from '../../../agent/operations/suspend-key.ts';
import { verify } from '../../../agent/operations/verify.ts';
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { aRecord } from '../../support/key-records.ts';
import { LackingToken, openWorld, type World } from './world.ts';

const RULES = { maxAgeSeconds: 60, maxUses: 4, maxKeys: 3 };
const none = Buffer.alloc(0);

const recordOf = (keyId = 'k', changes: Partial<KeyRecord> = {}): KeyRecord => {
  const row = { version: 1, algorithm: 'Ed25519', jose: 'Ed25519', custody: 'wrapped', state: 'PRIMARY', createdAt: 0 };
  return aRecord({ tenant: 'acme', keyId, purpose: 'sign', versions: [row as KeyVersionRecord], ...changes });
};

const room = (rules: typeof RULES | null = RULES) => {
  const clock = { at: 0, now: () => clock.at };
  const seen: boolean[] = [];
  const newest = new Map<string, KeyRecord>();
  const keys = new UnwrappedKeys({
    clock,
    rules: () => rules ?? undefined,
    newest: (tenant, keyId) => newest.get(`${tenant}/${keyId}`),
    events: { unwrappedKeyLookedUp: ({ found }) => void seen.push(found) },
  });
  const store = (record: KeyRecord): KeyRecord => {
    newest.set(`${record.tenant}/${record.keyId}`, record);
    return record;
  };
  const of = (record: KeyRecord) => keys.of(record, record.versions[0] as KeyVersionRecord);
  const put = (record = store(recordOf()), seed = randomBytes(32)): Buffer => {
    const slot = of(record);
    assert.ok(slot !== undefined && 'keep' in slot);
    slot.keep(seed);
    return seed;
  };
  const has = (record: KeyRecord = recordOf()): boolean => {
    const slot = of(record);
    return slot !== undefined && 'found' in slot;
  };
  return { keys, clock, seen, store, of, put, has };
};

const foundIn = (slot: ReturnType<UnwrappedKeys['of']>): { seed: Buffer; held: Held } => {
  assert.ok(slot !== undefined && 'found' in slot);
  return slot.found;
};

describe('kept private bytes', () => {
  test('are none where policy names no bounds', () => {
    const { of, seen } = room(null);
    assert.equal(of(recordOf()), undefined);
    assert.deepEqual(seen, []);
  });

  test('come back as copies, and are counted as hits and misses', (t) => {
    const { keys, put, of, seen } = room();
    t.after(() => keys.close());
    const seed = put();
    for (let count = 0; count < 2; count += 1) {
      const found = foundIn(of(recordOf()));
      assert.deepEqual(found.seed, seed);
      assert.equal(found.held.isKept, true);
      found.seed.fill(0); // must not touch what is kept
    }
    assert.deepEqual(seen, [false, true, true]);
  });

  test('have their key object made once, by its name, and forget it with the rest', (t) => {
    const { keys, put, of } = room({ ...RULES, maxUses: 100 });
    t.after(() => keys.close());
    let made = 0;
    const make = (): KeyObject => {
      made += 1;
      return createSecretKey(randomBytes(32));
    };
    put();
    const first = foundIn(of(recordOf())).held.expand('one', make);
    assert.equal(foundIn(of(recordOf())).held.expand('one', make), first);
    assert.notEqual(foundIn(of(recordOf())).held.expand('two', make), first);
    assert.equal(made, 2);
    keys.keyChanged(recordOf());
    put();
    assert.notEqual(foundIn(of(recordOf())).held.expand('one', make), first);
  });

  test('serve as many uses, the first included, as policy says', (t) => {
    const { keys, put, has } = room();
    t.after(() => keys.close());
    put();
    assert.deepEqual(
      [1, 2, 3, 4].map(() => has()),
      [true, true, true, false],
    );
    assert.equal(keys.size, 0);
  });

  test('end with their age, also where nobody asks for them', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const { keys, clock, put, has } = room();
    put();
    clock.at = 59_999;
    assert.ok(has());
    t.mock.timers.tick(1000);
    assert.equal(keys.size, 1);
    clock.at = 60_000;
    t.mock.timers.tick(1000);
    assert.equal(keys.size, 0);
    put();
    clock.at += 60_000;
    assert.equal(has(), false);
    keys.close();
  });

  test('are of as many keys of a tenant as policy says, the oldest going first, and another tenant’s stay', (t) => {
    const { keys, store, put, has } = room();
    t.after(() => keys.close());
    const foreign = store(recordOf('k0', { tenant: 'globex' }));
    put(foreign);
    for (let count = 0; count < 5; count += 1) put(store(recordOf(`k${count}`)));
    assert.equal(keys.size, 4);
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((count) => has(recordOf(`k${count}`))),
      [false, false, true, true, true],
    );
    assert.ok(has(foreign));
  });

  test('are never another tenant’s, key’s, version’s or algorithm’s', (t) => {
    const { keys, put, has } = room();
    t.after(() => keys.close());
    put();
    const [version] = recordOf().versions as [KeyVersionRecord];
    for (const other of [
      recordOf('k', { tenant: 'globex' }),
      recordOf('k2'),
      recordOf('k', { versions: [{ ...version, version: 2 }] }),
      recordOf('k', { versions: [{ ...version, algorithm: 'ML-DSA-65' }] }),
    ]) {
      assert.equal(has(other), false);
    }
  });

  test('are kept of active keys alone, and by their newest record', (t) => {
    const { keys, store, put } = room();
    t.after(() => keys.close());
    const active = store(recordOf());
    const [version] = active.versions as [KeyVersionRecord];
    for (const other of [
      recordOf('k', { revision: active.revision + 1 }), // the caller's is older
      recordOf('k', { state: 'SUSPENDED' }),
      recordOf('k', { state: 'REVOKED' }),
      recordOf('k', { state: 'PENDING_DESTRUCTION' }),
      recordOf('k', { versions: [{ ...version, state: 'REVOKED' }] }),
    ]) {
      store(other);
      put(other.revision === active.revision ? other : active);
      assert.equal(keys.size, 0);
    }
    put(store(recordOf('k', { versions: [{ ...version, state: 'RETIRED' }] })));
    assert.equal(keys.size, 1);
  });

  test('are not kept where a key, a KEK or policy changed while they were unwrapped, nor after the end', () => {
    const { keys, store, of } = room();
    const record = store(recordOf());
    for (const change of [
      () => keys.keyChanged(record),
      () => keys.kekRotated('acme'),
      () => keys.policyChanged(),
      () => keys.close(),
    ]) {
      const slot = of(record);
      assert.ok(slot !== undefined && 'keep' in slot);
      change();
      slot.keep(randomBytes(32));
      assert.equal(keys.size, 0);
    }
    assert.equal(of(record), undefined);
  });

  test('are zeroed when they go', (t) => {
    const copies: Buffer[] = [];
    const original = Buffer.from;
    t.mock.method(Buffer, 'from', (...args: Parameters<typeof original>) => {
      const buffer = (original as (...given: unknown[]) => Buffer)(...args);
      if (buffer.length === 32) copies.push(buffer);
      return buffer;
    });
    const { keys, put } = room();
    for (const end of [
      () => keys.policyChanged(),
      () => keys.keyChanged(recordOf()),
      () => keys.kekRotated('acme'),
      () => keys.close(),
    ]) {
      put();
      const kept = copies.at(-1) as Buffer;
      assert.ok(kept.some((byte) => byte !== 0));
      end();
      assert.ok(kept.every((byte) => byte === 0));
    }
  });
});

describe('operations with kept private bytes', () => {
  const message = Buffer.from('twice');
  const setUp = async (t: TestContext, algorithm: string, purpose: 'encrypt' | 'sign') => {
    const token = new LackingToken('Ed25519');
    const world = openWorld(t, { token });
    world.policy.unwrappedKeys = { maxAgeSeconds: 60, maxUses: 1000, maxKeys: 8 };
    const make = (tenant = 'acme') =>
      createKey(world.ports, world.call({ tenant }), {
        ...{ keyId: 'k', purpose, algorithm, jose: '', labels: {}, limits: {}, grants: [] },
      });
    await make();
    const seal = async (tenant = 'acme') => {
      const input = { key: 'k', plaintext: message, associatedData: none };
      return (await encrypt(world.ports, world.call({ tenant }), input)).value.jwe;
    };
    const open = async (jwe: string, tenant = 'acme') =>
      (await decrypt(world.ports, world.call({ tenant }), { jwe, key: '', associatedData: none })).value.plaintext;
    const signJws = async (tenant = 'acme') => {
      const input = { key: 'k', input: { message }, form: 'compact', type: '' } as const;
      const { value } = await sign(world.ports, world.call({ tenant }), input);
      return 'jws' in value ? value.jws : assert.fail('no JWS');
    };
    return { token, world, make, seal, open, signJws, unwraps: () => token.calls.get('gcmDecrypt') ?? 0 };
  };
  const cachedIn = (world: World, operation: string) =>
    world.records.filter((row) => row.operation === operation).map((row) => row.detail?.['privateKey']);

  for (const algorithm of ['ML-KEM-768', 'X25519', 'ML-KEM-768-P256', 'ML-KEM-768-X25519', 'ML-KEM-768-RSA2048']) {
    test(`${algorithm}: many messages are opened by one unwrap, each with a record that says so`, async (t) => {
      const { world, seal, open, unwraps } = await setUp(t, algorithm, 'encrypt');
      const jwes = [await seal(), await seal(), await seal()];
      const before = unwraps();
      for (const jwe of jwes) assert.deepEqual(await open(jwe), message);
      assert.equal(unwraps(), before + 1);
      assert.deepEqual(cachedIn(world, 'decrypt'), [undefined, 'cached', 'cached']);
      assert.deepEqual(
        world.seen('unwrappedKeyLookedUp').map(({ found }) => found),
        [false, true, true],
      );
    });
  }

  for (const algorithm of ['ML-DSA-65', 'Ed25519', 'ML-DSA-65-ES256', 'ML-DSA-65-Ed25519', 'SLH-DSA-SHA2-128f']) {
    test(`${algorithm}: many signatures take one unwrap, and verify`, async (t) => {
      const { world, signJws, unwraps } = await setUp(t, algorithm, 'sign');
      const before = unwraps();
      for (let count = 0; count < 3; count += 1) {
        const signature = { jws: await signJws() };
        const input = { key: '', version: 0, signature, input: undefined };
        const { value } = await verify(world.ports, world.call(), input);
        assert.equal(value.valid, true);
      }
      assert.equal(unwraps(), before + 1);
      assert.deepEqual(cachedIn(world, 'sign').slice(1), ['cached', 'cached']);
    });
  }

  const CHANGES: Readonly<Record<string, (world: World) => Promise<unknown>>> = {
    suspension: (world) => suspendKey(world.ports, world.call(), { key: 'k', reason: '' }),
    revocation: (world) => revokeKey(world.ports, world.call(), { key: 'k', reason: '', version: undefined }),
    destruction: (world) => destroyKey(world.ports, world.call(), { key: 'k', reason: '' }),
    'rotation of the KEK': (world) => rotateTenantKek(world.ports, world.call()),
    rotation: (world) =>
      rotateKey(world.ports, world.call(), {
        ...{ key: 'k', algorithm: '', jose: '', expectedVersion: undefined, acceptLoss: false },
      }),
  };
  for (const [name, change] of Object.entries(CHANGES)) {
    test(`${name} empties it at once`, async (t) => {
      const { world, seal, open, unwraps } = await setUp(t, 'ML-KEM-768', 'encrypt');
      const jwe = await seal();
      await open(jwe);
      assert.equal(world.keys.unwrappedKeys.size, 1);
      await change(world);
      assert.equal(world.keys.unwrappedKeys.size, 0);
      const before = unwraps();
      if (name.startsWith('rotation')) {
        assert.deepEqual(await open(jwe), message);
        assert.equal(unwraps(), before + 1);
      } else {
        await assert.rejects(open(jwe), { code: 'KEY_STATE' });
        assert.equal(world.keys.unwrappedKeys.size, 0);
      }
    });
  }

  test('a revocation while a key is used lets that use end, wipes its copy, and leaves nothing behind', async (t) => {
    const { world } = await setUp(t, 'Ed25519', 'sign');
    const record = world.keys.catalog.get('acme', 'k') as KeyRecord;
    const version = record.versions[0] as KeyVersionRecord;
    const call = { tenant: 'acme', deadline: Date.now() + 30_000, signal: new AbortController().signal };
    const use = (during: (seed: Buffer) => Promise<void>) => world.keys.vault.withSeed(record, version, call, during);
    const seeds: Buffer[] = [];
    for (const isKept of [false, true]) {
      assert.equal(world.keys.unwrappedKeys.size, isKept ? 1 : 0);
      await use(async (seed) => {
        seeds.push(seed);
        if (isKept) await revokeKey(world.ports, world.call(), { key: 'k', reason: '', version: undefined });
        assert.ok(seed.some((byte) => byte !== 0));
      });
    }
    await use(async () => undefined); // by the record that it read before the revocation
    assert.equal(world.keys.unwrappedKeys.size, 0);
    assert.deepEqual(seeds, [Buffer.alloc(32), Buffer.alloc(32)]);
  });

  test('moving away from a revoked key puts nothing back', async (t) => {
    const { world, seal, open } = await setUp(t, 'ML-KEM-768', 'encrypt');
    const jwe = await seal();
    await open(jwe);
    await createKey(world.ports, world.call(), {
      ...{ keyId: 'next', purpose: 'encrypt', algorithm: 'AES-256', jose: '', labels: {}, limits: {}, grants: [] },
    });
    await revokeKey(world.ports, world.call(), { key: 'k', reason: '', version: undefined });
    const input = { jwe, sourceKey: '', targetKey: 'next', associatedData: none, newAssociatedData: undefined };
    const { value } = await reEncrypt(world.ports, world.call(), input);
    assert.deepEqual(await open(value.jwe), message);
    assert.equal(world.keys.unwrappedKeys.size, 0);
  });

  test('another tenant’s key of the same name is never met, and every use is authorised', async (t) => {
    const { world, make, seal, open, unwraps } = await setUp(t, 'ML-KEM-768', 'encrypt');
    await make('globex');
    const [ours, theirs] = [await seal(), await seal('globex')];
    await open(ours);
    const before = unwraps();
    assert.deepEqual(await open(theirs, 'globex'), message);
    assert.equal(unwraps(), before + 1);
    await assert.rejects(open(ours, 'globex'), { code: 'PERMISSION_DENIED' });
    world.policy.refuse = () => 'POLICY_DENIED';
    await assert.rejects(open(ours), { code: 'POLICY_DENIED' });
    world.policy.refuse = () => undefined;
    const lacking = world.call({ scopes: ['crypto.encrypt'] });
    await assert.rejects(decrypt(world.ports, lacking, { jwe: ours, key: '', associatedData: none }), {
      code: 'PERMISSION_DENIED',
    });
  });

  test('another policy takes it away, and without one each use is an unwrap of its own', async (t) => {
    const { world, seal, open, unwraps } = await setUp(t, 'ML-KEM-768', 'encrypt');
    const jwe = await seal();
    await open(jwe);
    world.policy.unwrappedKeys = undefined;
    world.keys.policyChanged();
    assert.equal(world.keys.unwrappedKeys.size, 0);
    const before = unwraps();
    for (let count = 0; count < 2; count += 1) await open(jwe);
    assert.equal(unwraps(), before + 2);
    assert.equal(world.keys.unwrappedKeys.size, 0);
  });

  test('what is kept ends with the room', async (t) => {
    const { world, seal, open } = await setUp(t, 'ML-KEM-768', 'encrypt');
    await open(await seal());
    const { unwrappedKeys } = world.keys;
    await world.reopen('closed');
    assert.equal(unwrappedKeys.size, 0);
  });
});
