// What probes are told of each part, beside what people are told.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createStatus, type HealthParts, watchHealth } from '../../../agent/assembly/health.ts';
import type { AuditHealth } from '../../../agent/audit/types.ts';

const slot = { health: () => ({ healthy: true, detail: '' }), token: undefined };
const routed = { name: 'main', certificate: undefined, slot };
const token = { all: [routed], agent: routed, of: () => routed };
const clock = { now: () => Date.now() };

/** What is told of the audit log in this state: healthy, and serving. */
const auditOf = async (health: AuditHealth | undefined): Promise<readonly [boolean, boolean]> => {
  const told: Record<string, readonly [boolean, boolean]> = {};
  const parts = {
    token,
    keys: { health: () => ({ ok: true, damaged: 0 }) },
    policy: { status: () => ({ healthy: true, detail: '', policies: [] }) },
    audit: { log: health && { health: () => health } },
  } as unknown as HealthParts;
  const watch = watchHealth(parts, ({ part, healthy, serving }) => {
    told[part] = [healthy, serving];
  });
  await watch.close();
  return told['audit'] as readonly [boolean, boolean];
};

const damaged = (tenant: string): AuditHealth => ({
  ok: false,
  writable: true,
  why: `the audit log of ${tenant} does not verify`,
  corrupt: [tenant],
});

test('a damaged log of one tenant does not take the agent out of service for the others', async () => {
  assert.deepEqual(await auditOf({ ok: true, writable: true, corrupt: [] }), [true, true]);
  assert.deepEqual(await auditOf(damaged('acme')), [false, true]);
});

test('a log that takes no records does, and so does the damaged log of the agent itself', async () => {
  assert.deepEqual(await auditOf({ ok: false, writable: false, why: 'disk full', corrupt: [] }), [false, false]);
  assert.deepEqual(await auditOf(damaged('_platform')), [false, false]);
  assert.deepEqual(await auditOf(undefined), [false, false]);
});

test('a tenant is told of its own damaged log and of that of the agent, and no name of another tenant', async () => {
  const told = async (tenant: string, health: AuditHealth): Promise<readonly [boolean, string]> => {
    const status = createStatus({
      token,
      clock,
      keys: { health: () => ({ ok: true, damaged: 0 }) },
      policy: { status: () => ({ healthy: true, detail: '', policies: [], fipsBoundary: '' }) },
      audit: { log: { health: () => health } },
    } as unknown as HealthParts);
    const { parts } = await status.state(tenant);
    const audit = parts.find(({ part }) => part === 'audit');
    return [audit?.healthy ?? false, audit?.detail ?? ''];
  };
  const both = {
    ...damaged('acme'),
    why: 'the audit log of acme, globex does not verify',
    corrupt: ['acme', 'globex'],
  };
  assert.deepEqual(await told('_platform', both), [false, both.why]);
  assert.deepEqual(await told('acme', both), [false, 'the audit log of acme does not verify']);
  assert.deepEqual(await told('initech', both), [true, 'records are written']);
  assert.deepEqual(await told('acme', damaged('_platform')), [false, 'the audit log of _platform does not verify']);
  const full: AuditHealth = { ok: false, writable: false, why: 'disk full', corrupt: ['globex'] };
  assert.deepEqual(await told('acme', full), [false, 'disk full']);
  const whole: AuditHealth = { ok: false, writable: false, why: 'of *, globex', corrupt: ['*', 'globex'] };
  assert.deepEqual(await told('acme', whole), [false, 'the audit log of * does not verify']);
});
