// Explain against the chain itself: whatever it says, the call must do.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentError } from '../../../agent/errors.ts';
import { type ExplainInput, explain } from '../../../agent/operations/explain.ts';
import { type Ports, perform } from '../../../agent/operations/perform.ts';
import type { AuditEvent } from '../../../agent/operations/ports/audit.ts';
import type { Call } from '../../../agent/operations/ports/call.ts';
import type { PolicyQuestion } from '../../../agent/operations/ports/policy.ts';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { type OperationName, SCOPES, type Scope } from '../../../proto/documents/operations.ts';

const NOW = Date.UTC(2026, 0, 15);

const keyOf = (change: Partial<KeyRecord> = {}): KeyRecord => ({
  tenant: 'blue',
  keyId: 'orders',
  purpose: 'sign',
  state: 'ACTIVE',
  labels: {},
  limits: {},
  grants: [],
  versions: [
    {
      version: 1,
      algorithm: 'EC-P256',
      jose: 'ES256',
      state: 'PRIMARY',
      custody: 'hsm',
      tokenId: 'aa',
      createdAt: NOW,
    },
  ],
  createdAt: NOW,
  updatedAt: NOW,
  revision: 1,
  ...change,
});

const setUp = (keys: readonly KeyRecord[] = [keyOf()], denied: (question: PolicyQuestion) => boolean = () => false) => {
  const audit: AuditEvent[] = [];
  const ports = {
    policy: {
      decide: (question: PolicyQuestion) =>
        denied(question)
          ? { allowed: false, rule: 'platform.algorithms.deny', code: 'POLICY_DENIED', explanation: 'ES256 is denied' }
          : { allowed: true, rule: 'platform.algorithms.allow', warnings: [] },
    },
    keys: {
      get: (_tenant: string, id: string) => keys.find(({ keyId }) => keyId === id),
      uses: () => 0,
      use: async () => 1,
      processed: () => undefined,
    },
    audit: { append: async (event: AuditEvent) => void audit.push(event) },
    rateLimit: { take: () => undefined },
    clock: { now: () => NOW },
    events: { finished: () => undefined, auditSuspended: () => undefined, wrongResult: () => undefined },
  } as unknown as Ports;
  return { ports, audit };
};

const callOf = (scopes: readonly Scope[] = SCOPES): Call => ({
  correlationId: 'c',
  caller: { tenant: 'blue', principal: 'payments', scopes: new Set(scopes), authenticatedBy: 'jwt' },
  peer: { uid: 1, gid: 1, pid: 1 },
  deadline: NOW + 1000,
  signal: new AbortController().signal,
});

const ask = async (ports: Ports, input: Partial<ExplainInput>, call = callOf()) =>
  (await explain(ports, call, { operation: 'sign', key: '', algorithm: '', ...input })).value;

/** What the chain itself does with the key. */
const outcomeOf = async (ports: Ports, name: OperationName, key: string, call = callOf()): Promise<string> => {
  try {
    await perform(ports, call, name, (run) => run.apply(run.key(key)));
    return '';
  } catch (error) {
    return (error as AgentError).code;
  }
};

const CASES: readonly [string, readonly KeyRecord[], string, string][] = [
  ['allowed', [keyOf()], 'platform.algorithms.allow', ''],
  ['no such key', [], 'key', 'KEY_UNKNOWN'],
  ['a suspended key', [keyOf({ state: 'SUSPENDED' })], 'key.state', 'KEY_STATE'],
  ['an expired key', [keyOf({ limits: { hardExpiry: NOW } })], 'key.state', 'KEY_STATE'],
  ['a key for another purpose', [keyOf({ purpose: 'mac' })], 'key.purpose', 'INVALID_REQUEST'],
  [
    'no grant',
    [keyOf({ grants: [{ principal: 'billing', operations: ['sign'] }] })],
    'key.grants',
    'PERMISSION_DENIED',
  ],
];

for (const [name, keys, rule, code] of CASES) {
  test(`says what the chain does: ${name}`, async () => {
    const { ports } = setUp(keys);
    const answer = await ask(ports, { key: 'orders' });
    assert.deepEqual([answer.rule, answer.code, answer.allowed], [rule, code, code === '']);
    assert.equal(await outcomeOf(ports, 'sign', 'orders'), code);
    assert.ok(answer.explanation.length > 10);
  });
}

test('names the policy rule that denies, by key and by algorithm', async () => {
  const { ports } = setUp([keyOf()], ({ algorithm, jose }) => algorithm === 'EC-P256' || jose === 'ES256');
  for (const input of [{ key: 'orders' }, { algorithm: 'EC-P256' }, { algorithm: 'ES256' }]) {
    const answer = await ask(ports, input);
    assert.deepEqual([answer.rule, answer.code], ['platform.algorithms.deny', 'POLICY_DENIED']);
  }
  assert.equal(await outcomeOf(ports, 'sign', 'orders'), 'POLICY_DENIED');
});

test('a forbidden algorithm is forbidden below policy', async () => {
  const { ports } = setUp();
  const answer = await ask(ports, { algorithm: 'MD5' });
  assert.deepEqual([answer.rule, answer.code], ['forbidden', 'ALGORITHM_FORBIDDEN']);
});

test('a missing scope comes first, as in the chain', async () => {
  const { ports } = setUp([]);
  const answer = await ask(ports, { key: 'orders' }, callOf(['agent.status']));
  assert.deepEqual([answer.rule, answer.code], ['caller.scopes', 'PERMISSION_DENIED']);
});

test('another tenant’s key is refused unseen, and nonsense is INVALID_REQUEST; both recorded', async () => {
  const { ports, audit } = setUp();
  const refused = async (input: Partial<ExplainInput>, code: string) => {
    await assert.rejects(ask(ports, input), (error) => error instanceof AgentError && error.code === code);
    assert.deepEqual([audit.at(-1)?.operation, audit.at(-1)?.outcome], ['explain', code]);
  };
  await refused({ key: 'green/orders' }, 'PERMISSION_DENIED');
  await refused({ key: 'NOT A KEY' }, 'INVALID_REQUEST');
  await refused({ operation: 'fly' }, 'INVALID_REQUEST');
  await refused({ algorithm: 'ROT13' }, 'INVALID_REQUEST');
  await refused({ key: 'orders', algorithm: 'EC-P256' }, 'INVALID_REQUEST');
});

test('explaining takes no use of the key and is recorded with what was asked', async () => {
  const { ports, audit } = setUp();
  let uses = 0;
  Object.assign(ports.keys, {
    use: async () => {
      uses += 1;
      return uses;
    },
  });
  await ask(ports, { key: 'orders' });
  assert.equal(uses, 0);
  assert.deepEqual(
    audit.map(({ detail }) => [detail?.['explained'], detail?.['allowed'], detail?.['rule']]),
    [['sign', true, 'platform.algorithms.allow']],
  );
});
