// One read of the store for all who follow a tenant: who is told what, and that nothing is lost on the way.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Actor } from '../../../registry/actor.ts';
import { Catalog } from '../../../registry/catalog/catalog.ts';
import { type Changes, Feed, type FeedOptions } from '../../../registry/catalog/feed.ts';
import type { FollowStep } from '../../../registry/catalog/follow.ts';
import type { Position } from '../../../registry/catalog/store.ts';
import { RegistryError } from '../../../registry/errors.ts';
import { decode, keyOffer, NOW, openCatalog } from './fixture.ts';

const WAIT_MS = 30_000;
const START = { position: 0, head: Buffer.alloc(0) };
const REGISTRY = { kind: 'registry' } as const;

/** A catalogue over the store of `openCatalog` whose reads are counted, and can be held up or made to fail. */
const counted = async (t: TestContext) => {
  const opened = await openCatalog(t);
  const reads = { looks: 0, others: 0 };
  const door = { before: async (): Promise<void> => undefined, after: async (): Promise<void> => undefined };
  const forTenant: typeof opened.store.forTenant = (tenant, actor) => {
    const handle = opened.store.forTenant(tenant, actor);
    const other =
      <A extends unknown[], R>(read: (...of: A) => R) =>
      (...of: A): R => {
        reads.others += 1;
        return read(...of);
      };
    return {
      ...handle,
      look: async (query) => {
        reads.looks += 1;
        await door.before();
        const look = await handle.look(query);
        await door.after();
        return look;
      },
      position: other(handle.position),
      positionAt: other(handle.positionAt),
      entries: other(handle.entries),
      changes: other(handle.changes),
      rebuild: other(handle.rebuild),
    };
  };
  const quiet = { offered: () => undefined, leased: () => undefined, rewound: () => undefined };
  const store = { ...opened.store, forTenant };
  const catalog = new Catalog({ store, clock: { now: () => NOW }, events: quiet, decode });
  return { ...opened, store, catalog, reads, door };
};

const followerOf = (catalog: Catalog, from: Position, actor: Actor = REGISTRY) => {
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(new Error('no step came in time')), WAIT_MS);
  const steps = catalog.follow(actor, 'acme', from, end.signal);
  return {
    next: async (): Promise<FollowStep> => {
      const { value } = await steps.next();
      return value ?? assert.fail('it ended');
    },
    stop: async () => {
      clearTimeout(timer);
      end.abort();
      await steps.return();
    },
  };
};

test('one read of a change serves every watch of a tenant, with one and the same step', async (t) => {
  const { catalog, reads } = await counted(t);
  const first = await catalog.put(keyOffer());
  const followers = Array.from({ length: 50 }, () => followerOf(catalog, first));
  for (const follower of followers) await follower.next();
  const waiting = followers.map((follower) => follower.next());
  Object.assign(reads, { looks: 0, others: 0 });
  await catalog.put(keyOffer({ keyId: 'another' }));
  const steps = await Promise.all(waiting);
  assert.deepEqual(reads, { looks: 1, others: 0 });
  assert.equal(new Set(steps).size, 1);
  assert.ok(steps[0]?.kind === 'changes' && steps[0].at.position === 2);
  await Promise.all(followers.map((follower) => follower.stop()));
});

test('whoever joins where the others stand costs one read, however many changes there were', async (t) => {
  const { catalog, reads } = await counted(t);
  await catalog.put(keyOffer());
  const watching = followerOf(catalog, START);
  await watching.next();
  for (let at = 0; at < 5; at += 1) await catalog.put(keyOffer({ keyId: `k-${at}` }));
  for (let at = 1; at < 6; ) at = ((await watching.next()) as { at: Position }).at.position;
  const now = await catalog.position(REGISTRY, 'acme');
  Object.assign(reads, { looks: 0, others: 0 });
  const joined = followerOf(catalog, now);
  const step = await joined.next();
  assert.ok(step.kind === 'changes' && step.caughtUp && step.rows.length === 0);
  assert.deepEqual(reads, { looks: 1, others: 0 });
  await joined.stop();
  await watching.stop();
});

for (const order of ['before the look of a subscription', 'while it is under way'] as const) {
  test(`loses no change that is made ${order}`, async (t) => {
    const { catalog, door } = await counted(t);
    const first = await catalog.put(keyOffer());
    const [begun, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    door.before = async () => {
      begun.resolve();
      await go.promise;
    };
    const follower = followerOf(catalog, first);
    const step = follower.next();
    await begun.promise;
    if (order === 'before the look of a subscription') {
      await catalog.put(keyOffer({ keyId: 'k-1' }));
      go.resolve();
    } else {
      door.before = async () => undefined;
      go.resolve();
      await catalog.put(keyOffer({ keyId: 'k-1' }));
    }
    const seen: number[] = [];
    const take = (told: FollowStep): void => {
      assert.ok(told.kind === 'changes');
      seen.push(...told.rows.map(({ position }) => position));
    };
    take(await step);
    door.before = async () => undefined;
    await catalog.put(keyOffer({ keyId: 'k-2' }));
    while (seen.at(-1) !== 3) take(await follower.next());
    assert.deepEqual(seen, [2, 3]);
    await follower.stop();
  });
}

test('a slow watch keeps nothing waiting, and gets every change in order all the same', async (t) => {
  const { catalog } = await counted(t);
  const first = await catalog.put(keyOffer());
  const [slow, quick] = [followerOf(catalog, first), followerOf(catalog, first)];
  await slow.next();
  await quick.next();
  const changes = 300; // more runs of changes than are kept
  for (let at = 0; at < changes; at += 1) {
    const step = quick.next();
    await catalog.put(keyOffer({ keyId: `k-${at}` }));
    assert.ok(((await step) as { at: Position }).at.position === at + 2);
  }
  const seen: number[] = [];
  while (seen.length < changes) {
    const step = await slow.next();
    assert.ok(step.kind === 'changes');
    seen.push(...step.rows.map(({ position }) => position));
  }
  assert.deepEqual(
    seen,
    Array.from({ length: changes }, (_, at) => at + 2),
  );
  await slow.stop();
  await quick.stop();
});

test('a look that fails is made again, and the watches that were there lose nothing', async (t) => {
  const { catalog, door } = await counted(t);
  const first = await catalog.put(keyOffer());
  const follower = followerOf(catalog, first);
  await follower.next();
  const step = follower.next();
  let failures = 0;
  door.before = async () => {
    failures += 1;
    if (failures === 1) throw new RegistryError('STORE_UNAVAILABLE');
  };
  await catalog.put(keyOffer({ keyId: 'another' }));
  const told = await step;
  assert.ok(told.kind === 'changes' && told.at.position === 2);
  assert.ok(failures >= 2);
  door.before = async () => {
    throw new RegistryError('STORE_UNAVAILABLE');
  };
  const late = followerOf(catalog, first);
  await assert.rejects(late.next(), { code: 'STORE_UNAVAILABLE' });
  await late.stop();
  await follower.stop();
});

test('a host that lost the tenant is told nothing of a change made after that, and the others are', async (t) => {
  const { catalog, store } = await counted(t);
  const first = await catalog.put(keyOffer());
  const [stays, goes] = ['h-1', 'h-2'].map((name) => followerOf(catalog, first, { kind: 'host', name }));
  assert.ok(stays && goes);
  await stays.next();
  await goes.next();
  const row = await store.host('h-2');
  assert.ok(row);
  const [refused, told] = [assert.rejects(goes.next(), { code: 'PERMISSION_DENIED' }), stays.next()];
  await store.change({ host: { ...row, tenants: ['other'], revision: 2 } });
  await refused;
  await catalog.put(keyOffer({ keyId: 'another' }));
  assert.ok(((await told) as { at: Position }).at.position === 2);
  await goes.stop();
  await stays.stop();
});

test('a host that is revoked while its subscription is looked at is judged once more', async (t) => {
  const { catalog, store, door } = await counted(t);
  const first = await catalog.put(keyOffer());
  const [begun, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  door.after = async () => {
    begun.resolve();
    await go.promise;
  };
  const follower = followerOf(catalog, first, { kind: 'host', name: 'h-2' });
  const steps = (async () => {
    for (;;) await follower.next();
  })();
  const refused = assert.rejects(steps, { code: 'PERMISSION_DENIED' });
  await begun.promise;
  const row = await store.host('h-2');
  assert.ok(row);
  const told = Promise.withResolvers<void>();
  const stop = store.watchHosts(() => told.resolve());
  await store.change({ host: { ...row, state: 'REVOKED', revision: 2 } });
  await told.promise;
  stop();
  door.after = async () => undefined;
  go.resolve();
  await refused;
  await follower.stop();
});

test('what was read for all is kept while a tenant changes, and not when it is quiet', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const head = (position: number) => ({ position, head: Buffer.alloc(32, position) });
  const row = {
    ...head(1),
    kind: 'key',
    name: 'k',
    revision: 1,
    entry: Buffer.alloc(8),
    host: 'h-1',
    changedAt: NOW,
  } as const;
  let now: Position = START;
  let wake = (): void => undefined;
  const feed = new Feed({
    store: {
      look: async ({ after }) => {
        const rows = after !== undefined && after.position < now.position ? [row] : [];
        return { position: now, known: true, rows, rebuild: undefined, refused: [] };
      },
    },
    watch: (listener) => {
      wake = listener;
      return () => undefined;
    },
    watchRebuilds: () => () => undefined,
    watchReaders: () => () => undefined,
    emptied: () => undefined,
  });
  const seat = await feed.join(REGISTRY);
  now = head(1);
  wake();
  await feed.look();
  assert.equal((feed.behind(START) as Changes).rows.length, 1);
  t.mock.timers.tick(60_000);
  await feed.look();
  assert.deepEqual([feed.behind(START), feed.behind(now)], [undefined, 'nothing']);
  feed.leave(seat);
});

test('nobody follows any more: the feed listens no longer', async () => {
  const listening = new Set<string>();
  const watch = (what: string) => () => {
    listening.add(what);
    return () => void listening.delete(what);
  };
  let emptied = 0;
  const options: FeedOptions = {
    store: {
      look: async () => ({ position: START, known: true, rows: [], rebuild: undefined, refused: [] }),
    },
    watch: watch('changes'),
    watchRebuilds: watch('rebuilds'),
    watchReaders: watch('readers'),
    emptied: () => {
      emptied += 1;
    },
  };
  const feed = new Feed(options);
  const seats = [await feed.join(REGISTRY), await feed.join(REGISTRY)];
  assert.equal(listening.size, 3);
  for (const seat of seats) feed.leave(seat);
  assert.deepEqual([listening.size, emptied], [0, 1]);
});
