// `streams.localKeys`: off unless a platform policy has it, narrowed by a tenant's, and never under a boundary of fipsOnly.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parsePolicy } from '../../proto/documents/policy.ts';
import { mergePolicies } from '../../proto/documents/policy-merge.ts';
import { findWidenings, requireNarrowing } from '../../proto/documents/policy-narrow.ts';
import { POLICY_TEMPLATES, policyFromTemplate } from '../../proto/documents/policy-templates.ts';
import type { FipsBoundary, PlatformPolicy } from '../../proto/documents/policy-types.ts';
import { anyPlatform, anyTenant, bytesOf, platformPolicy, tenantPolicy } from '../support/policy-documents.ts';

const BOUNDARIES: readonly FipsBoundary[] = ['algorithms', 'private-keys', 'everything'];
const rules = (localKeys: boolean | undefined) => (localKeys === undefined ? {} : { streams: { localKeys } });
const merged = (
  platform: boolean | undefined,
  tenant: boolean | undefined,
  fipsOnly: PlatformPolicy['fipsOnly'] = false,
) =>
  mergePolicies({
    tenant: 'acme',
    platform: platformPolicy({ ...rules(platform), fipsOnly }),
    policy: tenantPolicy(rules(tenant)),
  }).localStreamKeys;

test('keys of streams stay in the agent unless the platform lets them out, and a tenant can only keep them in', () => {
  for (const tenant of [undefined, true, false]) {
    assert.equal(merged(undefined, tenant), false);
    assert.equal(merged(false, tenant), false);
    assert.equal(merged(true, tenant), tenant !== false);
  }
  const widening = { path: 'streams.localKeys', platform: 'false', tenant: 'true' };
  for (const platform of [undefined, false]) {
    const found = findWidenings(platformPolicy(rules(platform)), tenantPolicy(rules(true)));
    assert.deepEqual(found, [widening]);
  }
  requireNarrowing(platformPolicy(rules(true)), tenantPolicy(rules(false)));
});

test('no boundary of fipsOnly goes with keys that leave: one document is refused, two are merged to none', () => {
  for (const boundary of BOUNDARIES) {
    for (const policy of [platformPolicy(), tenantPolicy()]) {
      const both = { ...policy, fipsOnly: { boundary }, ...rules(true) };
      assert.throws(() => parsePolicy(bytesOf(both)), { code: 'VALUE_INVALID', path: 'streams.localKeys' });
      parsePolicy(bytesOf({ ...both, ...rules(false) }));
    }
    assert.equal(merged(true, undefined, { boundary }), false);
  }
});

test('whatever the two policies say, keys leave only where the platform alone would let them', () => {
  fc.assert(
    fc.property(anyPlatform, anyTenant, (platform, policy) => {
      const alone = mergePolicies({ tenant: 'acme', platform }).localStreamKeys;
      const both = mergePolicies({ tenant: 'acme', platform, policy }).localStreamKeys;
      assert.ok(alone || !both);
    }),
    { numRuns: 500 },
  );
});

test('no template lets keys of streams out', () => {
  for (const template of POLICY_TEMPLATES) {
    const platform = policyFromTemplate({ template, scope: 'platform', issuedAt: Date.now(), tenants: ['acme'] });
    assert.equal(mergePolicies({ tenant: 'acme', platform: platform as PlatformPolicy }).localStreamKeys, false);
  }
});
