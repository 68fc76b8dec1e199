// What probes are told of each part, beside what people are told.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HealthParts, watchHealth } from '../../../agent/assembly/health.ts';
import type { AuditHealth } from '../../../agent/audit/types.ts';

/** What is told of the audit log in this state: healthy, and serving. */
const auditOf = async (health: AuditHealth | undefined): Promise<readonly [boolean, boolean]> => {
  const told: Record<string, readonly [boolean, boolean]> = {};
  const parts = {
    token: { health: () => ({ healthy: true, detail: '' }) },
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
