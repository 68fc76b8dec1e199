// Following a tenant's changes: a snapshot, then every change in order, and a catalogue that was taken back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FollowStep } from '../../../registry/catalog/follow.ts';
import type { Position } from '../../../registry/catalog/store.ts';
import { keyOffer, openCatalog } from './fixture.ts';

const REGISTRY = { kind: 'registry' } as const;
const START = { position: 0, head: Buffer.alloc(0) };
const WAIT_MS = 30_000;

const followed = (opened: Awaited<ReturnType<typeof openCatalog>>, from: Position = START) => {
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), WAIT_MS);
  const steps = opened.catalog.follow(REGISTRY, 'acme', from, end.signal);
  return {
    next: async (): Promise<FollowStep> => {
      const { value } = await steps.next();
      return value ?? assert.fail('no further step came in time');
    },
    ends: async () => (await steps.next()).done === true,
    stop: async () => {
      clearTimeout(timer);
      end.abort();
      await steps.return();
    },
  };
};

test('begins with what is there, then tells every change of any host', async (t) => {
  const opened = await openCatalog(t);
  await opened.catalog.put(keyOffer({ keyId: 'b' }));
  await opened.catalog.put(keyOffer({ keyId: 'a' }));
  const follow = followed(opened);
  const snapshot = await follow.next();
  assert.ok(snapshot.kind === 'snapshot' && snapshot.begins);
  assert.deepEqual(
    snapshot.rows.map(({ name }) => name),
    ['a', 'b'],
  );
  assert.equal(snapshot.ends?.position, 2);
  const waiting = follow.next();
  await opened.catalog.put(keyOffer({ keyId: 'c' }, 'h-2'));
  const step = await waiting;
  assert.ok(step.kind === 'changes' && step.rows[0]?.host === 'h-2' && step.at.position === 3);
  await follow.stop();
});

test('tells a caller that is up to date so, and one that is behind what it lacks', async (t) => {
  const opened = await openCatalog(t);
  const first = await opened.catalog.put(keyOffer({ keyId: 'a' }));
  const second = await opened.catalog.put(keyOffer({ keyId: 'b' }));
  const current = followed(opened, second);
  const step = await current.next();
  assert.ok(step.kind === 'changes' && step.caughtUp && step.rows.length === 0);
  await current.stop();
  const behind = followed(opened, first);
  const lacks = await behind.next();
  assert.ok(lacks.kind === 'changes' && lacks.caughtUp && lacks.rows[0]?.name === 'b');
  await behind.stop();
});

test('pages through a snapshot of many entries', async (t) => {
  const opened = await openCatalog(t);
  for (let at = 0; at < 70; at += 1) await opened.catalog.put(keyOffer({ keyId: `k-${at}` }));
  const follow = followed(opened);
  const [one, two] = [await follow.next(), await follow.next()];
  assert.ok(one.kind === 'snapshot' && one.begins && one.ends === undefined && one.rows.length === 64);
  assert.ok(two.kind === 'snapshot' && !two.begins && two.ends?.position === 70 && two.rows.length === 6);
  await follow.stop();
});

for (const [what, from] of [
  ['ahead of it', { position: 5, head: Buffer.alloc(32, 1) }],
  ['of another past', { position: 1, head: Buffer.alloc(32, 1) }],
] as const) {
  test(`tells a caller that is ${what} of a rewound catalogue, and nothing else`, async (t) => {
    const opened = await openCatalog(t);
    await opened.catalog.put(keyOffer());
    const follow = followed(opened, from);
    const step = await follow.next();
    assert.ok(step.kind === 'rewound' && step.at.position === 1);
    await opened.catalog.put(keyOffer({ keyId: 'another' }));
    await opened.rebuilds.begin('acme', 'alice', 0);
    const after = await follow.next();
    assert.ok(after.kind === 'rebuilt' && after.open, 'nothing but a rebuild follows');
    assert.deepEqual(
      opened.told.findLast((line) => line.startsWith('rewound')),
      `rewound registry ${from.position} 1`,
    );
    await follow.stop();
  });
}

test('ends with the host that is revoked', async (t) => {
  const opened = await openCatalog(t);
  const end = new AbortController();
  const steps = opened.catalog.follow({ kind: 'host', name: 'h-1' }, 'acme', START, end.signal);
  await steps.next();
  const host = await opened.store.host('h-1');
  assert.ok(host);
  await opened.store.change({ host: { ...host, state: 'REVOKED', revision: 2 } });
  await assert.rejects(steps.next(), { code: 'PERMISSION_DENIED' });
});
