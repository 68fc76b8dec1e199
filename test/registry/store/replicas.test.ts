// Catalogue and ledger over two replicas of one PostgreSQL: what one takes the other has, and nobody is served twice.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { BundleVerifier } from '../../../proto/documents/audit-bundle.ts';
import { verifyReceipt } from '../../../proto/documents/tlog-proof.ts';
import { Catalog } from '../../../registry/catalog/catalog.ts';
import type { FollowStep } from '../../../registry/catalog/follow.ts';
import { openPostgresStore } from '../../../registry/store/postgres/store.ts';
import type { RegistryStore } from '../../../registry/store/store.ts';
import { aVersion } from '../../support/key-records.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { startPostgres, type TestPostgres } from '../../support/postgres.ts';
import { decode, keyOffer, NOW } from '../catalog/fixture.ts';
import { cosigner, enrol, ledgerOver, REGISTRY, streamOf } from '../ledger/fixture.ts';

const events = { failed: () => undefined, reconnected: () => undefined };
const WAIT_MS = 30_000;
let postgres: TestPostgres;
let stores: readonly RegistryStore[];
before(async () => {
  postgres = await startPostgres();
  const { url } = await postgres.database();
  stores = await Promise.all([0, 1].map(() => openPostgresStore({ url, events, connections: 4 })));
  for (const host of ['h-1', 'h-2']) await enrol(stores[0] as RegistryStore, host);
  await enrol(stores[0] as RegistryStore, 'h-3', ['other']);
});
after(async () => {
  await Promise.all(stores.map((store) => store.close()));
  await postgres[Symbol.asyncDispose]();
});

const catalogs = () =>
  stores.map((store) => {
    const quiet = { offered: () => undefined, leased: () => undefined, rewound: () => undefined };
    return new Catalog({ store, clock: { now: () => NOW }, events: quiet, decode });
  }) as [Catalog, Catalog];

test('of rotations at two replicas one is stored, and the other replica tells of it', async () => {
  const [here, there] = catalogs();
  const first = await here.put(keyOffer({ limits: { hardUses: 100 } }));
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(new Error('no change came in time')), WAIT_MS);
  const steps = there.follow(REGISTRY, 'acme', first, end.signal);
  const known = (await steps.next()).value as FollowStep;
  assert.ok(known.kind === 'changes' && known.caughtUp);
  const told = steps.next();
  const rotated = [here, there].map((catalog, at) => {
    const versions = [aVersion({ state: 'RETIRED' }), aVersion({ version: 2, tokenId: `${at}1`.repeat(16) })];
    return catalog.put(keyOffer({ revision: 2, versions, limits: { hardUses: 100 } }, `h-${at + 1}`));
  });
  const answers = await Promise.allSettled(rotated);
  assert.deepEqual(answers.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  const step = (await told).value as FollowStep;
  assert.ok(step.kind === 'changes' && step.at.position === 2);
  clearTimeout(timer);
  end.abort();
  await steps.return();
});

test('every watch at both replicas gets all changes of both once and in order, whenever it began', async () => {
  const both = catalogs();
  const tenant = 'other';
  const changes = 20;
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(new Error('not every change came in time')), WAIT_MS);
  const start = { position: 0, head: Buffer.alloc(0) };
  const watch = async (catalog: Catalog): Promise<number[]> => {
    const seen: number[] = [];
    for await (const step of catalog.follow(REGISTRY, tenant, start, end.signal)) {
      if (step.kind === 'snapshot') seen.push(...Array.from({ length: step.ends?.position ?? 0 }, (_, at) => at + 1));
      if (step.kind === 'changes') seen.push(...step.rows.map(({ position }) => position));
      if (seen.at(-1) === changes) break;
    }
    return seen;
  };
  const watches = both.map(watch);
  for (let at = 0; at < changes; at += 1) {
    const catalog = both[at % 2] as Catalog;
    await catalog.put(keyOffer({ keyId: `k-${at}` }, 'h-3', tenant));
    if (at % 5 === 0) watches.push(...both.map(watch));
  }
  for (const seen of await Promise.all(watches)) {
    assert.deepEqual(
      seen,
      Array.from({ length: changes }, (_, at) => at + 1),
    );
  }
  clearTimeout(timer);
});

test('leases at two replicas never exceed the hard limit together', async () => {
  const asks = Array.from({ length: 120 }, (_, at) => {
    const catalog = catalogs()[at % 2] as Catalog;
    const id = randomBytes(16).toString('hex');
    return catalog.lease('acme', { id, host: `h-${(at % 2) + 1}`, keyId: 'invoices', version: 2, wanted: 50 });
  });
  const answers = await Promise.allSettled(asks);
  const granted = answers.map((answer) => (answer.status === 'fulfilled' ? answer.value.granted : 0));
  assert.equal(
    granted.reduce((sum, count) => sum + count, 0),
    100,
  );
});

test('a log handed in at one replica and then the other is whole, provable, and exported by either', async () => {
  const host = new LedgerHost().fill(600);
  const [one, two] = stores.map(ledgerOver) as [ReturnType<typeof ledgerOver>, ReturnType<typeof ledgerOver>];
  const first = await streamOf(one, host);
  await first.session.batch(host.batch(0, 300, [await host.checkpoint(300)]));
  const second = await streamOf(two, host);
  assert.ok(second.opened.kind === 'acknowledged' && second.opened.size === 300);
  const answer = await second.session.batch(host.batch(250, 600, [await host.checkpoint(600)]));
  assert.ok(answer?.kind === 'acknowledged' && answer.size === 600);
  const verified = await one.ledger.verify(REGISTRY, 'acme', { trusted: [await host.checkpoint(400)] });
  assert.deepEqual(verified, { intact: true, logs: 1, records: 600, findings: [] });
  const { proof, row } = await one.ledger.receipt(REGISTRY, 'acme', `h-1/${host.epoch}/513`);
  assert.equal(verifyReceipt({ proof, ...row }, { publicJwk: host.publicJwk, cosigner }).index, 512);
  let text = '';
  for await (const piece of two.ledger.export(REGISTRY, 'acme', {}, 'bundle')) text += piece;
  const verifier = new BundleVerifier({ keyOf: () => host.publicJwk, cosigner });
  for (const line of text.trimEnd().split('\n')) verifier.line(line);
  assert.deepEqual([verifier.end().intact, verifier.end().logs[0]?.proven], [true, 600]);
  const page = await two.ledger.query(REGISTRY, 'acme', { filter: { correlationId: 'c-599' }, limit: 9 });
  assert.equal(page.rows[0]?.index, 599);
  const fork = host.takenBack(599);
  fork.add({ principal: 'somebody else' });
  const refused = await (await streamOf(one, fork)).session.batch(fork.batch(590));
  assert.ok(refused?.kind === 'refused' && refused.code === 'LEDGER_FORKED' && refused.index === 599);
});
