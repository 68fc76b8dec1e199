// The decision table: which rule answers which question, in which order, at which time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OPERATION_NAMES } from '../../proto/documents/operations.ts';
import { decide, explain, type PolicyQuestion } from '../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../proto/documents/policy-merge.ts';
import type { EffectivePolicy, PlatformPolicy, TenantPolicy } from '../../proto/documents/policy-types.ts';
import {
  anyPlatform,
  anyQuestion,
  anyTenant,
  anyTime,
  DAY_MS,
  iso,
  NOW,
  platformPolicy,
  tenantPolicy,
} from '../support/policy-documents.ts';

const view = (platform: Partial<PlatformPolicy> = {}, tenant?: Partial<TenantPolicy>): EffectivePolicy =>
  mergePolicies({
    tenant: 'acme',
    platform: platformPolicy(platform),
    ...(tenant && { policy: tenantPolicy(tenant) }),
  });

const ask = (
  operation: PolicyQuestion['operation'],
  algorithm?: string,
  jose?: string,
  custody?: PolicyQuestion['custody'],
) =>
  ({
    tenant: 'acme',
    operation,
    ...(algorithm && { algorithm }),
    ...(jose && { jose }),
    ...(custody && { custody }),
  }) as PolicyQuestion;

/** "+rule", with warnings, or "-CODE rule". */
const answer = (effective: EffectivePolicy, question: PolicyQuestion, now = NOW, verifiedAt = NOW): string => {
  const decision = decide(effective, question, now, verifiedAt);
  if (!decision.allowed) return `-${decision.code} ${decision.rule}`;
  return ['+', decision.rule, ...decision.warnings.map(({ code }) => ` ${code}`)].join('');
};

const FIPS = (boundary: 'algorithms' | 'private-keys' | 'everything'): Partial<PlatformPolicy> => ({
  fipsOnly: { boundary },
});
const ALLOW = (...allow: string[]) => ({ algorithms: { allow } });
const DENY = (...deny: string[]) => ({ algorithms: { ...platformPolicy().algorithms, deny } });
const PS256 = ask('sign', 'RSA-3072', 'PS256', 'hsm');
const RS256 = ask('sign', 'RSA-3072', 'RS256', 'hsm');

const TABLE: [title: string, effective: EffectivePolicy, question: PolicyQuestion, expected: string][] = [
  ['an allowed id', view(), PS256, '+platform.algorithms.allow'],
  ['an allowed JOSE name', view(ALLOW('PS256')), PS256, '+platform.algorithms.allow'],
  ['neither allowed', view(ALLOW('ES256')), PS256, '-POLICY_DENIED platform.algorithms.allow'],
  ['an id denied', view(DENY('RSA-3072')), PS256, '-POLICY_DENIED platform.algorithms.deny'],
  ['a JOSE name denied', view(DENY('RS256')), RS256, '-POLICY_DENIED platform.algorithms.deny'],
  ['the other JOSE name denied', view(DENY('RS256')), PS256, '+platform.algorithms.allow'],
  [
    'deny before allow',
    view({ algorithms: { allow: [], deny: ['PS256'] } }),
    PS256,
    '-POLICY_DENIED platform.algorithms.deny',
  ],
  [
    'denied by the tenant',
    view({}, { algorithms: { deny: ['PS256'] } }),
    PS256,
    '-POLICY_DENIED tenant.algorithms.deny',
  ],
  [
    'not allowed by the tenant',
    view({}, { algorithms: { allow: ['ES256'] } }),
    PS256,
    '-POLICY_DENIED tenant.algorithms.allow',
  ],
  ['allowed by the tenant too', view({}, { algorithms: { allow: ['PS256'] } }), PS256, '+tenant.algorithms.allow'],
  ['on the list of the operation', view({ operations: { sign: ['PS256'] } }), PS256, '+platform.operations.sign'],
  [
    'not on the list of the operation',
    view({ operations: { sign: ['PS256'] } }),
    RS256,
    '-POLICY_DENIED platform.operations.sign',
  ],
  ['on the list of another operation', view({ operations: { verify: [] } }), PS256, '+platform.algorithms.allow'],
  [
    'an empty list of the operation',
    view({}, { operations: { sign: [] } }),
    PS256,
    '-POLICY_DENIED tenant.operations.sign',
  ],
  [
    'on the list but not allowed',
    view({ ...ALLOW('ES256'), operations: { sign: ['PS256'] } }),
    PS256,
    '-POLICY_DENIED platform.algorithms.allow',
  ],
  [
    'a tenant list beyond the platform list',
    view({ operations: { sign: ['ES256'] } }, { operations: { sign: ['PS256'] } }),
    PS256,
    '-POLICY_DENIED platform.operations.sign',
  ],
  ['random bytes', view(), ask('generate-random'), '+platform.tenants'],
  [
    'random bytes refused',
    view({ operations: { 'generate-random': [] } }),
    ask('generate-random'),
    '-POLICY_DENIED platform.operations.generate-random',
  ],
  [
    'a key without JOSE name, in some use',
    view(ALLOW('PS256')),
    ask('create-key', 'RSA-3072'),
    '+platform.algorithms.allow',
  ],
  [
    'a key without JOSE name, all uses denied',
    view(DENY('RSA-OAEP-256', 'PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512')),
    ask('create-key', 'RSA-3072'),
    '-POLICY_DENIED platform.algorithms.deny',
  ],
  [
    'a sign question without JOSE name',
    view(ALLOW('RSA-OAEP-256')),
    ask('sign', 'RSA-3072'),
    '-POLICY_DENIED platform.algorithms.allow',
  ],
  ['a JOSE name alone', view(ALLOW('ES256')), ask('verify-with', undefined, 'ES256'), '+platform.algorithms.allow'],
  ['no algorithm where one is needed', view(), ask('sign'), '-POLICY_DENIED platform.algorithms.allow'],
  ['an unknown algorithm', view(), ask('sign', 'ROT13'), '-POLICY_DENIED platform.algorithms.allow'],
  ['a forbidden id', view(), ask('sign', 'RSA-1024', 'PS256'), '-ALGORITHM_FORBIDDEN forbidden'],
  ['a forbidden JOSE name', view(), ask('decrypt', 'RSA-3072', 'RSA1_5'), '-ALGORITHM_FORBIDDEN forbidden'],
  ['a forbidden name in other letters', view(), ask('mac', 'hmac-md5'), '-ALGORITHM_FORBIDDEN forbidden'],
  ['listing keys', view(), ask('list-keys'), '+platform.tenants'],
  [
    'approved algorithm, boundary algorithms',
    view(FIPS('algorithms')),
    ask('sign', 'Ed25519', 'Ed25519', 'wrapped'),
    '+platform.algorithms.allow',
  ],
  [
    'unknown algorithm, boundary algorithms',
    view(FIPS('algorithms')),
    ask('sign', 'ROT13', 'ROT13'),
    '-FIPS_ONLY platform.fipsOnly',
  ],
  [
    'wrapped key, boundary private-keys',
    view(FIPS('private-keys')),
    ask('sign', 'Ed25519', 'Ed25519', 'wrapped'),
    '-FIPS_ONLY platform.fipsOnly',
  ],
  [
    'key of unknown custody, boundary private-keys',
    view(FIPS('private-keys')),
    ask('sign', 'Ed25519', 'Ed25519'),
    '-FIPS_ONLY platform.fipsOnly',
  ],
  ['token key, boundary private-keys', view(FIPS('private-keys')), PS256, '+platform.algorithms.allow'],
  [
    "a stranger's public key, boundary private-keys",
    view(FIPS('private-keys')),
    ask('encrypt-to', 'RSA-3072', 'RSA-OAEP-256'),
    '+platform.algorithms.allow',
  ],
  [
    'a wrapped key to be made, boundary private-keys',
    view(FIPS('private-keys')),
    ask('create-key', 'Ed25519', 'Ed25519', 'wrapped'),
    '-FIPS_ONLY platform.fipsOnly',
  ],
  [
    'boundary of the tenant',
    view({}, { fipsOnly: { boundary: 'private-keys' } }),
    ask('sign', 'Ed25519', 'Ed25519', 'wrapped'),
    '-FIPS_ONLY tenant.fipsOnly',
  ],
  [
    'mac, boundary everything',
    view(FIPS('everything')),
    ask('mac', 'HMAC-SHA256', 'HS256', 'hsm'),
    '+platform.algorithms.allow',
  ],
  [
    'verify-mac, boundary everything',
    view(FIPS('everything')),
    ask('verify-mac', 'HMAC-SHA256', 'HS256', 'hsm'),
    '+platform.algorithms.allow',
  ],
  [
    'Ed25519 in the token, boundary everything',
    view(FIPS('everything')),
    ask('sign', 'Ed25519', 'Ed25519', 'hsm'),
    '+platform.algorithms.allow',
  ],
  ['RSA signature, boundary everything', view(FIPS('everything')), PS256, '-FIPS_ONLY platform.fipsOnly'],
  [
    'encryption, boundary everything',
    view(FIPS('everything')),
    ask('encrypt', 'AES-256', 'A256GCMKW', 'hsm'),
    '-FIPS_ONLY platform.fipsOnly',
  ],
  [
    'decryption, boundary everything',
    view(FIPS('everything')),
    ask('decrypt', 'AES-256', 'A256GCMKW', 'hsm'),
    '-FIPS_ONLY platform.fipsOnly',
  ],
  [
    'verification, boundary everything',
    view(FIPS('everything')),
    ask('verify', 'Ed25519', 'Ed25519', 'hsm'),
    '-FIPS_ONLY platform.fipsOnly',
  ],
  [
    "a stranger's key, boundary everything",
    view(FIPS('everything')),
    ask('verify-with', 'Ed25519', 'Ed25519'),
    '-FIPS_ONLY platform.fipsOnly',
  ],
  [
    'random bytes, boundary everything',
    view(FIPS('everything')),
    ask('generate-random'),
    '-FIPS_ONLY platform.fipsOnly',
  ],
  [
    'a token key to be made, boundary everything',
    view(FIPS('everything')),
    ask('create-key', 'AES-256', 'A256GCMKW', 'hsm'),
    '+platform.algorithms.allow',
  ],
];

for (const [title, effective, question, expected] of TABLE) {
  test(`decides ${title}: ${expected}`, () => assert.equal(answer(effective, question), expected));
}

test('a sunset warns, then refuses new work only; old data stays readable', () => {
  const sunset = { PS256: { warnAfter: iso(NOW), refuseAfter: iso(NOW + DAY_MS) } };
  const effective = view({ algorithms: { ...platformPolicy().algorithms, sunset } });
  const verify = ask('verify', 'RSA-3072', 'PS256', 'hsm');
  const at = (question: PolicyQuestion, now: number): string => answer(effective, question, now, now);
  assert.equal(at(PS256, NOW - 1), '+platform.algorithms.allow');
  assert.equal(at(PS256, NOW), '+platform.algorithms.allow ALGORITHM_SUNSET');
  assert.equal(at(PS256, NOW + DAY_MS - 1), '+platform.algorithms.allow ALGORITHM_SUNSET');
  assert.equal(at(PS256, NOW + DAY_MS), '-POLICY_DENIED platform.algorithms.sunset');
  assert.equal(at(ask('create-key', 'RSA-3072', 'PS256'), NOW + DAY_MS), '-POLICY_DENIED platform.algorithms.sunset');
  assert.equal(at(verify, NOW + DAY_MS), '+platform.algorithms.allow ALGORITHM_SUNSET');
  assert.equal(at(RS256, NOW + DAY_MS), '+platform.algorithms.allow');
});

test("the earlier of the platform's and the tenant's sunset counts", () => {
  const sunset = (days: number) => ({ PS256: { warnAfter: iso(NOW), refuseAfter: iso(NOW + days * DAY_MS) } });
  const platform = { algorithms: { ...platformPolicy().algorithms, sunset: sunset(2) } };
  const effective = view(platform, { algorithms: { sunset: sunset(1) } });
  assert.equal(answer(effective, PS256, NOW + DAY_MS, NOW + DAY_MS), '-POLICY_DENIED tenant.algorithms.sunset');
});

test('outside its validity a policy allows only looking at the agent', () => {
  const effective = view({ notBefore: iso(NOW), expiresAt: iso(NOW + DAY_MS) });
  for (const [now, expected] of [
    [NOW - 1, '-POLICY_INVALID validity'],
    [NOW, '+platform.algorithms.allow'],
    [NOW + DAY_MS - 1, '+platform.algorithms.allow'],
    [NOW + DAY_MS, '-POLICY_INVALID validity'],
  ] as const) {
    assert.equal(answer(effective, PS256, now, now), expected);
    assert.match(answer(effective, ask('get-status'), now, now), /^\+/);
  }
  assert.equal(answer(effective, ask('get-key'), NOW + DAY_MS), '-POLICY_INVALID validity');
  assert.equal(answer(effective, ask('revoke-key'), NOW + DAY_MS), '-POLICY_INVALID validity');
});

test('a stale policy denies, or lets old data be processed with a warning, as its lease says', () => {
  const lease = (whenStale: 'deny' | 'process-only') => view({ lease: { maxStalenessSeconds: 60, whenStale } });
  const verify = ask('verify', 'RSA-3072', 'PS256', 'hsm');
  const fresh = NOW - 60_000;
  const stale = fresh - 1;
  assert.equal(answer(lease('deny'), PS256, NOW, fresh), '+platform.algorithms.allow');
  assert.equal(answer(lease('deny'), PS256, NOW, stale), '-POLICY_STALE lease');
  assert.equal(answer(lease('deny'), verify, NOW, stale), '-POLICY_STALE lease');
  assert.equal(answer(lease('process-only'), PS256, NOW, stale), '-POLICY_STALE lease');
  assert.equal(answer(lease('process-only'), verify, NOW, stale), '+platform.algorithms.allow POLICY_STALE');
  for (const whenStale of ['deny', 'process-only'] as const) {
    assert.equal(answer(lease(whenStale), ask('create-key', 'AES-256'), NOW, stale), '-POLICY_STALE lease');
    assert.equal(answer(lease(whenStale), ask('get-status'), NOW, stale), '+platform.tenants POLICY_STALE');
    assert.equal(answer(lease(whenStale), ask('revoke-key'), NOW, stale), '+platform.tenants POLICY_STALE');
  }
});

test('what is forbidden is refused as forbidden, however old or strict the policy is', () => {
  const effective = view({ ...FIPS('everything'), lease: { maxStalenessSeconds: 1, whenStale: 'deny' } });
  assert.equal(answer(effective, ask('sign', 'RSA-1024'), NOW + 999 * DAY_MS, 0), '-ALGORITHM_FORBIDDEN forbidden');
});

test('age comes before FIPS, FIPS before the lists', () => {
  const effective = view({ ...FIPS('everything'), ...ALLOW() });
  assert.equal(answer(effective, PS256, NOW, 0), '-POLICY_STALE lease');
  assert.equal(answer(effective, PS256), '-FIPS_ONLY platform.fipsOnly');
});

test('explain names the rule and says a sentence', () => {
  assert.deepEqual(explain(view({ operations: { sign: ['PS256'] } }), PS256, NOW, NOW), {
    allowed: true,
    rule: 'platform.operations.sign',
    explanation: 'sign with RSA-3072 (PS256) is allowed by platform.operations.sign',
    code: '',
  });
  const refused = explain(view(DENY('RS256')), RS256, NOW, NOW);
  assert.deepEqual([refused.allowed, refused.rule, refused.code], [false, 'platform.algorithms.deny', 'POLICY_DENIED']);
  assert.equal(refused.explanation, 'sign with RSA-3072 (RS256): the algorithm is on the deny list');
  assert.match(explain(view(), ask('sign', 'RSA-1024'), NOW, NOW).explanation, /RSA-1024 is forbidden.*2048/);
});

test('every operation gets an answer from every policy, with a rule and, when refused, words', () => {
  const operations = new Set<string>();
  fc.assert(
    fc.property(
      anyPlatform,
      fc.option(anyTenant, { nil: undefined }),
      anyQuestion,
      anyTime,
      anyTime,
      (platform, policy, question, now, verifiedAt) => {
        const effective = mergePolicies({ tenant: 'acme', platform, ...(policy && { policy }) });
        const decision = decide(effective, question, now, verifiedAt);
        operations.add(question.operation);
        assert.match(decision.rule, /^(platform|tenant)\.|^(lease|validity|forbidden)$/);
        if (!decision.allowed) assert.ok(decision.explanation.length > 10);
        assert.deepEqual(decide(effective, question, now, verifiedAt), decision);
      },
    ),
    { numRuns: 2000 },
  );
  assert.deepEqual([...operations].sort(), [...OPERATION_NAMES].sort());
});
