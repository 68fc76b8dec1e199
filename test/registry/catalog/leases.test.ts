// Leases of uses: a hard limit is never exceeded, whoever asks, and whatever is never given back.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { aVersion } from '../../support/key-records.ts';
import { keyOffer, openCatalog } from './fixture.ts';

const request = (change: object = {}) => ({
  ...{ id: randomBytes(16).toString('hex'), host: 'h-1', keyId: 'invoices', version: 1, wanted: 1000, ...change },
});

test('many hosts together are never granted more than the hard limit', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(keyOffer({ limits: { hardUses: 500 } }));
  let granted = 0;
  for (;;) {
    const round = await Promise.allSettled(
      ['h-1', 'h-2', 'h-1', 'h-2'].map((host) => catalog.lease('acme', request({ host }))),
    );
    for (const answer of round) if (answer.status === 'fulfilled') granted += answer.value.granted;
    const refused = round.find((answer) => answer.status === 'rejected');
    if (refused === undefined) continue;
    assert.equal(refused.reason.code, 'KEY_LIMIT');
    break;
  }
  assert.equal(granted, 500);
});

test('the first host to ask gets a share, so that others get some too', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(keyOffer({ limits: { hardUses: 160 } }));
  const { granted, leased, hardUses } = await catalog.lease('acme', request());
  assert.deepEqual({ granted, leased, hardUses }, { granted: 10, leased: 10, hardUses: 160 });
  assert.equal((await catalog.lease('acme', request({ wanted: 2 }))).granted, 2);
});

test('a key without a hard limit grants what is asked for, and counts', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(keyOffer());
  await catalog.lease('acme', request());
  const { granted, leased, hardUses } = await catalog.lease('acme', request());
  assert.deepEqual({ granted, leased, hardUses }, { granted: 1000, leased: 2000, hardUses: 0 });
});

test('a repeated request takes nothing, and its id stands for nothing else', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(keyOffer({ limits: { hardUses: 160 } }));
  const once = request();
  const first = await catalog.lease('acme', once);
  assert.deepEqual(await catalog.lease('acme', once), first);
  for (const change of [{ wanted: 1 }, { host: 'h-2' }]) {
    await assert.rejects(catalog.lease('acme', { ...once, ...change }), { code: 'LEASE_UNKNOWN' });
  }
  assert.equal((await catalog.lease('acme', request({ wanted: 1 }))).leased, 11);
});

test('unused uses come back once', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(keyOffer({ limits: { hardUses: 160 } }));
  const { id, granted } = await catalog.lease('acme', request());
  await assert.rejects(catalog.endLease({ id, host: 'h-2', unused: 1 }), { code: 'LEASE_UNKNOWN' });
  await assert.rejects(catalog.endLease({ id, host: 'h-1', unused: granted + 1 }), { code: 'INVALID_REQUEST' });
  await catalog.endLease({ id, host: 'h-1', unused: 4 });
  await catalog.endLease({ id, host: 'h-1', unused: 4 });
  await assert.rejects(catalog.endLease({ id, host: 'h-1', unused: 5 }), { code: 'INVALID_REQUEST' });
  await assert.rejects(catalog.endLease({ id: 'ff'.repeat(16), host: 'h-1', unused: 0 }), { code: 'LEASE_UNKNOWN' });
  assert.equal((await catalog.lease('acme', request({ wanted: 1 }))).leased, 7);
});

test('only the primary version of a usable key is leased', async (t) => {
  const { catalog } = await openCatalog(t);
  await assert.rejects(catalog.lease('acme', request()), { code: 'KEY_UNKNOWN' });
  const versions = [aVersion({ state: 'RETIRED' }), aVersion({ version: 2, tokenId: '11'.repeat(16) })];
  await catalog.put(keyOffer());
  await catalog.put(keyOffer({ revision: 2, versions }));
  await assert.rejects(catalog.lease('acme', request()), { code: 'KEY_STATE' });
  await catalog.lease('acme', request({ version: 2 }));
  await catalog.put(keyOffer({ revision: 3, versions, state: 'SUSPENDED' }));
  await assert.rejects(catalog.lease('acme', request({ version: 2 })), { code: 'KEY_STATE' });
});
