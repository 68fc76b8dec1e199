// Custody `wrapped`: the seed opens only for its own key version, is wiped, and survives the rotation of its KEK even
// where that is cut off between any two records.
import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { describe, type TestContext, test } from 'node:test';
import type { TokenCall } from '../../../agent/operations/ports/token.ts';
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { decodeWrappedKey } from '../../../proto/documents/wrapped-key.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aRecord } from '../../support/key-records.ts';
import { damageRecord, openWorld, type World } from './world.ts';

const tokenCall = (tenant = 'acme'): TokenCall => ({
  tenant,
  deadline: Date.now() + 30_000,
  signal: new AbortController().signal,
});

const setUp = (t: TestContext): { world: World; token: FakeToken } => {
  const token = new FakeToken();
  return { world: openWorld(t, { token }), token };
};

const makeVersion = async (world: World, keyId: string, version = 1, tenant = 'acme'): Promise<KeyVersionRecord> => {
  const made = await world.keys.vault.generate({ tenant, keyId, version, algorithm: 'Ed25519' }, tokenCall(tenant));
  const row = { version, algorithm: 'Ed25519', jose: 'Ed25519', custody: 'wrapped', createdAt: world.now } as const;
  return { ...row, ...made, state: 'PRIMARY' };
};

const signingKey = async (world: World, keyId: string, tenant = 'acme'): Promise<KeyRecord> => {
  const versions = [await makeVersion(world, keyId, 1, tenant)];
  const record = aRecord({ tenant, keyId, purpose: 'sign', versions });
  await world.keys.catalog.insert(record);
  return record;
};

const blobOf = (world: World, keyId: string, tenant = 'acme'): string => {
  const wrapped = world.keys.catalog.get(tenant, keyId)?.versions[0]?.wrapped;
  assert.ok(wrapped);
  return wrapped;
};
const kekOf = (world: World, keyId: string): number => decodeWrappedKey(blobOf(world, keyId)).kekVersion;

/** Signs with the seed in the vault and verifies with the public key of the record. */
const works = async (world: World, record: KeyRecord): Promise<boolean> => {
  const version = record.versions[0] as KeyVersionRecord;
  const data = Buffer.from('data');
  const signature = await world.keys.vault.withSeed(record, version, tokenCall(record.tenant), (seed) => {
    const key = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
    return sign(null, data, createPrivateKey({ key, format: 'der', type: 'pkcs8' }));
  });
  return verify(null, data, createPublicKey({ key: { ...version.publicJwk }, format: 'jwk' }), signature);
};

const open = (world: World, record: KeyRecord, version: KeyVersionRecord): Promise<number> =>
  world.keys.vault.withSeed(record, version, tokenCall(record.tenant), (seed) => seed.length);

describe('a wrapped seed', () => {
  test('signs for the public key it was made with, also after a restart', async (t) => {
    const { world } = setUp(t);
    const record = await signingKey(world, 'a');
    assert.equal(await works(world, record), true);
    await world.reopen('closed');
    assert.equal(await works(world, record), true);
  });

  test('is different for every key and holds nothing of the blob', async (t) => {
    const { world } = setUp(t);
    const [a, b] = [await signingKey(world, 'a'), await signingKey(world, 'b')];
    assert.notEqual(a.versions[0]?.publicJwk?.['x'], b.versions[0]?.publicJwk?.['x']);
    await world.keys.vault.withSeed(a, a.versions[0] as KeyVersionRecord, tokenCall(), (seed) => {
      assert.equal(Buffer.from(blobOf(world, 'a'), 'base64url').includes(seed), false);
    });
  });

  test('is more than the bytes of the token: they are mixed with the system’s', async (t) => {
    const token = new FakeToken();
    const world = openWorld(t, { token });
    token.fail({ method: 'random', alter: (answer) => answer.fill(0) });
    const record = await signingKey(world, 'a');
    await world.keys.vault.withSeed(record, record.versions[0] as KeyVersionRecord, tokenCall(), (seed) => {
      assert.notDeepEqual(seed, Buffer.alloc(32));
    });
  });

  test('is wiped after use, whether the use succeeds or fails', async (t) => {
    const { world } = setUp(t);
    const record = await signingKey(world, 'a');
    const version = record.versions[0] as KeyVersionRecord;
    const seen: Buffer[] = [];
    await world.keys.vault.withSeed(record, version, tokenCall(), async (seed) => {
      seen.push(seed);
      await Promise.resolve();
      assert.notDeepEqual(seed, Buffer.alloc(32), 'wiped before the use was over');
    });
    const failing = world.keys.vault.withSeed(record, version, tokenCall(), (seed) => {
      seen.push(seed);
      throw new RangeError('the use fails');
    });
    await assert.rejects(failing, RangeError);
    assert.deepEqual(seen, [Buffer.alloc(32), Buffer.alloc(32)]);
  });

  test('does not open for another tenant, key, version or algorithm', async (t) => {
    const { world } = setUp(t);
    const record = await signingKey(world, 'a');
    await signingKey(world, 'x', 'globex'); // so that globex has a KEK of the same version
    const version = record.versions[0] as KeyVersionRecord;
    assert.equal(await open(world, record, version), 32);
    for (const other of [{ tenant: 'globex' }, { keyId: 'other' }]) {
      await assert.rejects(open(world, { ...record, ...other }, version), { code: 'KEY_STATE' });
    }
    for (const other of [{ version: 2 }, { algorithm: 'X25519' }]) {
      await assert.rejects(open(world, record, { ...version, ...other }));
    }
    assert.equal(world.seen('blobRefused').length >= 3, true);
  });

  test('that is damaged is a refusal with a reason for the operator, never a wrong seed', async (t) => {
    const { world } = setUp(t);
    const record = await signingKey(world, 'a');
    const version = record.versions[0] as KeyVersionRecord;
    const bytes = Buffer.from(version.wrapped ?? '', 'base64url');
    for (let at = 0; at < bytes.length; at += 1) {
      const copy = Buffer.from(bytes);
      copy[at] = (copy[at] ?? 0) ^ 0x80;
      await assert.rejects(
        open(world, { ...record, keyId: 'gone' }, { ...version, wrapped: copy.toString('base64url') }),
        { code: 'KEY_STATE' },
        `byte ${at}`,
      );
    }
  });

  test('of an algorithm that custody `wrapped` does not know is refused', async (t) => {
    const { world } = setUp(t);
    const what = { tenant: 'acme', keyId: 'a', version: 1, algorithm: 'constructor' };
    await assert.rejects(world.keys.vault.generate(what, tokenCall()), { code: 'HSM_UNSUPPORTED' });
  });
});

describe('the tenant KEK', () => {
  test('is made once for two first needs at the same moment, and again only after a failure', async (t) => {
    const { world, token } = setUp(t);
    token.fail({ method: 'generate', code: 'HSM_BUSY' });
    await assert.rejects(makeVersion(world, 'a'), { code: 'HSM_BUSY' });
    await Promise.all([makeVersion(world, 'a'), makeVersion(world, 'b'), makeVersion(world, 'c')]);
    assert.equal(token.calls.get('generate'), 2);
    assert.equal(token.calls.get('destroy'), 1, 'what the failed attempt may have left is destroyed by its id');
    assert.deepEqual(world.seen('kekCreated'), [{ tenant: 'acme', version: 1 }]);
    assert.ok(await token.find('test:kek:acme:v1', tokenCall()));
  });

  test('is another for another tenant', async (t) => {
    const { world, token } = setUp(t);
    await signingKey(world, 'a', 'acme');
    await signingKey(world, 'a', 'globex');
    const [one, other] = await Promise.all(
      ['acme', 'globex'].map((tenant) => token.find(`test:kek:${tenant}:v1`, tokenCall())),
    );
    assert.ok(one && other && one.tokenId !== other.tokenId);
  });
});

describe('a blob', () => {
  test('does not open under a KEK that is not live, and says so', async (t) => {
    const { world, token } = setUp(t);
    const record = await signingKey(world, 'a');
    const old = record.versions[0] as KeyVersionRecord;
    await world.keys.vault.rotateKek('acme', tokenCall());
    // As if another host had a record that this rotation never saw.
    const stray = { ...record, keyId: 'stray' };
    const before = token.calls.get('unwrap');
    await assert.rejects(open(world, stray, old), {
      code: 'KEY_STATE',
      metadata: { state: 'KEK_NOT_LIVE', kek: '1' },
    });
    assert.equal(token.calls.get('unwrap'), before, 'the token was not asked');
    assert.equal(world.seen('blobRefused').length, 1);
  });
});

describe('rotating the KEK', () => {
  test('moves every blob of the tenant, and of no other, and destroys the old KEK', async (t) => {
    const { world, token } = setUp(t);
    const records = [await signingKey(world, 'a'), await signingKey(world, 'b')];
    await signingKey(world, 'a', 'globex');
    const others = blobOf(world, 'a', 'globex');
    const before = blobOf(world, 'a');
    assert.deepEqual(await world.keys.vault.rotateKek('acme', tokenCall()), { version: 2, rewrapped: 2 });
    assert.notEqual(blobOf(world, 'a'), before);
    assert.deepEqual([kekOf(world, 'a'), kekOf(world, 'b')], [2, 2]);
    assert.equal(blobOf(world, 'a', 'globex'), others);
    assert.equal(await token.find('test:kek:acme:v1', tokenCall()), undefined);
    assert.ok(await token.find('test:kek:globex:v1', tokenCall()));
    for (const { keyId } of records)
      assert.equal(await works(world, world.keys.catalog.get('acme', keyId) as KeyRecord), true);
    // A caller that read its record before the rotation is served all the same.
    for (const record of records) assert.equal(await works(world, record), true);
    await world.reopen('closed');
    assert.deepEqual(await world.keys.vault.rotateKek('acme', tokenCall()), { version: 3, rewrapped: 2 });
  });

  test('of a tenant without one makes the first', async (t) => {
    const { world } = setUp(t);
    assert.deepEqual(await world.keys.vault.rotateKek('acme', tokenCall()), { version: 1, rewrapped: 0 });
  });

  test('runs once at a time for a tenant', async (t) => {
    const { world, token } = setUp(t);
    await signingKey(world, 'a');
    const gate = Promise.withResolvers<void>();
    token.fail({ method: 'generate', until: gate.promise });
    const first = world.keys.vault.rotateKek('acme', tokenCall());
    await assert.rejects(world.keys.vault.rotateKek('acme', tokenCall()), { code: 'KEY_CONFLICT' });
    gate.resolve();
    assert.deepEqual(await first, { version: 2, rewrapped: 1 });
  });

  const STEPS = ['generate', 'gcmDecrypt', 'gcmEncrypt', 'destroy'] as const;
  for (const method of STEPS) {
    for (const nth of method.startsWith('gcm') ? [1, 2, 3] : [1]) {
      test(`that is cut off at ${method} ${nth} loses no seed and is taken up again after a restart`, async (t) => {
        const { world, token } = setUp(t);
        const keyIds = ['a', 'b', 'c'];
        for (const keyId of keyIds) await signingKey(world, keyId);
        token.fail({ method, nth, code: 'HSM_UNAVAILABLE' });
        await assert.rejects(world.keys.vault.rotateKek('acme', tokenCall()), { code: 'HSM_UNAVAILABLE' });
        await world.reopen(); // without a close, as after a kill
        const all = (): KeyRecord[] => keyIds.map((keyId) => world.keys.catalog.get('acme', keyId) as KeyRecord);
        for (const record of all()) assert.equal(await works(world, record), true);
        const { version } = await world.keys.vault.rotateKek('acme', tokenCall());
        assert.ok(version === 2 || method === 'destroy', `made KEK ${version}`);
        assert.deepEqual(
          keyIds.map((keyId) => kekOf(world, keyId)),
          [version, version, version],
        );
        for (const record of all()) assert.equal(await works(world, record), true);
        for (let old = 1; old < version; old += 1) {
          assert.equal(await token.find(`test:kek:acme:v${old}`, tokenCall()), undefined);
        }
      });
    }
  }

  test('does not lose a key that was made under the old KEK while it ran', async (t) => {
    const { world } = setUp(t);
    await signingKey(world, 'a');
    const late = await makeVersion(world, 'late');
    await world.keys.vault.rotateKek('acme', tokenCall());
    // Its KEK is gone: storing the blob now would lose the key.
    const record = aRecord({ keyId: 'late', purpose: 'sign', versions: [late] });
    await assert.rejects(world.keys.catalog.insert(record), { code: 'KEY_CONFLICT' });
    assert.equal(world.keys.catalog.get('acme', 'late'), undefined);
  });

  test('re-wraps beside other changes of the same key', async (t) => {
    const { world, token } = setUp(t);
    const record = await signingKey(world, 'a');
    const gate = Promise.withResolvers<void>();
    token.fail({ method: 'gcmEncrypt', until: gate.promise });
    const rotating = world.keys.vault.rotateKek('acme', tokenCall());
    await world.keys.catalog.replace({ ...record, labels: { changed: 'meanwhile' }, revision: 2 });
    gate.resolve();
    assert.deepEqual(await rotating, { version: 2, rewrapped: 1 });
    const now = world.keys.catalog.get('acme', 'a') as KeyRecord;
    assert.equal(now.labels['changed'], 'meanwhile');
    assert.equal(await works(world, now), true);
  });

  test('that could not destroy the old KEK leaves it to the reaper after a restart', async (t) => {
    const { world, token } = setUp(t);
    await signingKey(world, 'a');
    token.fail({ method: 'destroy', code: 'HSM_UNAVAILABLE' });
    await assert.rejects(world.keys.vault.rotateKek('acme', tokenCall()), { code: 'HSM_UNAVAILABLE' });
    await world.reopen();
    token.fail({ method: 'destroy', code: 'HSM_UNAVAILABLE' });
    await world.keys.reaper.run();
    assert.equal(world.seen('kekDestructionDelayed').length, 1);
    assert.ok(await token.find('test:kek:acme:v1', tokenCall()));
    await world.keys.reaper.run();
    assert.equal(await token.find('test:kek:acme:v1', tokenCall()), undefined);
    assert.equal(await works(world, world.keys.catalog.get('acme', 'a') as KeyRecord), true);
  });

  test('keeps the old KEK where a record of the tenant cannot be read', async (t) => {
    const { world, token } = setUp(t);
    for (const keyId of ['a', 'b']) await signingKey(world, keyId);
    await damageRecord(world, 'acme/b');
    await world.reopen();
    assert.deepEqual(await world.keys.vault.rotateKek('acme', tokenCall()), { version: 2, rewrapped: 1 });
    assert.deepEqual(world.seen('kekKept'), [{ tenant: 'acme', version: 1 }]);
    assert.ok(await token.find('test:kek:acme:v1', tokenCall()));
  });
});
