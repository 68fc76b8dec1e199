// Rebuilding a tenant's catalogue from what its hosts know: the later state wins, nothing that was revoked comes back, and
// counts of uses only rise.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import type { Offer } from '../../../registry/catalog/catalog.ts';
import type { FoundObject } from '../../../registry/catalog/found-objects.ts';
import { type OfferPage, Rebuilds } from '../../../registry/catalog/rebuild.ts';
import type { OfferRow } from '../../../registry/catalog/store.ts';
import { decode, kekOffer, keyOffer, NOW, openCatalog, wrappedOffer } from './fixture.ts';

const REGISTRY = { kind: 'registry' } as const;
const code =
  (expected: string) =>
  (error: unknown): boolean =>
    (error as { code?: unknown }).code === expected;

const opening = async (t: TestContext) => {
  const opened = await openCatalog(t);
  const { rebuilds, catalog } = opened;
  const begin = async (): Promise<string> => (await rebuilds.begin('acme', 'alice', 0)).row.id;
  const tell = (host: string, rebuild: string, offers: readonly Offer[], uses: OfferRow['uses'] = []) =>
    rebuilds.offer('acme', { host, rebuild, entries: offers, uses, complete: true });
  const stateOf = async (keyId: string): Promise<[number, string]> => {
    const row = await catalog.get(REGISTRY, 'acme', { kind: 'key', name: keyId });
    return [row.revision, JSON.parse(row.entry.toString('utf8', 1)).state];
  };
  return { ...opened, begin, tell, stateOf };
};

const key = (revision: number, change: Partial<KeyRecord> = {}): Offer =>
  keyOffer({ keyId: 'orders', revision, ...change });

test('a catalogue that was lost is what its hosts know together, each entry as the one knows it who knows most', async (t) => {
  const { begin, tell, stateOf, rebuilds, catalog } = await opening(t);
  const id = await begin();
  await tell('h-1', id, [kekOffer({ state: 'LIVE', revision: 2 }), key(1), keyOffer({ keyId: 'alone' })]);
  const { stored, conflicts } = await tell('h-2', id, [key(3, { state: 'SUSPENDED' }), kekOffer()]);
  assert.deepEqual([stored, conflicts], [1, []]);
  assert.deepEqual(await stateOf('orders'), [3, 'SUSPENDED']);
  assert.deepEqual(await stateOf('alone'), [1, 'ACTIVE']);
  assert.equal((await catalog.get(REGISTRY, 'acme', { kind: 'kek', name: '1' })).revision, 2);
  const { state, missing, offers } = await rebuilds.end('acme', 'alice', false);
  assert.deepEqual([state, missing, offers.map(({ entries }) => entries)], ['ENDED', [], [3, 2]]);
  assert.equal((await rebuilds.end('acme', 'alice', false)).state, 'ENDED');
});

test('a key that one host knows as revoked stays so, whatever another has made of it, and both are named', async (t) => {
  const { begin, tell, stateOf, rebuilds } = await opening(t);
  const id = await begin();
  await tell('h-1', id, [key(5)]);
  const { conflicts } = await tell('h-2', id, [key(4, { state: 'REVOKED' })]);
  assert.match(conflicts[0]?.reason ?? '', /ACTIVE after REVOKED/);
  assert.deepEqual(await stateOf('orders'), [4, 'REVOKED']);
  const again = await tell('h-1', id, [key(5)]);
  assert.equal(again.conflicts.length, 1);
  assert.deepEqual(await stateOf('orders'), [4, 'REVOKED']);
  const { offers } = await rebuilds.state('acme', REGISTRY);
  assert.deepEqual(
    offers.map(({ host, conflicts: named }) => [host, named.map(({ name }) => name)]),
    [
      ['h-1', ['orders']],
      ['h-2', ['orders']],
    ],
  );
});

test('of two states of one revision the one that is there stays, and that is a conflict', async (t) => {
  const { begin, tell, stateOf } = await opening(t);
  const id = await begin();
  await tell('h-1', id, [key(2)]);
  const { stored, conflicts } = await tell('h-2', id, [key(2, { labels: { team: 'red' } })]);
  assert.equal(stored, 0);
  assert.match(conflicts[0]?.reason ?? '', /both have revision 2/);
  assert.deepEqual(await stateOf('orders'), [2, 'ACTIVE']);
});

test('a key encryption key of another object is a conflict and does not take its place', async (t) => {
  const { begin, tell, catalog } = await opening(t);
  const id = await begin();
  await tell('h-1', id, [kekOffer({ state: 'LIVE', revision: 2 })]);
  const { conflicts } = await tell('h-2', id, [kekOffer({ revision: 4, state: 'LIVE', tokenId: Buffer.alloc(16, 9) })]);
  assert.equal(conflicts.length, 1);
  assert.equal((await catalog.get(REGISTRY, 'acme', { kind: 'kek', name: '1' })).revision, 2);
});

test('nothing else changes the catalogue while it is rebuilt, and nothing is told when it is not', async (t) => {
  const { begin, tell, catalog, rebuilds } = await opening(t);
  await assert.rejects(tell('h-1', 'ab'.repeat(16), [key(1)]), code('REBUILD_CLOSED'));
  const id = await begin();
  const lease = { id: 'cd'.repeat(16), host: 'h-1', keyId: 'orders', version: 1, wanted: 1 };
  await assert.rejects(catalog.put(keyOffer()), code('REBUILDING'));
  await assert.rejects(catalog.lease('acme', lease), code('REBUILDING'));
  await assert.rejects(tell('h-9', id, [key(1)]), code('PERMISSION_DENIED'));
  await tell('h-1', id, []);
  await assert.rejects(rebuilds.end('acme', 'alice', false), code('HOSTS_MISSING'));
  await rebuilds.end('acme', 'alice', true);
  await assert.rejects(tell('h-2', id, [key(1)]), code('REBUILD_CLOSED'));
  await catalog.put(keyOffer());
  assert.equal((await rebuilds.begin('acme', 'alice', 0)).row.id === id, false);
});

test('uses of a hard limit are what all hosts have made, or what one has heard, whichever is more', async (t) => {
  const { begin, tell, catalog, rebuilds } = await opening(t);
  const id = await begin();
  const limits = { hardUses: 100 };
  const used = (made: number, leased: number, keyId: string) => ({ keyId, version: 1, made, leased });
  const offers = [key(1, { limits }), keyOffer({ keyId: 'heard', limits })];
  await tell('h-1', id, offers, [used(40, 50, 'orders'), used(1, 90, 'heard')]);
  await tell('h-2', id, offers, [used(44, 30, 'orders'), used(1, 20, 'heard')]);
  await rebuilds.end('acme', 'alice', false);
  const leased = async (keyId: string, at: number) => {
    const request = { id: String(at).repeat(32), host: 'h-1', keyId, version: 1, wanted: 1 };
    return (await catalog.lease('acme', request)).leased;
  };
  assert.deepEqual([await leased('orders', 1), await leased('heard', 2)], [85, 91]);
});

test('where hosts are missing every hard limit counts as used up', async (t) => {
  const { begin, tell, catalog, rebuilds } = await opening(t);
  const id = await begin();
  await tell('h-1', id, [key(1, { limits: { hardUses: 100 } })], [{ keyId: 'orders', version: 1, made: 3, leased: 8 }]);
  await rebuilds.end('acme', 'alice', true);
  const request = { id: 'cd'.repeat(16), host: 'h-1', keyId: 'orders', version: 1, wanted: 1 };
  await assert.rejects(catalog.lease('acme', request), code('KEY_LIMIT'));
});

test('what a host tells while the rebuild is ended is refused, not lost', async (t) => {
  const { begin, tell, store } = await opening(t);
  const id = await begin();
  await tell('h-1', id, [key(1)]);
  const refused: unknown[] = [];
  const forTenant: typeof store.forTenant = (tenant, actor) => {
    const handle = store.forTenant(tenant, actor);
    const entries: typeof handle.entries = async (query) => {
      const late = tell('h-2', id, [keyOffer({ keyId: 'late', limits: { hardUses: 9 } })]);
      await late.catch((thrown) => refused.push(thrown.code));
      return handle.entries(query);
    };
    return { ...handle, entries };
  };
  const ending = new Rebuilds({
    ...{
      store: { ...store, forTenant },
      clock: { now: () => NOW },
      decode,
      encode: () => assert.fail('nothing is made'),
    },
    ...{ events: { rebuild: () => undefined }, hostsOf: async () => ['h-1', 'h-2'] },
  });
  const { missing, state } = await ending.end('acme', 'alice', true);
  assert.deepEqual([state, missing, new Set(refused)], ['ENDED', ['h-2'], new Set(['REBUILD_CLOSED'])]);
});

const found = (version: number, change: Partial<FoundObject> = {}): FoundObject => ({
  ...{ kind: 'key', name: 'lost', version, tokenId: `0${version}`.repeat(16), jose: 'A256GCMKW', algorithm: 'AES-256' },
  ...{ purpose: 'encrypt', imported: false, ...change },
});

test('keys that only the token has are made anew at the end, suspended; later a host that knows better is believed', async (t) => {
  const { begin, stateOf, rebuilds, catalog } = await opening(t);
  const id = await begin();
  const page = { rebuild: id, uses: [], complete: true };
  const kek = { kind: 'kek', name: '4', jose: '' } as const;
  const objects = [found(1), found(2), found(4, kek), found(3, { name: 'orders', fault: 'cannot be used' })];
  await rebuilds.offer('acme', { ...page, host: 'h-1', entries: [key(2)], objects: [] });
  await rebuilds.offer('acme', { ...page, host: 'h-1', entries: [], objects });
  await rebuilds.offer('acme', { ...page, host: 'h-1', entries: [], objects }); // told again, it is the same
  await assert.rejects(rebuilds.end('acme', 'alice', false), code('HOSTS_MISSING'));
  const { findings, offers } = await rebuilds.end('acme', 'alice', true);
  assert.deepEqual(findings.map(({ name, outcome, versions }) => [name, outcome, ...versions]).sort(), [
    ['4', 'RESERVED'],
    ['lost', 'RECREATED', 1, 2],
    ['orders', 'LEFT', 3],
  ]);
  assert.deepEqual(
    offers.map(({ host, objects: told }) => [host, told?.length]),
    [['h-1', 4]],
  );
  assert.deepEqual(await stateOf('lost'), [1, 'SUSPENDED']);
  assert.equal((await catalog.get(REGISTRY, 'acme', { kind: 'kek', name: '4' })).revision, 1);
  assert.deepEqual((await rebuilds.end('acme', 'alice', false)).findings, findings);

  const again = await begin();
  const known = keyOffer({ keyId: 'lost', revision: 1, state: 'REVOKED' });
  const { conflicts } = await rebuilds.offer('acme', { ...page, rebuild: again, host: 'h-2', entries: [known] });
  assert.deepEqual([conflicts, await stateOf('lost')], [[], [1, 'REVOKED']]);
});

test('a key stays revoked that was given versions of the token, whatever a host tells afterwards; the same step of a host counts', async (t) => {
  const { begin, tell, rebuilds, stateOf } = await opening(t);
  const first = await begin();
  const page = { host: 'h-1', rebuild: first, uses: [], complete: true };
  await tell('h-1', first, [key(5, { state: 'REVOKED' }), keyOffer({ keyId: 'open', revision: 2 })]);
  const objects = [found(2, { name: 'orders' }), found(3, { name: 'open' })];
  await rebuilds.offer('acme', { ...page, entries: [], objects });
  const { findings } = await rebuilds.end('acme', 'alice', true);
  assert.deepEqual(findings.map(({ name, outcome }) => `${outcome} ${name}`).sort(), [
    'ADDED open',
    'ADDED orders',
    'LOST open',
  ]);
  assert.deepEqual(
    [await stateOf('orders'), await stateOf('open')],
    [
      [6, 'REVOKED'],
      [3, 'ACTIVE'],
    ],
  );

  const again = await begin();
  const host = await tell('h-2', again, [key(3), keyOffer({ keyId: 'open', revision: 3, state: 'SUSPENDED' })]);
  assert.deepEqual(await stateOf('orders'), [6, 'REVOKED'], 'what it knows is older');
  assert.deepEqual(await stateOf('open'), [3, 'SUSPENDED'], 'the token has no word in the state of a key');
  assert.deepEqual(
    host.conflicts.map(({ name }) => name),
    ['open'],
  );
});

test('objects that entries name are not of interest, whoever told them, and in whatever order', async (t) => {
  const { begin, rebuilds, stateOf } = await opening(t);
  const id = await begin();
  const page = { rebuild: id, uses: [], complete: true };
  const mine = found(1, { name: 'orders', tokenId: '00'.repeat(16) });
  await rebuilds.offer('acme', { ...page, host: 'h-2', entries: [], objects: [mine] });
  await rebuilds.offer('acme', { ...page, host: 'h-1', entries: [key(3)] });
  const { findings } = await rebuilds.end('acme', 'alice', false);
  assert.deepEqual([findings, await stateOf('orders')], [[], [3, 'ACTIVE']]);
});

test('wrapped versions whose KEK the token does not hold any more are named as lost, if a host could look', async (t) => {
  const { begin, rebuilds } = await opening(t);
  const keks = [1, 2].map((version) =>
    kekOffer({ version, tokenId: Buffer.alloc(16, version), state: 'LIVE', revision: 2 }),
  );
  const kek = { kind: 'kek', name: '1', jose: '', tokenId: '01'.repeat(16) } as const;
  const ends = async (told: Partial<OfferPage>) => {
    const page = { host: 'h-1', rebuild: await begin(), uses: [], complete: true };
    await rebuilds.offer('acme', { ...page, entries: [...keks, wrappedOffer(1), wrappedOffer(2)], ...told });
    await rebuilds.offer('acme', { ...page, entries: [], objects: [found(1, kek)], ...told });
    const { findings } = await rebuilds.end('acme', 'alice', true);
    return findings.map(({ name, outcome }) => [name, outcome]);
  };
  assert.deepEqual(await ends({}), [['under-2', 'LOST']]);
  assert.deepEqual(await ends({ tokenUnread: 'the token is away' }), [], 'nobody could look');
});

test('a host that is far ahead gets the snapshot of the rebuilt catalogue, once', async (t) => {
  const { begin, tell, catalog, rebuilds } = await opening(t);
  const id = await begin();
  await tell('h-1', id, [key(7)]);
  await rebuilds.end('acme', 'alice', true);
  const steps = async (from: { position: number; head: Buffer; rebuild?: string }, count: number) => {
    const end = new AbortController();
    const timer = setTimeout(() => end.abort(), 30_000);
    const seen: string[] = [];
    for await (const step of catalog.follow(REGISTRY, 'acme', from, end.signal)) {
      seen.push(step.kind === 'rebuilt' ? `rebuilt ${step.open}` : step.kind);
      if (seen.length === count) break;
    }
    clearTimeout(timer);
    return seen;
  };
  const ahead = { position: 900, head: Buffer.alloc(32, 1) };
  assert.deepEqual(await steps(ahead, 2), ['rebuilt false', 'snapshot']);
  assert.deepEqual(await steps({ ...ahead, rebuild: id }, 1), ['rewound']);
  const at = await catalog.position(REGISTRY, 'acme');
  assert.deepEqual(await steps({ ...at, rebuild: id }, 1), ['changes']);
});
