// `compositeVerification`: what each rule accepts, that a tenant's only narrows the platform's, and that the merge takes the
// stricter side.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  COMPOSITE_RULES,
  type CompositeVerification,
  judgeHalves,
  narrowsRule,
  strictestRule,
} from '../../proto/documents/composite-verification.ts';
import { parsePolicy } from '../../proto/documents/policy.ts';
import { mergePolicies } from '../../proto/documents/policy-merge.ts';
import { findWidenings, requireNarrowing } from '../../proto/documents/policy-narrow.ts';
import { bytesOf, platformPolicy, tenantPolicy } from '../support/policy-documents.ts';

const HALVES = [
  { classical: true, pqc: true },
  { classical: true, pqc: false },
  { classical: false, pqc: true },
  { classical: false, pqc: false },
];
const merged = (platform?: CompositeVerification, tenant?: CompositeVerification): CompositeVerification =>
  mergePolicies({
    tenant: 'acme',
    platform: platformPolicy(platform && { compositeVerification: platform }),
    policy: tenantPolicy(tenant && { compositeVerification: tenant }),
  }).compositeVerification;

test('each rule accepts what its name says, and none accepts two wrong halves', () => {
  const judged = Object.fromEntries(COMPOSITE_RULES.map((rule) => [rule, HALVES.map((row) => judgeHalves(rule, row))]));
  assert.deepEqual(judged, {
    all: ['right', 'wrong', 'wrong', 'wrong'],
    'classical-required': ['right', 'partial', 'wrong', 'wrong'],
    'pqc-required': ['right', 'wrong', 'partial', 'wrong'],
    any: ['right', 'partial', 'partial', 'wrong'],
  });
});

test('the stricter of two rules accepts exactly what both accept, but for one that requires each half', () => {
  for (const one of COMPOSITE_RULES) {
    for (const other of COMPOSITE_RULES) {
      const both = strictestRule([one, other]);
      assert.equal(both, strictestRule([other, one]));
      for (const row of HALVES) {
        const accepted = [one, other].every((rule) => judgeHalves(rule, row) !== 'wrong');
        assert.equal(judgeHalves(both, row) !== 'wrong', accepted, `${one} and ${other}`);
      }
      const narrows = HALVES.every((row) => judgeHalves(other, row) === 'wrong' || judgeHalves(one, row) !== 'wrong');
      assert.equal(narrowsRule(one, other), narrows, `${other} under ${one}`);
    }
  }
});

test('without a rule both halves are required', () => {
  assert.equal(merged(), 'all');
  assert.equal(merged('any'), 'any');
  assert.equal(merged(undefined, 'any'), 'all');
});

test('the merge takes the stricter side; of the two in the middle it requires both halves', () => {
  assert.equal(merged('any', 'pqc-required'), 'pqc-required');
  assert.equal(merged('pqc-required', 'any'), 'pqc-required');
  assert.equal(merged('classical-required', 'pqc-required'), 'all');
  assert.equal(merged('any', 'all'), 'all');
});

test('a tenant policy that accepts more than the platform’s is found as a widening', () => {
  for (const platform of COMPOSITE_RULES) {
    for (const rule of COMPOSITE_RULES) {
      const [above, below] = [
        platformPolicy({ compositeVerification: platform }),
        tenantPolicy({ compositeVerification: rule }),
      ];
      const paths = findWidenings(above, below).map(({ path }) => path);
      assert.deepEqual(
        paths,
        narrowsRule(platform, rule) ? [] : ['compositeVerification'],
        `${rule} under ${platform}`,
      );
    }
  }
  assert.throws(() => requireNarrowing(platformPolicy(), tenantPolicy({ compositeVerification: 'any' })), {
    code: 'WIDENING',
    path: 'compositeVerification',
  });
});

test('the parser takes the four rules in both scopes, and no other', () => {
  for (const rule of COMPOSITE_RULES) {
    for (const policy of [
      platformPolicy({ compositeVerification: rule }),
      tenantPolicy({ compositeVerification: rule }),
    ]) {
      assert.deepEqual(parsePolicy(bytesOf(policy)), policy);
    }
  }
  for (const wrong of ['ALL', 'none', '', null, true, ['all']]) {
    for (const policy of [platformPolicy(), tenantPolicy()]) {
      assert.throws(() => parsePolicy(bytesOf({ ...policy, compositeVerification: wrong })), {
        name: 'PolicyError',
        path: 'compositeVerification',
      });
    }
  }
});
