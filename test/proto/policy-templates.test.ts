// Each template passes the parser and does what its name says: a walk of all algorithms through each.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALGORITHMS, type Purpose } from '../../proto/documents/algorithms.ts';
import type { OperationName } from '../../proto/documents/operations.ts';
import { parsePolicy } from '../../proto/documents/policy.ts';
import { decide, type PolicyQuestion } from '../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../proto/documents/policy-merge.ts';
import { findWidenings } from '../../proto/documents/policy-narrow.ts';
import { POLICY_TEMPLATES, type PolicyTemplate, policyFromTemplate } from '../../proto/documents/policy-templates.ts';
import { bytesOf, NOW } from '../support/policy-documents.ts';

const platform = (template: PolicyTemplate) =>
  policyFromTemplate({ scope: 'platform', template, issuedAt: NOW, validDays: 36_500, tenants: ['acme'] });
const tenant = (template: PolicyTemplate) =>
  policyFromTemplate({ scope: 'tenant', template, issuedAt: NOW, validDays: 36_500, tenant: 'acme' });

const APPLY: Record<Purpose, OperationName> = { encrypt: 'encrypt', sign: 'sign', mac: 'mac' };
const PROCESS: Record<Purpose, OperationName> = { encrypt: 'decrypt', sign: 'verify', mac: 'verify-mac' };
const after = (year: number): number => Date.UTC(year, 0, 1);

interface Walked {
  readonly id: string;
  readonly jose: string;
  readonly apply: string;
  readonly process: string;
}

/** Every algorithm under every JOSE name that it serves, made and read with a key in the token. */
const walk = (template: PolicyTemplate, now = NOW, custody: PolicyQuestion['custody'] = 'hsm'): Walked[] => {
  const effective = mergePolicies({ tenant: 'acme', platform: platform(template) });
  const answer = (operation: OperationName, algorithm: string, jose: string): string => {
    const question = { tenant: 'acme', operation, algorithm, jose, ...(custody && { custody }) };
    const decision = decide(effective, question, now, now);
    if (!decision.allowed) return decision.code;
    return decision.warnings.length === 0 ? 'allowed' : 'warned';
  };
  return ALGORITHMS.flatMap((row) => {
    const served = Object.entries(row.jose) as [Purpose, readonly string[]][];
    const uses = served.flatMap(([purpose, names]) => names.map((jose) => ({ purpose, jose })));
    const listed = uses.length > 0 ? uses : [{ purpose: 'sign' as const, jose: row.id }];
    return listed.map(({ purpose, jose }) => ({
      id: row.id,
      jose,
      apply: answer(APPLY[purpose], row.id, jose),
      process: answer(PROCESS[purpose], row.id, jose),
    }));
  });
};

const rowOf = (id: string) => ALGORITHMS.find((row) => row.id === id);

/** Tenants' templates whose lists name more than a platform's allows; they are refused there. */
const WIDER: ReadonlySet<string> = new Set([
  'fips-140-3 under cnsa-2.0',
  'cnsa-2.0 under fips-140-3', // which demands that private keys are in the token
  'pqc-hybrid under default', // composites: the platform has to allow them first
  'pqc-hybrid under fips-140-3',
  'pqc-hybrid under cnsa-2.0',
  'pqc-hybrid under classical-migration',
  'classical-migration under cnsa-2.0',
  'classical-migration under pqc-hybrid',
]);

for (const template of POLICY_TEMPLATES) {
  test(`the template ${template} passes the parser in both scopes, and the tenant's narrows the platform's`, () => {
    assert.deepEqual(parsePolicy(bytesOf(platform(template))), platform(template));
    assert.deepEqual(parsePolicy(bytesOf(tenant(template))), tenant(template));
    for (const base of POLICY_TEMPLATES) {
      const fits = findWidenings(platform(base), tenant(template)).length === 0;
      assert.equal(fits, !WIDER.has(`${template} under ${base}`), `${template} under ${base}`);
    }
  });

  test(`the template ${template} refuses every forbidden algorithm and has a usable default for each purpose`, () => {
    const forbidden = walk(template).filter(({ id }) => rowOf(id)?.status === 'forbidden');
    assert.ok(forbidden.length > 10);
    for (const row of forbidden)
      assert.deepEqual([row.apply, row.process], ['ALGORITHM_FORBIDDEN', 'ALGORITHM_FORBIDDEN']);
    const { defaults } = mergePolicies({ tenant: 'acme', platform: platform(template) });
    assert.deepEqual(Object.keys(defaults), ['encrypt', 'sign', 'mac']);
    for (const id of Object.values(defaults)) {
      const uses = walk(template).filter((row) => row.id === id);
      assert.ok(
        uses.some(({ apply }) => apply === 'allowed'),
        id,
      );
    }
  });
}

test('default allows exactly the approved algorithms, for making and reading', () => {
  for (const { id, jose, apply, process } of walk('default')) {
    const expected = rowOf(id)?.status === 'approved' ? ['allowed', 'allowed'] : undefined;
    if (expected) assert.deepEqual([apply, process], expected, `${id} ${jose}`);
    else assert.notEqual(apply, 'allowed', `${id} ${jose}`);
  }
});

test('fips-140-3 allows only approved algorithms with keys in the token, and fails closed', () => {
  for (const { id, jose, apply, process } of walk('fips-140-3')) {
    const row = rowOf(id);
    const old = row?.category === 0 && row.securityBits < 128;
    // Composites have approved halves, but the drafts that join them still move.
    const expected = row?.status !== 'approved' ? 'POLICY_DENIED' : old ? 'warned' : 'allowed';
    if (row?.fips != null) assert.deepEqual([apply, process], [expected, expected], `${id} ${jose}`);
    else assert.ok(['FIPS_ONLY', 'ALGORITHM_FORBIDDEN'].includes(apply), `${id} ${jose}: ${apply}`);
  }
  for (const { apply } of walk('fips-140-3', NOW, 'wrapped'))
    assert.ok(['FIPS_ONLY', 'ALGORITHM_FORBIDDEN'].includes(apply));
  const effective = mergePolicies({ tenant: 'acme', platform: platform('fips-140-3') });
  assert.deepEqual(
    [effective.durability, effective.whenAuditUnavailable, effective.lease.whenStale],
    ['flushed', 'refuse', 'deny'],
  );
  assert.equal(effective.keyLimits.hardUses, 2 ** 32);
});

test('a tenant under fips-140-3 beneath a default platform is bound like the platform template', () => {
  const effective = mergePolicies({ tenant: 'acme', platform: platform('default'), policy: tenant('fips-140-3') });
  assert.equal(effective.fipsBoundary, 'private-keys');
  assert.equal(effective.durability, 'flushed');
  const wrapped = {
    tenant: 'acme',
    operation: 'sign',
    algorithm: 'Ed25519',
    jose: 'Ed25519',
    custody: 'wrapped',
  } as const;
  const decision = decide(effective, wrapped, NOW, NOW);
  assert.ok(!decision.allowed && decision.rule === 'tenant.fipsOnly');
});

test('classical-migration reads everything old, and makes less and less with classical algorithms', () => {
  const classical = (row: Walked): boolean => rowOf(row.id)?.category === 0 && rowOf(row.id)?.status === 'approved';
  const weak = (row: Walked): boolean => classical(row) && (rowOf(row.id)?.securityBits ?? 0) < 128;
  const pkcs1 = (row: Walked): boolean => row.jose.startsWith('RS') && !row.jose.includes('OAEP');
  for (const [year, strongClassical, weakClassical] of [
    [2026, 'allowed', 'warned'],
    [2031, 'warned', 'POLICY_DENIED'],
    [2036, 'POLICY_DENIED', 'POLICY_DENIED'],
  ] as const) {
    const rows = walk('classical-migration', Math.max(NOW, after(year))).filter(
      ({ id }) => rowOf(id)?.status === 'approved',
    );
    assert.ok(rows.length > 20);
    for (const row of rows) {
      const expected = pkcs1(row)
        ? 'POLICY_DENIED'
        : weak(row)
          ? weakClassical
          : classical(row)
            ? strongClassical
            : 'allowed';
      assert.equal(row.apply, expected, `${year} ${row.id} ${row.jose}`);
      assert.ok(['allowed', 'warned'].includes(row.process), `${year} ${row.id} ${row.jose}: ${row.process}`);
    }
  }
});

/** What a platform says of a question at a moment. */
const answerOf = (
  policy: ReturnType<typeof platform>,
  question: Omit<PolicyQuestion, 'tenant'>,
  now: number,
): string => {
  const decision = decide(
    mergePolicies({ tenant: 'acme', platform: policy }),
    { tenant: 'acme', ...question },
    now,
    now,
  );
  if (!decision.allowed) return `${decision.code} ${decision.rule}`;
  return decision.warnings.map(({ code }) => code).join() || 'allowed';
};
const SUNSET = 'POLICY_DENIED platform.algorithms.sunset';
const RSA = { algorithm: 'RSA-2048', jose: 'RSA-OAEP-256', custody: 'hsm' } as const;
const EC = { algorithm: 'EC-P256', jose: 'ES256', custody: 'hsm' } as const;

test('fips-140-3 warns of 112-bit keys now and refuses them after 2030, of all vulnerable ones five years later', () => {
  const at = (question: Omit<PolicyQuestion, 'tenant'>, now: number) => answerOf(platform('fips-140-3'), question, now);
  const moments = [NOW, after(2031) - 1, after(2031), after(2036)] as const;
  const walked = (question: Omit<PolicyQuestion, 'tenant'>) => moments.map((now) => at(question, now));
  assert.deepEqual(walked({ operation: 'encrypt', ...RSA }), ['ALGORITHM_SUNSET', 'ALGORITHM_SUNSET', SUNSET, SUNSET]);
  assert.deepEqual(walked({ operation: 'decrypt', ...RSA }), Array(4).fill('ALGORITHM_SUNSET'));
  assert.deepEqual(walked({ operation: 'sign', ...EC }), ['allowed', 'allowed', 'ALGORITHM_SUNSET', SUNSET]);
  assert.deepEqual(walked({ operation: 'verify', ...EC }), [
    'allowed',
    'allowed',
    'ALGORITHM_SUNSET',
    'ALGORITHM_SUNSET',
  ]);
  const kem = { algorithm: 'ML-KEM-768', jose: 'HPKE-12-KE', custody: 'hsm' } as const;
  assert.deepEqual(walked({ operation: 'encrypt', ...kem }), Array(4).fill('allowed'));
});

test('pqc-hybrid reads old keys with a warning, and takes imports of them until their sunset', () => {
  const at = (question: Omit<PolicyQuestion, 'tenant'>, now: number) => answerOf(platform('pqc-hybrid'), question, now);
  const hybrid = { operation: 'encrypt', algorithm: 'ML-KEM-768-RSA2048', custody: 'split' } as const;
  for (const now of [NOW, after(2031), after(2036)]) {
    assert.equal(at({ operation: 'decrypt', ...RSA }, now), 'ALGORITHM_SUNSET');
    assert.equal(at(hybrid, now), 'allowed', 'the other half is what counts then');
  }
  assert.equal(at({ operation: 'import-key', ...RSA }, after(2031) - 1), 'ALGORITHM_SUNSET');
  assert.equal(at({ operation: 'import-key', ...RSA }, after(2031)), SUNSET);
  assert.equal(at({ operation: 'import-key', ...EC }, after(2031)), 'ALGORITHM_SUNSET');
  assert.equal(at({ operation: 'import-key', ...EC }, after(2036)), SUNSET);
});

test('cnsa-2.0 has the dates of CNSA 1.0 for whoever adds one of its algorithms, and allows none by itself', () => {
  const policy = platform('cnsa-2.0');
  const { algorithms } = policy;
  const ids = Object.keys(algorithms.sunset ?? {});
  assert.deepEqual(ids, ['RSA-3072', 'RSA-4096', 'EC-P384']);
  assert.ok(ids.every((id) => !algorithms.allow.includes(id)));
  const wider = { ...policy, algorithms: { ...algorithms, allow: [...algorithms.allow, 'EC-P384'] } };
  const sign = { operation: 'sign', algorithm: 'EC-P384', jose: 'ES384', custody: 'hsm' } as const;
  const moments = [NOW, after(2027) - 1, after(2027), after(2033) - 1, after(2033)];
  assert.deepEqual(
    moments.map((now) => answerOf(wider, sign, now)),
    ['allowed', 'allowed', 'ALGORITHM_SUNSET', 'ALGORITHM_SUNSET', SUNSET],
  );
  assert.equal(answerOf(wider, { ...sign, operation: 'verify' }, after(2033)), 'ALGORITHM_SUNSET');
  assert.equal(answerOf(policy, sign, NOW), 'POLICY_DENIED platform.algorithms.allow');
});

test("a tenant's policy of a later day narrows the platform's of the same template: dates do not move", () => {
  for (const template of POLICY_TEMPLATES) {
    const later = policyFromTemplate({ scope: 'tenant', template, issuedAt: NOW + 400 * 86_400_000, tenant: 'acme' });
    assert.deepEqual(findWidenings(platform(template), later), [], template);
  }
});

test('cnsa-2.0 allows ML-KEM-1024, ML-DSA-87, AES-256 and HMAC with SHA-384 or SHA-512, and nothing else', () => {
  const suite = ['AES-256', 'ML-KEM-1024', 'ML-DSA-87', 'HMAC-SHA384', 'HMAC-SHA512'];
  for (const now of [NOW, after(2036)]) {
    const rows = walk('cnsa-2.0', now, 'wrapped');
    for (const { id, jose, apply, process } of rows) {
      if (suite.includes(id)) assert.deepEqual([apply, process], ['allowed', 'allowed'], `${id} ${jose}`);
      else for (const answer of [apply, process]) assert.ok(!['allowed', 'warned'].includes(answer), `${id} ${jose}`);
    }
    assert.deepEqual(new Set(rows.filter(({ apply }) => apply === 'allowed').map(({ id }) => id)), new Set(suite));
  }
  assert.ok(!ALGORITHMS.some(({ id }) => /LMS|XMSS/.test(id)), 'not provided');
});

test('fips-140-3 has the rows of FIPS 203, 204 and 205, for a token that holds them', () => {
  for (const standard of ['FIPS 203', 'FIPS 204', 'FIPS 205']) {
    const rows = walk('fips-140-3').filter(
      ({ id }) => rowOf(id)?.fips === standard && rowOf(id)?.status === 'approved',
    );
    assert.ok(rows.length > 0, standard);
    for (const { id, apply, process } of rows) assert.deepEqual([apply, process], ['allowed', 'allowed'], id);
  }
});

test('pqc-hybrid makes nothing new but composites and symmetric keys, and reads what is approved', () => {
  const effective = mergePolicies({ tenant: 'acme', platform: platform('pqc-hybrid') });
  for (const { id, jose, apply, process } of walk('pqc-hybrid', NOW, 'split')) {
    const row = rowOf(id);
    const composite = row?.components !== undefined;
    const symmetric = row?.kinds.some((kind) => kind === 'aead' || kind === 'mac') === true;
    const made = row?.status !== 'forbidden' && (composite || symmetric);
    assert.equal(apply === 'allowed', made, `${id} ${jose}: ${apply}`);
    const read = row?.status === 'approved' || composite;
    const old = row?.category === 0 && row.securityBits < 128 && row.status === 'approved';
    assert.equal(process, read ? (old ? 'warned' : 'allowed') : process, `${id} ${jose}`);
    if (!read) assert.ok(!['allowed', 'warned'].includes(process), `${id} ${jose}: ${process}`);
    if (row?.status === 'forbidden') continue;
    for (const operation of ['create-key', 'rotate-key'] as const) {
      const decision = decide(effective, { tenant: 'acme', operation, algorithm: id, jose }, NOW, NOW);
      assert.equal(decision.allowed, made, `${operation} ${id}`);
    }
  }
});

test('no template takes an experimental algorithm; a policy that names it does, and FIPS-only refuses it all the same', () => {
  const experimental = ALGORITHMS.filter(({ status }) => status === 'experimental').map(({ id }) => id);
  assert.deepEqual(experimental, ['FN-DSA-512', 'FN-DSA-1024']);
  for (const name of POLICY_TEMPLATES) {
    for (const { id, apply, process } of walk(name, NOW, 'wrapped').filter((row) => experimental.includes(row.id))) {
      assert.notEqual(apply, 'allowed', `${name} makes ${id}`);
      assert.notEqual(process, 'allowed', `${name} reads ${id}`);
    }
  }
  const named = (fipsOnly: false | { boundary: 'algorithms' }) => {
    const policy = { ...platform('default'), fipsOnly, algorithms: { allow: ['FN-DSA-512'], deny: [], sunset: {} } };
    const effective = mergePolicies({ tenant: 'acme', platform: policy });
    const jose = rowOf('FN-DSA-512')?.jose.sign?.[0] ?? '';
    const question = { tenant: 'acme', operation: 'sign' as const, algorithm: 'FN-DSA-512', jose };
    const decision = decide(effective, { ...question, custody: 'wrapped' }, NOW, NOW);
    return decision.allowed ? 'allowed' : decision.code;
  };
  assert.equal(named(false), 'allowed');
  assert.equal(named({ boundary: 'algorithms' }), 'FIPS_ONLY');
});
