// The chain of an operation: which step refuses, what is recorded, and that no answer leaves without its record.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { type Ports, perform, type Run } from '../../../agent/operations/perform.ts';
import type { AuditEvent } from '../../../agent/operations/ports/audit.ts';
import type { Call } from '../../../agent/operations/ports/call.ts';
import type { Decision, PolicyQuestion } from '../../../agent/operations/ports/policy.ts';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { OPERATIONS, type OperationName, operation, SCOPES } from '../../../proto/documents/operations.ts';

const NOW = Date.parse('2026-06-01T00:00:00Z');

const aKey = (change: Partial<KeyRecord> = {}): KeyRecord => ({
  tenant: 'acme',
  keyId: 'payroll',
  purpose: 'encrypt',
  state: 'ACTIVE',
  labels: {},
  limits: {},
  grants: [],
  versions: [
    { version: 1, algorithm: 'AES-256', jose: 'A256GCMKW', state: 'RETIRED', custody: 'hsm', createdAt: NOW },
    { version: 2, algorithm: 'AES-256', jose: 'A256GCMKW', state: 'PRIMARY', custody: 'hsm', createdAt: NOW },
  ],
  createdAt: NOW,
  updatedAt: NOW,
  revision: 2,
  ...change,
});

interface World {
  key: KeyRecord | undefined;
  uses: number;
  decision: Decision;
  auditFails: boolean;
  whenAuditUnavailable: 'refuse' | 'process-only';
  rateLimited: boolean;
  records: AuditEvent[];
  steps: string[];
  questions: PolicyQuestion[];
  suspended: number;
  outcomes: string[];
}

const fresh = (): World => ({
  key: aKey(),
  uses: 1,
  decision: { allowed: true, rule: 'platform.algorithms.allow', warnings: [] },
  auditFails: false,
  whenAuditUnavailable: 'refuse',
  rateLimited: false,
  records: [],
  steps: [],
  questions: [],
  suspended: 0,
  outcomes: [],
});

const portsOf = (world: World): Ports =>
  ({
    clock: { now: () => NOW },
    policy: {
      decide: (question: PolicyQuestion) => {
        world.steps.push('policy');
        world.questions.push(question);
        return world.decision;
      },
      defaultAlgorithm: () => undefined,
      keyLimits: () => ({}),
      destroyWait: () => 0,
      whenAuditUnavailable: () => world.whenAuditUnavailable,
    },
    keys: {
      get: (tenant: string, keyId: string) => {
        world.steps.push('key');
        return world.key?.tenant === tenant && world.key.keyId === keyId ? world.key : undefined;
      },
      use: async () => {
        world.steps.push('use');
        return world.uses;
      },
      uses: () => world.uses,
      requireChangeable: () => undefined,
      processed: () => void world.steps.push('processed'),
    },
    audit: {
      append: async (event: AuditEvent) => {
        world.steps.push('audit');
        if (world.auditFails) throw new AgentError('AUDIT_UNAVAILABLE');
        return `h-1/1/${world.records.push(event)}`;
      },
    },
    rateLimit: {
      take: () => {
        world.steps.push('rate');
        if (world.rateLimited) throw new AgentError('RATE_LIMITED', { retryAfterMs: 10 });
      },
    },
    events: {
      finished: (event: { outcome: string }) => world.outcomes.push(event.outcome),
      wrongResult: () => undefined,
      auditSuspended: () => {
        world.suspended += 1;
      },
    },
  }) as unknown as Ports;

const aCall = (change: Partial<Call> = {}): Call => ({
  correlationId: 'c-1',
  caller: { tenant: 'acme', principal: 'app', scopes: new Set(SCOPES), authenticatedBy: 'jwt' },
  peer: { uid: 1000, gid: 1000, pid: 42 },
  deadline: NOW + 1000,
  signal: new AbortController().signal,
  ...change,
});

const hasCode = (code: Code) => (thrown: unknown) => thrown instanceof AgentError && thrown.code === code;

describe('perform', () => {
  let world: World;
  const act = (name: OperationName, body: (run: Run) => unknown = () => 'done', call = aCall()) =>
    perform(portsOf(world), call, name, async (run) => {
      const value = await body(run);
      world.steps.push('act');
      return value;
    });
  const encrypt = async (run: Run) => run.apply(run.key('payroll'));

  beforeEach(() => {
    world = fresh();
  });

  test('runs rate, key, policy, use, act, audit in this order and answers with the envelope', async () => {
    const { value, envelope } = await act('encrypt', encrypt);
    assert.deepEqual(world.steps, ['rate', 'key', 'policy', 'use', 'act', 'audit']);
    assert.equal((value as { version: number }).version, 2);
    assert.deepEqual(envelope, {
      keyRequested: 'payroll',
      keyUsed: { keyId: 'payroll', version: 2 },
      algorithmUsed: 'A256GCMKW',
      warnings: [],
      correlationId: 'c-1',
      eventId: 'h-1/1/1',
    });
    assert.deepEqual(world.records, [
      {
        tenant: 'acme',
        principal: 'app',
        key: 'payroll/2',
        algorithm: 'A256GCMKW',
        operation: 'encrypt',
        outcome: 'ok',
        correlationId: 'c-1',
        detail: { uid: 1000, pid: 42 },
      },
    ]);
    assert.deepEqual(world.outcomes, ['ok']);
  });

  test('drops the result when it cannot be recorded', async () => {
    world.auditFails = true;
    await assert.rejects(act('encrypt', encrypt), hasCode('AUDIT_UNAVAILABLE'));
    assert.deepEqual(world.outcomes, ['AUDIT_UNAVAILABLE']);
  });

  test('answers AUDIT_UNAVAILABLE, not the refusal, when the refusal cannot be recorded', async () => {
    world.auditFails = true;
    world.key = undefined;
    await assert.rejects(act('encrypt', encrypt), hasCode('AUDIT_UNAVAILABLE'));
  });

  test('lets only process operations go on, marked, where policy says process-only', async () => {
    world.auditFails = true;
    world.whenAuditUnavailable = 'process-only';
    const { envelope } = await act('decrypt', (run) => run.process(run.key('payroll'), 1));
    assert.deepEqual(
      envelope.warnings.map((warning) => warning.code),
      ['AUDIT_SUSPENDED'],
    );
    assert.equal(envelope.eventId, '');
    assert.equal(world.suspended, 1);
    await assert.rejects(act('encrypt', encrypt), hasCode('AUDIT_UNAVAILABLE'));
    await assert.rejects(
      act('revoke-key', (run) => run.key('payroll')),
      hasCode('AUDIT_UNAVAILABLE'),
    );
    await assert.rejects(
      act('get-key', (run) => run.key('payroll')),
      hasCode('AUDIT_UNAVAILABLE'),
    );
  });

  test('records the intent before an operation that cannot be undone, and does not act without it', async () => {
    await act('revoke-key', async (run) => {
      run.key('payroll');
      await run.intend();
    });
    assert.deepEqual(
      world.records.map((record) => record.outcome),
      ['intent', 'ok'],
    );
    world.auditFails = true;
    let acted = false;
    await assert.rejects(
      act('revoke-key', async (run) => {
        await run.intend();
        acted = true;
      }),
      hasCode('AUDIT_UNAVAILABLE'),
    );
    assert.equal(acted, false);
  });

  test('records every refusal with its code', async () => {
    const cases: [Code, () => Promise<unknown>, Partial<World>?][] = [
      ['RATE_LIMITED', () => act('encrypt', encrypt), { rateLimited: true }],
      ['CANCELLED', () => act('encrypt', encrypt, aCall({ signal: AbortSignal.abort() }))],
      ['DEADLINE_EXCEEDED', () => act('encrypt', encrypt, aCall({ deadline: NOW }))],
      ['KEY_UNKNOWN', () => act('encrypt', encrypt), { key: undefined }],
      ['KEY_UNKNOWN', () => act('decrypt', (run) => run.process(run.key('payroll'), 9))],
      ['INVALID_REQUEST', () => act('encrypt', (run) => run.key('No Such Name'))],
      ['INVALID_REQUEST', () => act('sign', (run) => run.key('payroll'))],
      ['INTERNAL', () => act('encrypt', () => Promise.reject(new TypeError('a bug')))],
    ];
    for (const [code, run, change] of cases) {
      world = { ...fresh(), ...change };
      await assert.rejects(run(), hasCode(code), code);
      assert.deepEqual(
        world.records.map((record) => record.outcome),
        [code],
      );
      assert.deepEqual(world.outcomes, [code]);
    }
  });

  test("refuses another tenant's key name without looking whether the key exists", async () => {
    await assert.rejects(
      act('encrypt', (run) => run.key('globex/payroll')),
      hasCode('PERMISSION_DENIED'),
    );
    assert.ok(!world.steps.includes('key'));
    assert.equal(world.records[0]?.tenant, 'acme');
    await act('encrypt', (run) => run.key('acme/payroll'));
  });

  test('asks for the scope of every operation that has one', async () => {
    for (const name of Object.keys(OPERATIONS) as OperationName[]) {
      world = fresh();
      const { scope } = OPERATIONS[name];
      const others = new Set(SCOPES.filter((other) => other !== scope));
      const call = aCall({ caller: { tenant: 'acme', principal: 'app', scopes: others, authenticatedBy: 'jwt' } });
      if (scope === null) await act(name, () => 'done', call);
      else
        await assert.rejects(
          act(name, () => 'done', call),
          hasCode('PERMISSION_DENIED'),
          name,
        );
    }
  });

  test('holds callers to the grants of the key where it has any', async () => {
    world.key = aKey({ grants: [{ principal: 'app', operations: ['decrypt'] }] });
    await act('decrypt', (run) => run.process(run.key('payroll')));
    await assert.rejects(act('encrypt', encrypt), hasCode('PERMISSION_DENIED'));
    const other = aCall({ caller: { ...aCall().caller, principal: 'somebody' } });
    await assert.rejects(
      act('decrypt', (run) => run.key('payroll'), other),
      hasCode('PERMISSION_DENIED'),
    );
  });

  test('asks policy with the algorithm, JOSE name and custody of the version, and passes its refusal on', async () => {
    world.decision = {
      allowed: false,
      rule: 'tenant.operations.encrypt',
      code: 'POLICY_DENIED',
      explanation: 'not listed',
    };
    await assert.rejects(act('encrypt', encrypt), (thrown: unknown) => {
      assert.ok(thrown instanceof AgentError && thrown.code === 'POLICY_DENIED');
      assert.deepEqual(thrown.metadata, { rule: 'tenant.operations.encrypt' });
      return true;
    });
    assert.deepEqual(world.questions, [
      { tenant: 'acme', operation: 'encrypt', algorithm: 'AES-256', jose: 'A256GCMKW', custody: 'hsm' },
    ]);
    assert.equal(world.records[0]?.detail?.['rule'], 'tenant.operations.encrypt');
    assert.ok(!world.steps.includes('use'), 'a refused operation takes no use of the key');
  });

  test('asks policy at the door of every operation that has no algorithm, and leaves the others to ask with theirs', async () => {
    for (const name of Object.keys(OPERATIONS) as OperationName[]) {
      world = fresh();
      world.decision = { allowed: false, rule: 'validity', code: 'POLICY_INVALID', explanation: 'expired' };
      if (operation(name).algorithm === true) {
        await act(name);
        assert.equal(world.questions.length, 0, name);
      } else {
        await assert.rejects(act(name), hasCode('POLICY_INVALID'), name);
        assert.deepEqual(world.questions, [{ tenant: 'acme', operation: name }]);
        assert.ok(!world.steps.includes('act'), name);
      }
    }
  });

  test('refuses forbidden algorithms without asking policy', async () => {
    for (const algorithm of ['RSA-1024', 'none', 'rsa1_5', 'MD5', '3DES']) {
      world = fresh();
      await assert.rejects(
        act('create-key', (run) => run.decide({ algorithm })),
        hasCode('ALGORITHM_FORBIDDEN'),
      );
      assert.equal(world.questions.length, 0);
    }
  });

  test('warns of soft limits and of a near expiry', async () => {
    world.key = aKey({ limits: { softUses: 10, softExpiry: NOW, hardExpiry: NOW + 1000 } });
    world.uses = 11;
    const { envelope } = await act('encrypt', encrypt);
    assert.deepEqual(
      envelope.warnings.map((warning) => warning.code),
      ['SOFT_LIMIT', 'SOFT_LIMIT', 'NEAR_EXPIRY'],
    );
  });

  test('judges expiry and activation at the time of the call', async () => {
    world.key = aKey({ limits: { hardExpiry: NOW } });
    await assert.rejects(act('encrypt', encrypt), hasCode('KEY_STATE'));
    await act('decrypt', (run) => run.process(run.key('payroll')));
    world.key = aKey({ activatesAt: NOW + 1 });
    await assert.rejects(act('encrypt', encrypt), hasCode('KEY_STATE'));
    await assert.rejects(
      act('decrypt', (run) => run.key('payroll')),
      hasCode('KEY_STATE'),
    );
  });
});
