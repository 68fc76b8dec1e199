// The catalogue: compare-and-set under the rules of records, and nothing across tenants.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { aVersion } from '../../support/key-records.ts';
import { kekOffer, keyOffer, openCatalog, wrappedOffer } from './fixture.ts';

const rotated = (change: Partial<KeyVersionRecord> = {}): readonly KeyVersionRecord[] => [
  aVersion({ state: 'RETIRED' }),
  aVersion({ version: 2, tokenId: '11'.repeat(16), ...change }),
];

test('stores a record, and answers the same bytes as the first time', async (t) => {
  const { catalog, told } = await openCatalog(t);
  const first = await catalog.put(keyOffer());
  assert.equal(first.position, 1);
  assert.deepEqual(await catalog.put(keyOffer()), first);
  const row = await catalog.get({ kind: 'host', name: 'h-2' }, 'acme', { kind: 'key', name: 'invoices' });
  assert.equal(row.host, 'h-1');
  assert.deepEqual(row.entry, keyOffer().entry);
  assert.deepEqual(told, ['h-1 key invoices ok', 'h-1 key invoices ok']);
});

test('lets one of two concurrent rotations through, and names the stored revision to the other', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(keyOffer());
  const offers = ['h-1', 'h-2'].map((host, at) =>
    keyOffer({ revision: 2, versions: rotated({ tokenId: `${at}1`.repeat(16) }) }, host),
  );
  const answers = await Promise.allSettled(offers.map((offer) => catalog.put(offer)));
  const refused = answers.filter((answer) => answer.status === 'rejected');
  assert.equal(refused.length, 1);
  assert.equal(refused[0]?.reason.code, 'KEY_CONFLICT');
  assert.equal(refused[0]?.reason.metadata.revision, '2');
  assert.equal((await catalog.position({ kind: 'registry' }, 'acme')).position, 2);
});

test('tells apart what is there, what is not, and what does not follow', async (t) => {
  const { catalog } = await openCatalog(t);
  await assert.rejects(catalog.put({ ...keyOffer({ revision: 3 }) }), { code: 'KEY_UNKNOWN' });
  await catalog.put(keyOffer());
  await assert.rejects(catalog.put(keyOffer({ labels: { a: 'b' } })), { code: 'KEY_EXISTS' });
  await assert.rejects(catalog.put({ ...keyOffer({ revision: 4 }), expectedRevision: 1 }), { code: 'RECORD_INVALID' });
  await assert.rejects(catalog.get({ kind: 'registry' }, 'acme', { kind: 'key', name: 'no' }), { code: 'KEY_UNKNOWN' });
});

const CHANGES: readonly (readonly [string, Partial<KeyRecord>])[] = [
  ['loses a version', { versions: [aVersion({ version: 2 })] }],
  ['alters a version', { versions: [aVersion({ algorithm: 'AES-128', jose: 'A128GCMKW' })] }],
  ['moves a version to other key material', { versions: [aVersion({ tokenId: 'ff'.repeat(16) })] }],
  ['changes the purpose', { purpose: 'mac', versions: [aVersion({ algorithm: 'HMAC-SHA256', jose: 'HS256' })] }],
  ['changes when it was made', { createdAt: 5 }],
];
for (const [what, change] of CHANGES) {
  test(`takes no record that ${what}`, async (t) => {
    const { catalog } = await openCatalog(t);
    await catalog.put(keyOffer());
    await assert.rejects(catalog.put(keyOffer({ revision: 2, ...change })), { code: 'RECORD_INVALID' });
    assert.equal((await catalog.position({ kind: 'registry' }, 'acme')).position, 1);
  });
}

test('lets nothing leave REVOKED or DESTROYED', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(keyOffer({ state: 'REVOKED' }));
  const pending = { state: 'PENDING_DESTRUCTION', destroyAt: 9 } as const;
  await assert.rejects(catalog.put(keyOffer({ revision: 2 })), { code: 'RECORD_INVALID' });
  await assert.rejects(catalog.put(keyOffer({ revision: 2, ...pending, stateBefore: 'ACTIVE' })), {
    code: 'RECORD_INVALID',
  });
  await catalog.put(keyOffer({ revision: 2, ...pending, stateBefore: 'REVOKED' }));
  await assert.rejects(catalog.put(keyOffer({ revision: 3 })), { code: 'RECORD_INVALID' });
  const { tokenId: _, ...rest } = aVersion({ state: 'DESTROYED' });
  await catalog.put(keyOffer({ revision: 3, state: 'DESTROYED', versions: [rest] }));
  await assert.rejects(catalog.put(keyOffer({ revision: 4 })), { code: 'RECORD_INVALID' });
});

test('takes a version out of RETIRED to REVOKED, and not back', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(keyOffer());
  await catalog.put(keyOffer({ revision: 2, versions: rotated() }));
  const revoked = [aVersion({ state: 'REVOKED' }), ...rotated().slice(1)];
  await catalog.put(keyOffer({ revision: 3, versions: revoked }));
  await assert.rejects(catalog.put(keyOffer({ revision: 4, versions: rotated() })), { code: 'RECORD_INVALID' });
});

test('takes no bytes that are not a record of the tenant', async (t) => {
  const { catalog, told } = await openCatalog(t);
  const garbage = { ...keyOffer(), item: { kind: 'key' as const, record: Buffer.from('{}') } };
  await assert.rejects(catalog.put(garbage), { code: 'RECORD_INVALID' });
  const other = { ...keyOffer({}, 'h-1', 'other'), tenant: 'acme' };
  await assert.rejects(catalog.put(other), { code: 'RECORD_INVALID' });
  assert.deepEqual(told, ['h-1 key  RECORD_INVALID', 'h-1 key  RECORD_INVALID']);
});

test('leads a key encryption key through its states once', async (t) => {
  const { catalog } = await openCatalog(t);
  await assert.rejects(catalog.put(kekOffer({ state: 'LIVE' })), { code: 'RECORD_INVALID' });
  await catalog.put(kekOffer());
  await catalog.put(kekOffer({ state: 'LIVE', revision: 2 }));
  const other = kekOffer({ state: 'IDLE', revision: 3, tokenId: Buffer.alloc(16, 1) });
  await assert.rejects(catalog.put(other), { code: 'RECORD_INVALID' });
  await catalog.put(kekOffer({ state: 'IDLE', revision: 3 }));
  await assert.rejects(catalog.put(kekOffer({ state: 'LIVE', revision: 4 })), { code: 'RECORD_INVALID' });
  await catalog.put(kekOffer({ state: 'DESTROYED', revision: 4 }));
  await assert.rejects(catalog.put(kekOffer({ state: 'IDLE', revision: 5 })), { code: 'RECORD_INVALID' });
});

test('refuses hosts of other tenants, whether or not there is such a key', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(keyOffer());
  const actor = { kind: 'host', name: 'h-9' } as const;
  for (const name of ['invoices', 'nothing']) {
    await assert.rejects(catalog.get(actor, 'acme', { kind: 'key', name }), { code: 'PERMISSION_DENIED' });
  }
  await assert.rejects(catalog.put(keyOffer({ keyId: 'mine' }, 'h-9')), { code: 'PERMISSION_DENIED' });
  await assert.rejects(catalog.list(actor, 'acme', { limit: 9 }), { code: 'PERMISSION_DENIED' });
});

test('takes a wrapped key only under a KEK that is live: not made yet, going, destroyed or unknown it is KEK_NOT_LIVE', async (t) => {
  const { catalog, told } = await openCatalog(t);
  const refused = { code: 'KEK_NOT_LIVE', metadata: { kek: '1' } };
  await assert.rejects(catalog.put(wrappedOffer(1)), refused, 'unknown');
  await catalog.put(kekOffer());
  await assert.rejects(catalog.put(wrappedOffer(1)), refused, 'being made');
  await catalog.put(kekOffer({ state: 'LIVE', revision: 2 }));
  await catalog.put(wrappedOffer(1));
  await catalog.put(kekOffer({ state: 'IDLE', revision: 3 }));
  await assert.rejects(catalog.put(wrappedOffer(1, { keyId: 'later' })), refused, 'going');
  await catalog.put(kekOffer({ state: 'DESTROYED', revision: 4 }));
  await assert.rejects(catalog.put(wrappedOffer(1, { keyId: 'later' })), refused, 'destroyed');
  const next = wrappedOffer(1, { revision: 2 }, 9);
  await assert.rejects(catalog.put(next), refused, 'another blob of a key that has one');
  await catalog.put(wrappedOffer(1, { revision: 2, labels: { team: 'red' } })); // the blob is the one that is stored
  assert.equal(told.filter((line) => line.endsWith('KEK_NOT_LIVE')).length, 5);
});

test('a KEK that is taken out of use while a blob under it is on its way: one of both is refused or comes first', async (t) => {
  const { catalog } = await openCatalog(t);
  await catalog.put(kekOffer());
  await catalog.put(kekOffer({ state: 'LIVE', revision: 2 }));
  const keys = Array.from({ length: 8 }, (_, at) => wrappedOffer(1, { keyId: `key-${at}` }));
  const going = kekOffer({ state: 'IDLE', revision: 3 });
  const answers = await Promise.all(
    [...keys.slice(0, 4), going, ...keys.slice(4)].map((offer) =>
      catalog.put(offer).then(
        ({ position }) => position,
        ({ code }) => code,
      ),
    ),
  );
  const gone = answers[4];
  for (const answer of answers.filter((_, at) => at !== 4)) {
    assert.ok(answer === 'KEK_NOT_LIVE' || answer < gone, `${answer} beside the end of the KEK at ${gone}`);
  }
  assert.ok(answers.includes('KEK_NOT_LIVE'));
});
