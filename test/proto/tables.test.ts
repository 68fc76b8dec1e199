// The tables of algorithms, operations and states: each row is sound and the rows fit together.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ALGORITHMS,
  algorithm,
  forbiddenAlgorithm,
  JOSE_NAMES,
  type Purpose,
} from '../../proto/documents/algorithms.ts';
import type { KeyRecord, KeyState } from '../../proto/documents/key-record.ts';
import { stateAllows, stateAt, versionAllows } from '../../proto/documents/key-states.ts';
import { OPERATION_NAMES, operation, SCOPES } from '../../proto/documents/operations.ts';

test('every algorithm that is not forbidden can be generated, used and named in JOSE', () => {
  const usable = ALGORITHMS.filter((row) => row.status !== 'forbidden');
  assert.ok(usable.length >= 13);
  for (const row of usable) {
    assert.ok(row.custody.length > 0, row.id);
    const purposes = Object.keys(row.jose);
    assert.ok(purposes.length > 0, row.id);
    const inToken = row.custody.includes('hsm') && row.components === undefined; // a composite by those of its halves
    assert.equal(row.generate?.startsWith('CKM_') === true, inToken, row.id);
    assert.deepEqual(Object.keys(row.mechanisms).sort(), inToken ? purposes.sort() : [], row.id);
    assert.ok(row.securityBits >= 112, row.id);
    if (row.status === 'approved') assert.ok(row.fips, row.id);
  }
});

test('a composite joins a classical algorithm and a post-quantum one, both of its purposes, and is split where it can be', () => {
  const composites = ALGORITHMS.filter((row) => row.components !== undefined);
  assert.ok(composites.length >= 7);
  for (const { id, components, jose, custody, category, status } of composites) {
    const [classical, pqc] = [algorithm(components?.classical ?? ''), algorithm(components?.pqc ?? '')];
    if (classical === undefined || pqc === undefined) assert.fail(id);
    assert.equal(classical.category, 0, id);
    assert.ok(pqc.custody.includes('wrapped') && pqc.category === category, id);
    for (const purpose of Object.keys(jose) as Purpose[]) {
      assert.ok(classical.jose[purpose] !== undefined && pqc.jose[purpose] !== undefined, id);
    }
    assert.equal(custody.includes('split'), classical.custody.includes('hsm'), id);
    const both = classical.custody.includes('hsm') && pqc.custody.includes('hsm');
    assert.equal(custody[0] === 'hsm', both, id);
    assert.ok(custody.length > 0, id);
    assert.notEqual(status, 'approved', `${id}: its draft still moves`);
  }
});

test('forbidden algorithms offer nothing and are found whatever the case', () => {
  const forbidden = ALGORITHMS.filter((row) => row.status === 'forbidden');
  assert.ok(forbidden.length >= 10);
  for (const row of forbidden) {
    assert.deepEqual([row.jose, row.custody, row.generate, row.mechanisms], [{}, [], null, {}], row.id);
    assert.ok(row.reason, row.id);
    assert.equal(forbiddenAlgorithm(row.id.toUpperCase()), row);
    assert.equal(forbiddenAlgorithm(row.id.toLowerCase()), row);
    assert.ok(!JOSE_NAMES.has(row.id), row.id);
  }
  assert.equal(forbiddenAlgorithm('AES-256'), undefined);
});

test('algorithm ids are unique', () => {
  assert.equal(new Set(ALGORITHMS.map((row) => row.id.toLowerCase())).size, ALGORITHMS.length);
  assert.equal(algorithm('AES-256')?.id, 'AES-256');
  assert.equal(algorithm('toString'), undefined);
});

test('every operation names a known scope, and every scope opens some operation', () => {
  const used = new Set(OPERATION_NAMES.map((name) => operation(name).scope));
  for (const scope of used) assert.ok(scope === null || SCOPES.includes(scope), String(scope));
  for (const scope of SCOPES) assert.ok(used.has(scope), scope);
});

test('only ACTIVE applies protection; ACTIVE and EXPIRED process; nothing leaves DESTROYED', () => {
  const states: KeyState[] = [
    'PRE_ACTIVE',
    'ACTIVE',
    'SUSPENDED',
    'EXPIRED',
    'REVOKED',
    'PENDING_DESTRUCTION',
    'DESTROYED',
  ];
  for (const state of states) {
    for (const name of OPERATION_NAMES) {
      const { kind, purpose } = operation(name);
      if (purpose === undefined) continue;
      const expected = kind === 'apply' ? state === 'ACTIVE' : state === 'ACTIVE' || state === 'EXPIRED';
      assert.equal(stateAllows(state, name), expected, `${state} ${name}`);
    }
    assert.equal(stateAllows(state, 'get-key'), true);
    if (state === 'DESTROYED') {
      for (const name of OPERATION_NAMES) {
        if (operation(name).kind === 'manage' && name !== 'create-key')
          assert.equal(stateAllows(state, name), false, name);
      }
    }
  }
  assert.deepEqual(
    (['PRIMARY', 'RETIRED', 'REVOKED', 'DESTROYED'] as const).map((state) => [
      versionAllows(state, 'apply'),
      versionAllows(state, 'process'),
    ]),
    [
      [true, true],
      [false, true],
      [false, false],
      [false, false],
    ],
  );
});

test('time and uses decide PRE_ACTIVE, EXPIRED and the end of the undo window', () => {
  const base: KeyRecord = {
    tenant: 'acme',
    keyId: 'k',
    purpose: 'sign',
    state: 'ACTIVE',
    labels: {},
    limits: { hardExpiry: 200, hardUses: 5 },
    grants: [],
    versions: [],
    createdAt: 0,
    updatedAt: 0,
    activatesAt: 100,
    revision: 1,
  };
  assert.equal(stateAt(base, 99), 'PRE_ACTIVE');
  assert.equal(stateAt(base, 100), 'ACTIVE');
  assert.equal(stateAt(base, 199, 5), 'ACTIVE');
  assert.equal(stateAt(base, 199, 6), 'EXPIRED');
  assert.equal(stateAt(base, 200), 'EXPIRED');
  assert.equal(stateAt({ ...base, state: 'SUSPENDED' }, 200), 'SUSPENDED');
  const pending: KeyRecord = { ...base, state: 'PENDING_DESTRUCTION', destroyAt: 300 };
  assert.equal(stateAt(pending, 299), 'PENDING_DESTRUCTION');
  assert.equal(stateAt(pending, 300), 'DESTROYED');
});
