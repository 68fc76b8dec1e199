// GetKey, ListKeys and GetPublicKey: what is shown, to whom, in what form, and that page tokens cannot be taken elsewhere.
import assert from 'node:assert/strict';
import { createHash, createPublicKey, type JsonWebKey } from 'node:crypto';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { type CreateKeyInput, createKey } from '../../../agent/operations/create-key.ts';
import { getKey } from '../../../agent/operations/get-key.ts';
import { getPublicKey } from '../../../agent/operations/get-public-key.ts';
import { type ListKeysInput, listKeys } from '../../../agent/operations/list-keys.ts';
import { revokeKey } from '../../../agent/operations/revoke-key.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { suspendKey } from '../../../agent/operations/suspend-key.ts';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { aRecord, aVersion } from '../../support/key-records.ts';
import { HOUR, LackingToken, openWorld, type World } from '../keys/world.ts';

const create = (world: World, keyId: string, change: Partial<CreateKeyInput> = {}, tenant = 'acme') =>
  createKey(world.ports, world.call({ tenant }), {
    keyId,
    purpose: 'encrypt',
    algorithm: '',
    jose: '',
    labels: {},
    limits: {},
    grants: [],
    ...change,
  });
const rotate = (world: World, key: string, algorithm = '') =>
  rotateKey(world.ports, world.call(), { key, algorithm, jose: '', expectedVersion: undefined, acceptLoss: true });
const list = async (world: World, change: Partial<ListKeysInput> = {}, options: Parameters<World['call']>[0] = {}) => {
  const filters = { pageSize: undefined, pageToken: '', purpose: undefined, states: [], labels: {}, prefix: '' };
  const { value } = await listKeys(world.ports, world.call(options), { ...filters, ...change });
  return { ids: value.keys.map((view) => view.record.keyId), next: value.nextPageToken };
};

const withKeys = async (t: TestContext): Promise<World> => {
  const world = openWorld(t);
  for (const keyId of ['c', 'a', 'b', 'pay.1', 'pay.2'])
    await create(world, keyId, { labels: { first: keyId[0] as string } });
  await create(world, 'sig', { purpose: 'sign' });
  await create(world, 'other', {}, 'globex');
  await suspendKey(world.ports, world.call(), { key: 'b', reason: '' });
  return world;
};

describe('ListKeys', () => {
  test('shows the tenant’s keys in order of id, page by page, each once', async (t) => {
    const world = await withKeys(t);
    const seen: string[] = [];
    let page = await list(world, { pageSize: 2 });
    for (;;) {
      seen.push(...page.ids);
      if (page.next === '') break;
      assert.equal(page.ids.length, 2);
      page = await list(world, { pageSize: 2, pageToken: page.next });
    }
    assert.deepEqual(seen, ['a', 'b', 'c', 'pay.1', 'pay.2', 'sig']);
    assert.deepEqual((await list(world, {}, { tenant: 'globex' })).ids, ['other']);
    assert.deepEqual(await list(world, { pageSize: 6 }), { ids: seen, next: '' });
  });

  test('goes on after a key that was made or is gone between two pages', async (t) => {
    const world = await withKeys(t);
    const { next } = await list(world, { pageSize: 2 });
    await create(world, 'aa');
    await create(world, 'bb');
    assert.deepEqual((await list(world, { pageSize: 2, pageToken: next })).ids, ['bb', 'c']);
  });

  test('filters by purpose, state, labels and prefix', async (t) => {
    const world = await withKeys(t);
    assert.deepEqual((await list(world, { purpose: 'sign' })).ids, ['sig']);
    assert.deepEqual((await list(world, { states: ['SUSPENDED'] })).ids, ['b']);
    assert.deepEqual((await list(world, { states: ['DESTROYED', 'PENDING_DESTRUCTION'] })).ids, []);
    assert.deepEqual((await list(world, { labels: { first: 'p' } })).ids, ['pay.1', 'pay.2']);
    assert.deepEqual((await list(world, { labels: { first: 'p', second: '' } })).ids, []);
    assert.deepEqual((await list(world, { prefix: 'pay.' })).ids, ['pay.1', 'pay.2']);
  });

  test('judges the state at the moment of the answer', async (t) => {
    const world = openWorld(t);
    await create(world, 'k', { limits: { hardExpiry: world.now + HOUR } });
    world.now += HOUR;
    assert.deepEqual((await list(world, { states: ['EXPIRED'] })).ids, ['k']);
    assert.deepEqual((await list(world, { states: ['ACTIVE'] })).ids, []);
  });

  test('does not show keys whose grants keep their record from the caller', async (t) => {
    const world = openWorld(t);
    await create(world, 'open');
    await create(world, 'closed', { grants: [{ principal: 'bob', operations: ['get-key'] }] });
    assert.deepEqual((await list(world)).ids, ['open']);
    assert.deepEqual((await list(world, {}, { principal: 'bob' })).ids, ['closed', 'open']);
  });

  test('refuses a page token of another tenant, of other filters, or made up', async (t) => {
    const world = await withKeys(t);
    await create(world, 'second', {}, 'globex');
    const { next } = await list(world, { pageSize: 1 });
    assert.equal((await list(world, { pageSize: 3, pageToken: next })).ids.length, 3, 'the page size may change');
    const refused = { code: 'INVALID_REQUEST' };
    await assert.rejects(list(world, { pageToken: next }, { tenant: 'globex' }), refused);
    await assert.rejects(list(world, { pageToken: next, purpose: 'sign' }), refused);
    await assert.rejects(list(world, { pageToken: next, prefix: 'a' }), refused);
    await assert.rejects(list(world, { pageToken: next, labels: { a: '' } }), refused);
    await assert.rejects(list(world, { pageToken: next, states: ['ACTIVE'] }), refused);
    await assert.rejects(list(world, { pageToken: `${next}=` }), refused);
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string({ minLength: 1 }), fc.base64String({ minLength: 4 })), async (pageToken) => {
        await assert.rejects(list(world, { pageToken }), refused);
      }),
    );
  });

  test('names the field of a bad value', async (t) => {
    const world = openWorld(t);
    const bad: readonly [Partial<ListKeysInput>, string][] = [
      [{ pageSize: 501 }, 'page_size'],
      [{ states: ['UNSPECIFIED' as 'ACTIVE'] }, 'states'],
      [{ states: ['constructor' as 'ACTIVE'] }, 'states'],
      [{ states: ['ACTIVE', 'ACTIVE'] }, 'states'],
      [{ labels: { 'a b': '' } }, 'labels'],
      [{ prefix: 'Upper' }, 'prefix'],
      [{ prefix: 'x'.repeat(65) }, 'prefix'],
      [{ pageToken: 'x'.repeat(10_000) }, 'page_token'],
    ];
    for (const [change, field] of bad) {
      await assert.rejects(
        list(world, change),
        (error: { fields: { field: string }[] }) => error.fields[0]?.field === field,
      );
    }
  });
});

describe('a page of ListKeys', () => {
  test('ends early where its keys have many versions, and the next one goes on there', async (t) => {
    const world = openWorld(t);
    const record = aRecord({ keyId: 'a' });
    const many = (keyId: string, count: number) => ({
      ...record,
      keyId,
      versions: Array.from({ length: count }, (_, at) =>
        aVersion({
          version: at + 1,
          tokenId: createHash('md5').update(`${keyId}/${at}`).digest('hex'),
          state: at + 1 === count ? 'PRIMARY' : 'RETIRED',
        }),
      ),
    });
    const ids = Array.from({ length: 12 }, (_, at) => `k${at + 10}`);
    for (const keyId of ids) await world.keys.catalog.insert(many(keyId, 900));
    const first = await list(world, { pageSize: 500 });
    assert.deepEqual(first.ids, ids.slice(0, 11));
    const second = await list(world, { pageSize: 500, pageToken: first.next });
    assert.deepEqual(second, { ids: ids.slice(11), next: '' });
  });
});

describe('GetKey', () => {
  test('shows of each version its uses, its last use, and its end by policy', async (t) => {
    const world = openWorld(t);
    const sunset = { warnAfter: world.now, refuseAfter: world.now + HOUR };
    world.policy.sunsets = { 'AES-256': sunset };
    await create(world, 'k', { algorithm: 'AES-256' });
    await world.keys.catalog.use(world.keys.catalog.get('acme', 'k') as KeyRecord);
    const appliedAt = world.now;
    await rotate(world, 'k', 'AES-128');
    world.now += HOUR;
    world.keys.catalog.processed('acme', 'k', 1);
    const { value } = await getKey(world.ports, world.call(), { key: 'k' });
    assert.deepEqual(
      value.key.versions.map(({ record, ...rest }) => ({ version: record.version, ...rest })),
      [
        { version: 1, uses: 1, appliedAt, processedAt: world.now, sunset },
        { version: 2, uses: 0, appliedAt: undefined, processedAt: undefined, sunset: undefined },
      ],
    );
  });

  test('shows a key whose uses are spent as EXPIRED', async (t) => {
    const world = openWorld(t);
    await create(world, 'k', { limits: { hardUses: 1 } });
    const record = world.keys.catalog.get('acme', 'k');
    assert.ok(record);
    await world.keys.catalog.use(record);
    const { value } = await getKey(world.ports, world.call(), { key: 'acme/k' });
    assert.deepEqual([value.key.state, value.key.uses], ['EXPIRED', 1]);
  });

  test('says nothing of other tenants’ keys', async (t) => {
    const world = await withKeys(t);
    const get = (key: string) => getKey(world.ports, world.call(), { key });
    await assert.rejects(get('globex/other'), { code: 'PERMISSION_DENIED' });
    await assert.rejects(get('globex/nothing'), { code: 'PERMISSION_DENIED' });
    await assert.rejects(get('other'), { code: 'KEY_UNKNOWN' });
  });
});

describe('GetPublicKey', () => {
  const get = async (world: World, key: string, format: 'jwk' | 'pem' | 'jwks', version?: number): Promise<string> =>
    (await getPublicKey(world.ports, world.call(), { key, format, version })).value.publicKey;

  for (const [purpose, algorithm, alg, use] of [
    ['sign', 'EC-P256', 'ES256', 'sig'],
    ['sign', 'RSA-2048', 'PS256', 'sig'],
    ['sign', 'Ed25519', 'Ed25519', 'sig'],
    ['encrypt', 'EC-P384', 'ECDH-ES+A256KW', 'enc'],
  ] as const) {
    test(`gives ${algorithm} for ${purpose} as JWK and PEM of the same key`, async (t) => {
      const world = openWorld(t, { token: new LackingToken('Ed25519') });
      await create(world, 'k', { purpose, algorithm });
      const jwk: JsonWebKey = JSON.parse(await get(world, 'k', 'jwk'));
      assert.deepEqual([jwk['kid'], jwk['alg'], jwk['use'], jwk.d], ['acme/k/1', alg, use, undefined]);
      const pem = await get(world, 'k', 'pem');
      assert.match(pem, /^-----BEGIN PUBLIC KEY-----\n/);
      assert.ok(createPublicKey(pem).equals(createPublicKey({ key: jwk, format: 'jwk' })));
    });
  }

  test('gives a JWK Set of the versions that may still verify, newest first', async (t) => {
    const world = openWorld(t);
    await create(world, 'k', { purpose: 'sign' });
    for (const algorithm of ['', 'Ed25519', '']) await rotate(world, 'k', algorithm);
    await revokeKey(world.ports, world.call(), { key: 'k', version: 2, reason: '' });
    const { keys } = JSON.parse(await get(world, 'k', 'jwks')) as { keys: { kid: string }[] };
    assert.deepEqual(
      keys.map((row) => row.kid),
      ['acme/k/4', 'acme/k/3', 'acme/k/1'],
    );
    assert.equal(JSON.parse(await get(world, 'k', 'jwk', 1)).kid, 'acme/k/1');
    await assert.rejects(get(world, 'k', 'pem', 2), { code: 'KEY_STATE' });
    await assert.rejects(get(world, 'k', 'pem', 9), { code: 'KEY_UNKNOWN' });
  });

  test('is refused for symmetric keys and unknown forms', async (t) => {
    const world = openWorld(t);
    await create(world, 'k');
    for (const format of ['jwk', 'pem', 'jwks'] as const) {
      await assert.rejects(get(world, 'k', format), { code: 'INVALID_REQUEST' });
    }
    const unknown = { key: 'k', version: undefined, format: undefined };
    await assert.rejects(getPublicKey(world.ports, world.call(), unknown), { code: 'INVALID_REQUEST' });
  });
});
