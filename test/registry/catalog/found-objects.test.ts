// What is made of objects that only the token still has: a suspended record of what is certain, or a name and a reason.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { parseKeyRecord } from '../../../proto/documents/key-record-parse.ts';
import { type FoundObject, placeObjects, RECREATED_LABEL } from '../../../registry/catalog/found-objects.ts';
import type { Entry } from '../../../registry/catalog/rules.ts';
import { aRecord, aVersion } from '../../support/key-records.ts';

const NOW = 1_800_000_000_000;
const idOf = (version: number): string => String(version).repeat(32).slice(0, 32);

const object = (version: number, change: Partial<FoundObject> = {}): FoundObject => ({
  ...{ kind: 'key', name: 'orders', version, tokenId: idOf(version), jose: 'A256GCMKW', algorithm: 'AES-256' },
  ...{ purpose: 'encrypt', imported: false, ...change },
});

const stored = (change: Partial<KeyRecord>): Entry => {
  const record = aRecord({ keyId: 'orders', revision: 4, ...change });
  return { kind: 'key', record, revision: record.revision, name: { kind: 'key', name: 'orders' } };
};

const place = (objects: readonly FoundObject[], entry?: Entry) => {
  const at = { kind: 'key', name: 'orders', tenant: 'acme', rebuild: 'ab'.repeat(16), now: NOW } as const;
  const { item, findings } = placeObjects({ ...at, stored: entry }, objects);
  return {
    record: item?.kind === 'key' ? parseKeyRecord(item.record) : undefined,
    said: findings.map(({ outcome, versions, reason }) => [outcome, [...versions], reason] as const),
  };
};

test('a key that no host knew is made anew from its objects: suspended, the last version primary, and nothing beside', () => {
  const { record, said } = place([object(2, { imported: true }), object(1)]);
  assert.deepEqual(record, {
    ...{ tenant: 'acme', keyId: 'orders', purpose: 'encrypt', state: 'SUSPENDED', limits: {}, grants: [], revision: 1 },
    labels: { [RECREATED_LABEL]: 'ab'.repeat(16) },
    ...{ createdAt: NOW, updatedAt: NOW },
    versions: [
      aVersion({ tokenId: idOf(1), state: 'RETIRED', createdAt: NOW }),
      aVersion({ version: 2, tokenId: idOf(2), origin: 'imported', createdAt: NOW }),
    ],
  });
  assert.deepEqual(
    said.map(([outcome, versions]) => [outcome, versions]),
    [['RECREATED', [1, 2]]],
  );
});

test('versions of which the token has no object are named as lost', () => {
  const { record, said } = place([object(4), object(2)]);
  assert.deepEqual(
    record?.versions.map(({ version, state }) => [version, state]),
    [
      [2, 'RETIRED'],
      [4, 'PRIMARY'],
    ],
  );
  assert.deepEqual(
    said.map(([outcome, versions]) => [outcome, versions]),
    [
      ['RECREATED', [2, 4]],
      ['LOST', [1, 3]],
    ],
  );
});

test('half a key is lost, and with it a key whose newest version it is: its number would be given again', () => {
  const half = object(2, {
    algorithm: '',
    fault: 'half a key: the other half was wrapped, and is lost with its record',
  });
  const { record, said } = place([object(1), half]);
  assert.equal(record, undefined);
  assert.deepEqual(
    said.map(([outcome, versions]) => [outcome, versions]),
    [
      ['LOST', [2]],
      ['LEFT', [1]],
    ],
  );
});

test('of objects that cannot be told apart, or that one host says a fault of, nothing is made', () => {
  const twins = place([object(1), object(1, { tokenId: idOf(9) })]);
  assert.equal(twins.record, undefined);
  assert.match(twins.said[0]?.[2] ?? '', /several objects/);
  const doubted = place([object(1), object(1, { fault: 'made for a change that was not completed' }), object(1)]);
  assert.equal(doubted.record, undefined);
  assert.match(doubted.said[0]?.[2] ?? '', /not completed/);
  const mixed = place([object(1), object(2, { purpose: 'sign', jose: 'ES256', algorithm: 'EC-P256' })]);
  assert.equal(mixed.record, undefined);
  assert.match(mixed.said[0]?.[2] ?? '', /one purpose/);
  const lied = place([object(1, { algorithm: 'ROT13' })]);
  assert.equal(lied.record, undefined);
  assert.match(lied.said[0]?.[2] ?? '', /makes no record/);
});

test('the same object told by two hosts is one', () => {
  assert.deepEqual(
    place([object(1), object(1)]).said.map(([outcome]) => outcome),
    ['RECREATED'],
  );
});

test('versions behind those that hosts knew are added as retired, and the state of the key stays', () => {
  const entry = stored({ state: 'REVOKED', versions: [aVersion({ tokenId: idOf(1) })] });
  const { record, said } = place([object(1), object(3)], entry);
  assert.equal(record?.state, 'REVOKED');
  assert.equal(record?.revision, 5);
  assert.deepEqual(
    record?.versions.map(({ version, state }) => [version, state]),
    [
      [1, 'PRIMARY'],
      [3, 'RETIRED'],
    ],
  );
  assert.deepEqual(
    said.map(([outcome, versions]) => [outcome, versions]),
    [
      ['ADDED', [3]],
      ['LOST', [2]],
    ],
  );
});

test('objects that a record passes over stay where they are, and are named', () => {
  const entry = stored({ versions: [aVersion({ version: 2, tokenId: idOf(2) })] });
  for (const [objects, why] of [
    [[object(1)], /does not name this object/],
    [[object(2, { tokenId: idOf(7) })], /does not name this object/],
    [[object(3, { purpose: 'sign', jose: 'ES256', algorithm: 'EC-P256' })], /is for "encrypt"/],
  ] as const) {
    const { record, said } = place(objects, entry);
    assert.equal(record, undefined);
    assert.equal(said.length, 1);
    assert.equal(said[0]?.[0], 'LEFT');
    assert.match(said[0]?.[2] ?? '', why);
  }
  const gone = stored({ state: 'DESTROYED', versions: [aVersion({ state: 'DESTROYED', tokenId: idOf(1) })] });
  assert.deepEqual(
    place([object(5)], gone).said.map(([outcome]) => outcome),
    ['LEFT'],
  );
});

test('a key encryption key that no host knew keeps its number and is not used; one that hosts know otherwise is left', () => {
  const kek = object(3, { kind: 'kek', name: '3', jose: '' });
  const at = { kind: 'kek', name: '3', tenant: 'acme', rebuild: 'ab'.repeat(16), now: NOW } as const;
  const { item, findings } = placeObjects({ ...at, stored: undefined }, [kek, kek]);
  assert.deepEqual(item, {
    kind: 'kek',
    kek: { version: 3, tokenId: Buffer.from(idOf(3), 'hex'), state: 'IDLE', revision: 1 },
  });
  assert.equal(findings[0]?.outcome, 'RESERVED');
  const other = { version: 3, tokenId: Buffer.alloc(16, 9), state: 'LIVE', revision: 2 } as const;
  const known: Entry = { kind: 'kek', kek: other, revision: 2, name: { kind: 'kek', name: '3' } };
  const clash = placeObjects({ ...at, stored: known }, [kek]);
  assert.deepEqual([clash.item, clash.findings[0]?.outcome], [undefined, 'LEFT']);
  const own: Entry = { ...known, kek: { ...other, tokenId: Buffer.from(idOf(3), 'hex') } };
  assert.deepEqual(placeObjects({ ...at, stored: own }, [kek]), { findings: [] });
});

test('objects that make a record which is too large are left, so that a rebuild ends all the same', () => {
  const publicJwk = { kty: 'AKP', pub: 'A'.repeat(4096) };
  const many = Array.from({ length: 900 }, (_, at) => {
    const tokenId = String(at).padStart(32, '0');
    return object(at + 1, { tokenId, purpose: 'sign', jose: 'ML-DSA-65', algorithm: 'ML-DSA-65', publicJwk });
  });
  const { record, said } = place(many);
  assert.equal(record, undefined);
  assert.deepEqual(
    said.map(([outcome, versions]) => [outcome, versions.length]),
    [['LEFT', 900]],
  );
  assert.match(String(said[0]?.[2]), /larger than the limit/);
});
