// A tenant policy only narrows: each way to widen is found with its path, and the merge never allows what the platform
// policy denies, whatever the two say.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decide } from '../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../proto/documents/policy-merge.ts';
import { findWidenings, requireNarrowing } from '../../proto/documents/policy-narrow.ts';
import type { PlatformPolicy, TenantPolicy } from '../../proto/documents/policy-types.ts';
import {
  anyPlatform,
  anyQuestion,
  anyTenant,
  anyTime,
  iso,
  NOW,
  platformPolicy,
  tenantPolicy,
} from '../support/policy-documents.ts';

const SUNSET = { warnAfter: iso(NOW), refuseAfter: iso(NOW + 1000) };

/** Under this platform policy every field has something to widen. */
const STRICT: Partial<PlatformPolicy> = {
  fipsOnly: { boundary: 'private-keys' },
  algorithms: { allow: ['AES-256', 'RSA-3072', 'ES256'], deny: ['RS256', 'RS384', 'RS512'], sunset: { ES256: SUNSET } },
  operations: { sign: ['PS256', 'ES256'] },
  lease: { maxStalenessSeconds: 100, whenStale: 'deny' },
  keys: { softUses: 10, hardUses: 20, softAgeSeconds: 30, hardAgeSeconds: 40, destroyWaitSeconds: 50 },
  rateLimits: { operationsPerSecond: 60, burst: 70 },
  audit: { durability: 'flushed', whenUnavailable: 'refuse' },
  caches: { tokenSeconds: 30 },
};

const WIDER: [path: string, changes: Partial<TenantPolicy>][] = [
  ['fipsOnly', { fipsOnly: false }],
  ['fipsOnly', { fipsOnly: { boundary: 'algorithms' } }],
  ['algorithms.allow[1]', { algorithms: { allow: ['AES-256', 'AES-128'] } }],
  ['algorithms.allow[0]', { algorithms: { allow: ['RS256'] } }],
  // The JOSE name reaches RSA-2048 and RSA-4096 too, which the platform does not allow.
  ['algorithms.allow[0]', { algorithms: { allow: ['PS256'] } }],
  // The id reaches ECDH-ES too.
  ['algorithms.allow[0]', { algorithms: { allow: ['EC-P256'] } }],
  [
    'algorithms.sunset.ES256.warnAfter',
    { algorithms: { sunset: { ES256: { ...SUNSET, warnAfter: iso(NOW + 1000) } } } },
  ],
  [
    'algorithms.sunset.ES256.refuseAfter',
    { algorithms: { sunset: { ES256: { ...SUNSET, refuseAfter: iso(NOW + 1001) } } } },
  ],
  ['operations.sign[0]', { operations: { sign: ['RSA-3072'] } }],
  ['operations.encrypt[0]', { operations: { encrypt: ['AES-128'] } }],
  ['operations.verify[0]', { operations: { verify: ['RS256'] } }],
  ['operations.encrypt-to[0]', { operations: { 'encrypt-to': ['EC-P256'] } }],
  ['defaults.encrypt', { defaults: { encrypt: 'AES-128' } }],
  ['lease.maxStalenessSeconds', { lease: { maxStalenessSeconds: 101, whenStale: 'deny' } }],
  ['lease.whenStale', { lease: { maxStalenessSeconds: 100, whenStale: 'process-only' } }],
  ['keys.softUses', { keys: { softUses: 11 } }],
  ['keys.hardUses', { keys: { hardUses: 21 } }],
  ['keys.softAgeSeconds', { keys: { softAgeSeconds: 31 } }],
  ['keys.hardAgeSeconds', { keys: { hardAgeSeconds: 41 } }],
  ['keys.destroyWaitSeconds', { keys: { destroyWaitSeconds: 49 } }],
  ['rateLimits.operationsPerSecond', { rateLimits: { operationsPerSecond: 61, burst: 70 } }],
  ['rateLimits.burst', { rateLimits: { operationsPerSecond: 60, burst: 71 } }],
  ['audit.durability', { audit: { durability: 'committed', whenUnavailable: 'refuse' } }],
  ['audit.whenUnavailable', { audit: { durability: 'flushed', whenUnavailable: 'process-only' } }],
  ['caches.tokenSeconds', { caches: { tokenSeconds: 31 } }],
  ['caches.dataKeys', { caches: { tokenSeconds: 30, dataKeys: { maxAgeSeconds: 1, maxUses: 2, maxBytes: 1 } } }],
  [
    'caches.unwrappedKeys',
    { caches: { tokenSeconds: 30, unwrappedKeys: { maxAgeSeconds: 1, maxUses: 2, maxKeys: 1 } } },
  ],
];

for (const [path, changes] of WIDER) {
  test(`finds the widening of ${path} by ${JSON.stringify(changes)}`, () => {
    const [platform, tenant] = [platformPolicy(STRICT), tenantPolicy(changes)];
    assert.deepEqual(
      findWidenings(platform, tenant).map((row) => row.path),
      [path],
    );
    assert.throws(() => requireNarrowing(platform, tenant), { code: 'WIDENING', path });
  });
}

const NARROWER: Partial<TenantPolicy>[] = [
  {},
  { fipsOnly: { boundary: 'private-keys' } },
  { fipsOnly: { boundary: 'everything' } },
  // RS256 stays denied beneath, so the id means PS* here.
  { algorithms: { allow: ['RSA-3072'] } },
  { algorithms: { deny: ['AES-256'], sunset: { 'AES-256': SUNSET, ES256: SUNSET } } },
  { operations: { sign: ['ES256'], encrypt: [], decrypt: ['AES-256'] } },
  { defaults: { encrypt: 'AES-256' } },
  { lease: { maxStalenessSeconds: 1, whenStale: 'deny' } },
  { keys: { softUses: 10, hardUses: 20, softAgeSeconds: 1, hardAgeSeconds: 1, destroyWaitSeconds: 51 } },
  { rateLimits: { operationsPerSecond: 60, burst: 1 }, caches: { tokenSeconds: 0 } },
  { audit: { durability: 'flushed', whenUnavailable: 'refuse' }, revokedTokens: ['x'] },
];

for (const changes of NARROWER) {
  test(`takes ${JSON.stringify(changes)} for narrowing`, () => {
    assert.deepEqual(findWidenings(platformPolicy(STRICT), tenantPolicy(changes)), []);
  });
}

const KEPT = { maxAgeSeconds: 60, maxUses: 100, maxBytes: 4096 };

test('content keys are kept where the platform lets them be, within the smaller of both bounds', () => {
  const platform = (dataKeys?: false | typeof KEPT) =>
    platformPolicy({ caches: { tokenSeconds: 30, ...(dataKeys !== undefined && { dataKeys }) } });
  const tenant = (dataKeys: false | typeof KEPT) => tenantPolicy({ caches: { tokenSeconds: 30, dataKeys } });
  const merged = (of: ReturnType<typeof platform>, policy?: ReturnType<typeof tenant>) =>
    mergePolicies({ tenant: 'acme', platform: of, ...(policy && { policy }) }).caches.dataKeys;
  assert.equal(merged(platform()), undefined);
  assert.equal(merged(platform(false)), undefined);
  assert.deepEqual(merged(platform(KEPT)), KEPT);
  assert.equal(merged(platform(KEPT), tenant(false)), undefined);
  const mixed = { maxAgeSeconds: 30, maxUses: 1000, maxBytes: 4095 };
  assert.deepEqual(merged(platform(KEPT), tenant(mixed)), { maxAgeSeconds: 30, maxUses: 100, maxBytes: 4095 });
  assert.equal(merged(platform(), tenant(KEPT)), undefined, 'the merge does not depend on the check');
  assert.deepEqual(
    findWidenings(platform(KEPT), tenant({ maxAgeSeconds: 61, maxUses: 101, maxBytes: 4096 })).map((row) => row.path),
    ['caches.dataKeys.maxAgeSeconds', 'caches.dataKeys.maxUses'],
  );
  assert.deepEqual(findWidenings(platform(KEPT), tenant(false)), []);
});

const UNWRAPPED = { maxAgeSeconds: 60, maxUses: 100, maxKeys: 8 };

test('private bytes are kept where the platform lets them be, within the smaller of both bounds', () => {
  type Rules = false | typeof UNWRAPPED;
  const platform = (unwrappedKeys?: Rules) =>
    platformPolicy({ caches: { tokenSeconds: 30, ...(unwrappedKeys !== undefined && { unwrappedKeys }) } });
  const tenant = (unwrappedKeys: Rules) => tenantPolicy({ caches: { tokenSeconds: 30, unwrappedKeys } });
  const merged = (of: ReturnType<typeof platform>, policy?: ReturnType<typeof tenant>) =>
    mergePolicies({ tenant: 'acme', platform: of, ...(policy && { policy }) }).caches;
  assert.deepEqual(merged(platform()), { tokenSeconds: 30 });
  assert.deepEqual(merged(platform(false)), { tokenSeconds: 30 });
  assert.deepEqual(merged(platform(UNWRAPPED)).unwrappedKeys, UNWRAPPED);
  assert.deepEqual(merged(platform(UNWRAPPED), tenant(false)), { tokenSeconds: 30 });
  const mixed = { maxAgeSeconds: 30, maxUses: 1000, maxKeys: 2 };
  assert.deepEqual(merged(platform(UNWRAPPED), tenant(mixed)).unwrappedKeys, { ...mixed, maxUses: 100 });
  assert.deepEqual(merged(platform(), tenant(UNWRAPPED)), { tokenSeconds: 30 }, 'whatever was checked before');
  assert.deepEqual(
    findWidenings(platform(UNWRAPPED), tenant({ maxAgeSeconds: 60, maxUses: 101, maxKeys: 9 })).map((row) => row.path),
    ['caches.unwrappedKeys.maxUses', 'caches.unwrappedKeys.maxKeys'],
  );
  assert.deepEqual(findWidenings(platform(UNWRAPPED), tenant(false)), []);
});

test('lists every widening of a policy, and names them all in the error', () => {
  const wide = tenantPolicy({ fipsOnly: false, caches: { tokenSeconds: 60 }, keys: { hardUses: 99 } });
  assert.deepEqual(
    findWidenings(platformPolicy(STRICT), wide).map(({ path }) => path),
    ['keys.hardUses', 'caches.tokenSeconds', 'fipsOnly'],
  );
  assert.throws(() => requireNarrowing(platformPolicy(STRICT), wide), /keys\.hardUses.*caches\.tokenSeconds.*fipsOnly/);
});

test('refuses a policy for a tenant that the platform does not have', () => {
  assert.throws(() => requireNarrowing(platformPolicy({ tenants: [] }), tenantPolicy()), { code: 'TENANT_UNKNOWN' });
});

test('the merge allows nothing that the platform policy denies', () => {
  let allowed = 0;
  fc.assert(
    fc.property(
      anyPlatform,
      anyTenant,
      anyQuestion,
      anyTime,
      anyTime,
      (platform, policy, question, now, verifiedAt) => {
        const alone = decide(mergePolicies({ tenant: 'acme', platform }), question, now, verifiedAt);
        const merged = decide(mergePolicies({ tenant: 'acme', platform, policy }), question, now, verifiedAt);
        if (!merged.allowed) return;
        allowed += 1;
        assert.ok(alone.allowed, `${alone.allowed ? '' : alone.explanation}`);
        const codes = merged.warnings.map(({ code }) => code);
        for (const { code } of alone.warnings) assert.ok(codes.includes(code), `the merge lost the warning ${code}`);
      },
    ),
    { numRuns: 3000 },
  );
  assert.ok(allowed > 200, `only ${allowed} questions were allowed, so little was compared`);
});

test('the merge allows nothing that the tenant policy denies', () => {
  fc.assert(
    fc.property(anyPlatform, anyTenant, anyQuestion, (platform, policy, question) => {
      const merged = decide(mergePolicies({ tenant: 'acme', platform, policy }), question, NOW, NOW);
      const own = policy.operations?.[question.operation];
      const named = [question.algorithm, question.jose].filter((name) => name !== undefined);
      if (!merged.allowed || named.length < 2) return;
      assert.ok(own === undefined || named.some((name) => own.includes(name)));
      assert.ok(
        policy.algorithms?.allow === undefined || named.some((name) => policy.algorithms?.allow?.includes(name)),
      );
      assert.ok(!named.some((name) => policy.algorithms?.deny?.includes(name)));
    }),
    { numRuns: 2000 },
  );
});

test('the merge takes the stricter side of every limit', () => {
  fc.assert(
    fc.property(anyPlatform, anyTenant, (platform, policy) => {
      const alone = mergePolicies({ tenant: 'acme', platform });
      const merged = mergePolicies({ tenant: 'acme', platform, policy });
      for (const limit of ['softUses', 'hardUses', 'softAge', 'hardAge'] as const) {
        const [before, after] = [alone.keyLimits[limit], merged.keyLimits[limit]];
        if (before !== undefined) assert.ok(after !== undefined && after <= before, limit);
      }
      const { softUses, hardUses } = merged.keyLimits;
      if (softUses !== undefined && hardUses !== undefined) assert.ok(softUses <= hardUses);
      assert.ok(merged.destroyWait >= alone.destroyWait);
      assert.ok(merged.rateLimits.burst <= alone.rateLimits.burst);
      assert.ok(merged.rateLimits.operationsPerSecond <= alone.rateLimits.operationsPerSecond);
      assert.ok(merged.lease.maxStaleness <= alone.lease.maxStaleness);
      assert.ok(merged.caches.tokenSeconds <= alone.caches.tokenSeconds);
      assert.ok(merged.notBefore >= alone.notBefore && merged.expiresAt <= alone.expiresAt);
      if (alone.durability === 'flushed') assert.equal(merged.durability, 'flushed');
      if (alone.whenAuditUnavailable === 'refuse') assert.equal(merged.whenAuditUnavailable, 'refuse');
      if (alone.lease.whenStale === 'deny') assert.equal(merged.lease.whenStale, 'deny');
      for (const token of alone.revokedTokens) assert.ok(merged.revokedTokens.includes(token));
    }),
    { numRuns: 500 },
  );
});

test('the effective view cannot be changed', () => {
  const view = mergePolicies({ tenant: 'acme', platform: platformPolicy(STRICT), policy: tenantPolicy() });
  for (const part of [view, view.layers, view.lease, view.defaults, view.keyLimits, view.rateLimits, view.caches])
    assert.ok(Object.isFrozen(part));
  assert.ok(view.layers.every(Object.isFrozen));
});
