// Two hosts over one token and one catalogue: what is shared, what is in doubt, and what never goes backwards.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { Replica } from '../../../agent/keys/replica.ts';
import { createKey } from '../../../agent/operations/create-key.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { rotateTenantKek } from '../../../agent/operations/rotate-tenant-kek.ts';
import { sign } from '../../../agent/operations/sign.ts';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { encodeKeyRecord } from '../../../proto/documents/key-record-parse.ts';
import { FakeCentral } from '../../fakes/central.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aRecord } from '../../support/key-records.ts';
import { HOUR, openWorld, type World } from './world.ts';

const replicaOf = (world: World): Replica => world.keys.shared?.replica as Replica;

const setUp = (t: TestContext) => {
  const central = new FakeCentral();
  const token = new FakeToken();
  const [a, b] = [openWorld(t, { central, token }), openWorld(t, { central, token })];
  for (const world of [a, b]) central.follow(replicaOf(world), 'acme');
  const sync = (): void => {
    for (const world of [a, b]) assert.equal(central.deliver(replicaOf(world), 'acme'), undefined);
  };
  return { central, token, a, b, sync };
};

const create = (world: World, keyId: string, algorithm = 'EC-P256') =>
  createKey(world.ports, world.call(), {
    keyId,
    purpose: 'sign',
    algorithm,
    jose: '',
    labels: {},
    limits: {},
    grants: [],
  });

const rotate = (world: World, key: string) =>
  rotateKey(world.ports, world.call(), {
    key,
    algorithm: '',
    jose: '',
    expectedVersion: undefined,
    acceptLoss: false,
  });

const signs = async (world: World, key: string): Promise<void> => {
  await sign(world.ports, world.call(), { key, input: { message: Buffer.from('m') }, form: 'raw', type: '' });
};

const objects = (token: FakeToken): number => token.calls.get('generate') ?? 0;

describe('a shared key', () => {
  test('of one host is used by the other, by the same object of the token', async (t) => {
    const { a, b, token, sync } = setUp(t);
    await create(a, 'k');
    assert.equal(b.keys.catalog.get('acme', 'k'), undefined);
    sync();
    assert.deepEqual(b.keys.catalog.get('acme', 'k'), a.keys.catalog.get('acme', 'k'));
    await signs(b, 'k');
    assert.equal(objects(token), 1);
  });

  test('is there after a restart, with the position up to which everything is', async (t) => {
    const { a, b, sync } = setUp(t);
    await create(a, 'k');
    sync();
    const before = replicaOf(b).position('acme');
    await b.reopen('closed');
    assert.deepEqual(replicaOf(b).position('acme'), before);
    await signs(b, 'k');
  });

  test('is rotated once by two hosts at the same moment, and no object is left over', async (t) => {
    const { a, b, token, sync } = setUp(t);
    await create(a, 'k');
    sync();
    const outcomes = await Promise.allSettled([rotate(a, 'k'), rotate(b, 'k')]);
    assert.deepEqual(outcomes.map((row) => (row.status === 'fulfilled' ? 'ok' : row.reason.code)).sort(), [
      'KEY_CONFLICT',
      'ok',
    ]);
    sync();
    for (const world of [a, b]) assert.equal(world.keys.catalog.get('acme', 'k')?.versions.length, 2);
    assert.equal(token.calls.get('destroy'), 1, 'what the loser generated is gone');
  });

  test('drops what was kept of its content keys when another host changes it', async (t) => {
    const { a, b, sync } = setUp(t);
    b.policy.dataKeys = { maxAgeSeconds: 60, maxUses: 100, maxBytes: 1e6 };
    await create(a, 'k');
    sync();
    const use = { tenant: 'acme', keyId: 'k', version: 1, bytes: 1 };
    const slot = b.keys.dataKeys.toEncrypt(use);
    assert.ok(slot !== undefined && 'keep' in slot);
    slot.keep({ cek: Buffer.alloc(32, 1), encryptedKey: Buffer.alloc(8), members: {} });
    assert.equal(b.keys.dataKeys.size, 1);
    await rotate(a, 'k');
    sync();
    assert.equal(b.keys.dataKeys.size, 0);
  });

  test('is used, and not changed, while the catalogue cannot be reached; nothing is generated for nothing', async (t) => {
    const { a, b, token, central, sync } = setUp(t);
    await create(a, 'k');
    sync();
    central.down = true;
    const generated = objects(token);
    for (const world of [a, b]) {
      await signs(world, 'k');
      await assert.rejects(rotate(world, 'k'), { code: 'REGISTRY_UNAVAILABLE' });
      await assert.rejects(create(world, 'other'), { code: 'REGISTRY_UNAVAILABLE' });
    }
    assert.equal(objects(token), generated);
    assert.equal(a.records.filter(({ outcome }) => outcome === 'intent').length, 0, 'no intent of what is not begun');
  });
});

describe('a change whose answer is lost', () => {
  test('keeps its object until the catalogue has been followed, and then it is a key', async (t) => {
    const { a, b, token, central, sync } = setUp(t);
    central.losesAnswers = true;
    await assert.rejects(create(a, 'k'), { code: 'REGISTRY_UNAVAILABLE' });
    central.losesAnswers = false;
    a.now += HOUR;
    await a.keys.reaper.run();
    assert.equal(token.calls.get('destroy') ?? 0, 0, 'nobody knows yet whether a record names it');
    sync();
    await signs(a, 'k');
    await signs(b, 'k');
    central.follow(replicaOf(a), 'acme');
    await a.keys.reaper.run();
    assert.equal(token.calls.get('destroy') ?? 0, 0);
    await signs(b, 'k');
  });

  test('keeps its object over a crash, too', async (t) => {
    const { a, b, token, central } = setUp(t);
    central.losesAnswers = true;
    await assert.rejects(create(a, 'k'), { code: 'REGISTRY_UNAVAILABLE' });
    central.losesAnswers = false;
    await a.reopen();
    await a.keys.reaper.run();
    assert.equal(token.calls.get('destroy') ?? 0, 0, 'a host that has just started has not heard anything');
    central.follow(replicaOf(a), 'acme');
    central.deliver(replicaOf(b), 'acme');
    await a.keys.reaper.run();
    assert.equal(token.calls.get('destroy') ?? 0, 0);
    await signs(b, 'k');
  });

  test('that was not taken leaves an object that goes once everything is known', async (t) => {
    const { a, token, central } = setUp(t);
    const put = central.putRecord.bind(central);
    const { AgentError } = await import('../../../agent/errors.ts');
    central.putRecord = async () => {
      throw new AgentError('REGISTRY_UNAVAILABLE', { metadata: { outcome: 'unknown' } });
    };
    await assert.rejects(create(a, 'k'), { code: 'REGISTRY_UNAVAILABLE' });
    central.putRecord = put;
    central.follow(replicaOf(a), 'acme');
    a.now += HOUR;
    await a.keys.reaper.run();
    assert.equal(token.calls.get('destroy'), 1);
    await create(a, 'k');
    await signs(a, 'k');
  });
});

describe('a catalogue that was taken back', () => {
  const older = (records: readonly KeyRecord[], world: World, rebuild?: string): string | undefined => {
    const back = new FakeCentral();
    for (const record of records) {
      const bytes = Buffer.from(JSON.stringify({ schema: 'mortise.key/v1', ...record }));
      back.log.push({
        tenant: 'acme',
        name: `key/${record.keyId}`,
        revision: record.revision,
        change: { kind: 'key', bytes },
      });
    }
    return back.snapshot(replicaOf(world), 'acme', rebuild);
  };

  test('by a record that is older than ours changes nothing here, and stops changes', async (t) => {
    const { a, central, sync } = setUp(t);
    await create(a, 'k');
    sync();
    const first = a.keys.catalog.get('acme', 'k') as KeyRecord;
    await rotate(a, 'k');
    sync();
    assert.match(older([first], a) ?? '', /revision 1, and this host has 2/);
    assert.equal(a.keys.catalog.get('acme', 'k')?.revision, 2);
    await signs(a, 'k');
    await assert.rejects(rotate(a, 'k'), { code: 'REGISTRY_UNAVAILABLE' });
    assert.equal(central.snapshot(replicaOf(a), 'acme'), undefined, 'put right by an operator');
    await rotate(a, 'k');
  });

  test('and rebuilt is taken if it has all that this host knows, and otherwise stays out, with the reason', async (t) => {
    const { a, sync } = setUp(t);
    await create(a, 'k');
    await create(a, 'other');
    sync();
    const [k, other] = ['k', 'other'].map((name) => a.keys.catalog.get('acme', name)) as [KeyRecord, KeyRecord];
    const changed = { ...other, labels: { team: 'red' } };
    const lacking: readonly (readonly [readonly KeyRecord[], RegExp])[] = [
      [[k], /does not have 1 keys of this host/],
      [[k, changed], /the key other was changed otherwise on another host/],
    ];
    for (const [records, why] of lacking) {
      assert.match(older(records, a, 'first') ?? '', why);
      assert.equal(replicaOf(a).position('acme').rebuild, undefined);
      await assert.rejects(rotate(a, 'k'), { code: 'REGISTRY_UNAVAILABLE' });
      assert.deepEqual(replicaOf(a).positions(), [{ tenant: 'acme', position: 0 }], 'nothing of it is applied here');
    }
    const { changes } = replicaOf(a).known('acme');
    assert.equal(changes.length, 2);
    assert.equal(older([other, k], a, 'second'), undefined);
    assert.equal(replicaOf(a).position('acme').rebuild, 'second');
    assert.equal(replicaOf(a).frozen('acme'), undefined);
  });

  test('by a key that it does not have any more stops changes', async (t) => {
    const { a, sync } = setUp(t);
    await create(a, 'k');
    sync();
    assert.match(older([], a) ?? '', /does not have 1 keys of this host/);
    await assert.rejects(create(a, 'other'), { code: 'REGISTRY_UNAVAILABLE' });
    await signs(a, 'k');
  });
});

describe('a host that stood alone', () => {
  /** Keys of a host that stood alone, and the same folder with the catalogue of all hosts. */
  const join = async (t: TestContext, prepare: (alone: World) => Promise<unknown>, central = new FakeCentral()) => {
    const token = new FakeToken();
    const alone = openWorld(t, { token });
    await prepare(alone);
    await alone.keys.close();
    const joined = openWorld(t, { central, token, path: alone.path });
    const why = central.snapshot(replicaOf(joined), 'acme');
    await replicaOf(joined).joined;
    const other = openWorld(t, { central, token });
    central.snapshot(replicaOf(other), 'acme');
    return { joined, other, central, token, why };
  };

  test('hands its keys and its KEK in, and all hosts have them', async (t) => {
    const { joined, other, central } = await join(t, async (alone) => {
      await create(alone, 'k');
      await rotate(alone, 'k');
      await create(alone, 'pq', 'ML-DSA-44');
    });
    assert.deepEqual(
      joined.seen('shared').map(({ keyId }) => keyId),
      ['k', 'pq'],
    );
    for (const key of ['k', 'pq']) await signs(other, key);
    central.follow(replicaOf(joined), 'acme');
    await rotate(other, 'k');
    central.deliver(replicaOf(joined), 'acme');
    assert.equal(joined.keys.catalog.get('acme', 'k')?.versions.length, 3);
    await rotate(joined, 'k');
    await create(joined, 'pq-2', 'ML-DSA-44');
  });

  test('keeps a key whose uses are counted here alone, and does not change it', async (t) => {
    const central = new FakeCentral();
    const taken = aRecord({ labels: { of: 'others' } });
    await central.putRecord(taken, encodeKeyRecord(taken));
    const { joined } = await join(
      t,
      async (alone) => {
        await alone.keys.catalog.insert(aRecord({ keyId: 'few', limits: { hardUses: 5 } }));
        await create(alone, 'k');
      },
      central,
    );
    assert.deepEqual(
      joined.seen('unshared').map(({ keyId }) => keyId),
      ['few'],
    );
    await assert.rejects(
      joined.keys.catalog.replace(aRecord({ keyId: 'few', limits: { hardUses: 5 }, revision: 2, state: 'SUSPENDED' })),
      { code: 'KEY_CONFLICT' },
    );
  });

  test('is frozen where all hosts know another key of an id', async (t) => {
    const central = new FakeCentral();
    const taken = aRecord({ keyId: 'k', createdAt: 1, revision: 1 });
    await central.putRecord(taken, encodeKeyRecord(taken));
    const { why, joined } = await join(t, (alone) => create(alone, 'k'), central);
    assert.match(why ?? '', /the key k does not follow from that of this host: it is another key/);
    await signs(joined, 'k');
  });
});

describe('a registry that is taken over', () => {
  const forged = async (t: TestContext, change: (record: KeyRecord) => Partial<KeyRecord>) => {
    const { a, b, central, sync } = setUp(t);
    await create(a, 'k');
    sync();
    const before = a.keys.catalog.get('acme', 'k') as KeyRecord;
    const revoked: KeyRecord = { ...before, state: 'REVOKED', revision: 2 };
    await a.keys.catalog.replace(revoked);
    sync();
    const bytes = encodeKeyRecord({ ...revoked, revision: 3, ...change(revoked) });
    central.log.push({ tenant: 'acme', name: 'key/k', revision: 3, change: { kind: 'key', bytes } });
    return { why: central.deliver(replicaOf(b), 'acme'), b, revoked };
  };

  test('cannot bring a revoked key back', async (t) => {
    const { why, b, revoked } = await forged(t, () => ({ state: 'ACTIVE' }));
    assert.match(why ?? '', /it is ACTIVE after REVOKED/);
    assert.deepEqual(b.keys.catalog.get('acme', 'k'), revoked);
    await assert.rejects(signs(b, 'k'), { code: 'KEY_STATE' });
  });

  test('cannot by way of its destruction either', async (t) => {
    const pending = { state: 'PENDING_DESTRUCTION', stateBefore: 'ACTIVE', destroyAt: Date.now() } as const;
    assert.match((await forged(t, () => pending)).why ?? '', /after REVOKED/);
  });

  test('cannot put another object of the token in the place of a version, or lose one', async (t) => {
    const other = ({ versions }: KeyRecord) => ({
      versions: versions.map((row) => ({ ...row, tokenId: '77'.repeat(16) })),
    });
    assert.match((await forged(t, other)).why ?? '', /version 1 is altered/);
    const lost = ({ versions }: KeyRecord) => ({ versions: versions.map((row) => ({ ...row, version: 2 })) });
    assert.match((await forged(t, lost)).why ?? '', /version 1 is lost/);
  });
});

describe('the KEK of a tenant', () => {
  test('that this host made while it stood alone is not replaced by another of its number', async (t) => {
    const central = new FakeCentral();
    const token = new FakeToken();
    const other = openWorld(t, { central, token });
    await create(other, 'shared', 'ML-DSA-44');
    const alone = openWorld(t, { token });
    await create(alone, 'own', 'ML-DSA-44');
    await alone.keys.close();
    const joined = openWorld(t, { central, token, path: alone.path });
    assert.match(central.snapshot(replicaOf(joined), 'acme') ?? '', /a tenant KEK 1 of its own/);
    await signs(joined, 'own');
    await assert.rejects(create(joined, 'more'), { code: 'REGISTRY_UNAVAILABLE' });
  });

  test('is one for two hosts that need the first at the same moment', async (t) => {
    const { a, b, central, sync } = setUp(t);
    const timer = setInterval(() => {
      for (const world of [a, b]) central.deliver(replicaOf(world), 'acme');
    }, 5);
    t.after(() => clearInterval(timer));
    await Promise.all([create(a, 'pq-a', 'ML-DSA-44'), create(b, 'pq-b', 'ML-DSA-44')]);
    clearInterval(timer);
    sync();
    const keks = central.log.filter(({ name }) => name.startsWith('kek/'));
    assert.deepEqual(new Set(keks.map(({ name }) => name)), new Set(['kek/1']));
    await signs(a, 'pq-b');
    await signs(b, 'pq-a');
  });

  test('is rotated for both, and the one before is kept, since another host may still use it', async (t) => {
    const { a, b, token, sync } = setUp(t);
    await create(a, 'pq', 'ML-DSA-44');
    sync();
    await rotateTenantKek(a.ports, a.call());
    await signs(b, 'pq');
    sync();
    await signs(b, 'pq');
    assert.equal(token.calls.get('destroy') ?? 0, 0);
    assert.deepEqual(a.seen('kekKept'), [{ tenant: 'acme', version: 1 }]);
    await create(b, 'pq-2', 'ML-DSA-44');
    sync();
    await signs(a, 'pq-2');
  });
});
