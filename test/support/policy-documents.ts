// Policy payloads for tests of the documents: small, valid, and easy to change in one place. Also arbitrary ones.
import fc from 'fast-check';
import { ALGORITHMS, JOSE_NAMES } from '../../proto/documents/algorithms.ts';
import { COMPOSITE_RULES } from '../../proto/documents/composite-verification.ts';
import { OPERATION_NAMES } from '../../proto/documents/operations.ts';
import type { PolicyQuestion } from '../../proto/documents/policy-decide.ts';
import { policyFromTemplate } from '../../proto/documents/policy-templates.ts';
import type { PlatformPolicy, TenantPolicy } from '../../proto/documents/policy-types.ts';

export const NOW = Date.UTC(2026, 10, 24, 8);
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
export const iso = (time: number): string => new Date(time).toISOString();

export const platformPolicy = (changes: Partial<PlatformPolicy> = {}): PlatformPolicy => ({
  ...policyFromTemplate({ scope: 'platform', template: 'default', issuedAt: NOW - HOUR_MS, tenants: ['acme'] }),
  ...changes,
});

export const tenantPolicy = (changes: Partial<TenantPolicy> = {}): TenantPolicy => ({
  ...policyFromTemplate({ scope: 'tenant', template: 'default', issuedAt: NOW - HOUR_MS, tenant: 'acme' }),
  ...changes,
});

export const bytesOf = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

const IDS = ALGORITHMS.filter(({ status }) => status !== 'forbidden').map(({ id }) => id);
const NAMES = [...IDS, ...JOSE_NAMES];
const DATES = [-400, -2, -1, 0, 1, 2, 400].map((days) => iso(NOW + days * DAY_MS));

// Half of the lists are long and few policies are out of date, so that enough questions pass to be compared.
const few = fc.uniqueArray(fc.constantFrom(...NAMES), { maxLength: 4 });
const names = fc.oneof(few, fc.constant(NAMES), fc.uniqueArray(fc.constantFrom(...NAMES), { minLength: 20 }));
const date = fc.constantFrom(...DATES);
const sunset = fc.dictionary(fc.constantFrom(...NAMES), fc.record({ warnAfter: date, refuseAfter: date }), {
  maxKeys: 4,
  noNullPrototype: true,
});
const operations = fc.dictionary(fc.constantFrom(...OPERATION_NAMES), names, { maxKeys: 4, noNullPrototype: true });
const fipsOnly = fc.oneof(
  { weight: 3, arbitrary: fc.constant(false as const) },
  { weight: 1, arbitrary: fc.record({ boundary: fc.constantFrom('algorithms', 'private-keys', 'everything') }) },
);
const lease = fc.record({
  maxStalenessSeconds: fc.constantFrom(60, 3600, 86_400),
  whenStale: fc.constantFrom('deny', 'process-only'),
});
const uses = fc.integer({ min: 1, max: 5 });
const keys = { softUses: uses, hardUses: uses, softAgeSeconds: uses, hardAgeSeconds: uses };
const destroyWaitSeconds = fc.integer({ min: 0, max: 5 });
const rateLimits = fc.record({ operationsPerSecond: uses, burst: uses });
const audit = fc.record({
  durability: fc.constantFrom('committed', 'flushed'),
  whenUnavailable: fc.constantFrom('refuse', 'process-only'),
});
const dataKeys = fc.oneof(
  fc.constant(false as const),
  fc.record({
    maxAgeSeconds: fc.integer({ min: 1, max: 3600 }),
    maxUses: fc.integer({ min: 2, max: 2 ** 20 }),
    maxBytes: fc.integer({ min: 1, max: 2 ** 36 }),
  }),
);
const caches = fc.record(
  { tokenSeconds: fc.integer({ min: 0, max: 60 }), dataKeys },
  { requiredKeys: ['tokenSeconds'] },
);
const compositeVerification = fc.constantFrom(...COMPOSITE_RULES);
const often = (usual: number): fc.Arbitrary<string> =>
  fc.oneof({ weight: 5, arbitrary: fc.constant(iso(NOW + usual * DAY_MS)) }, { weight: 1, arbitrary: date });
const validity = { notBefore: often(-400), expiresAt: often(400) };
const optional: { requiredKeys: [] } = { requiredKeys: [] };
const defaults = fc.record({ encrypt: fc.constantFrom(...IDS), sign: fc.constantFrom(...IDS) }, optional);

/** Platform policies of all kinds; their values need not make sense together. */
export const anyPlatform: fc.Arbitrary<PlatformPolicy> = fc
  .record({
    ...validity,
    lease,
    fipsOnly,
    algorithms: fc.record({ allow: names, deny: few, sunset }, { requiredKeys: ['allow'] }),
    operations,
    defaults,
    keys: fc.record({ ...keys, destroyWaitSeconds }, { requiredKeys: ['destroyWaitSeconds'] }),
    rateLimits,
    audit,
    caches,
    compositeVerification,
    checkSignatures: fc.boolean(),
    streams: fc.record({ localKeys: fc.boolean() }),
    revokedTokens: fc.uniqueArray(fc.constantFrom('a', 'b', 'c')),
  })
  .map((changes) => platformPolicy(changes as Partial<PlatformPolicy>));

export const anyTenant: fc.Arbitrary<TenantPolicy> = fc
  .record(
    {
      ...validity,
      lease,
      fipsOnly,
      algorithms: fc.record({ allow: names, deny: few, sunset }, optional),
      operations,
      defaults,
      keys: fc.record({ ...keys, destroyWaitSeconds }, optional),
      rateLimits,
      audit,
      caches,
      compositeVerification,
      checkSignatures: fc.boolean(),
      streams: fc.record({ localKeys: fc.boolean() }),
      revokedTokens: fc.uniqueArray(fc.constantFrom('a', 'b', 'c')),
    },
    optional,
  )
  .map((changes) => tenantPolicy(changes as Partial<TenantPolicy>));

const ROWS = ALGORITHMS.filter(({ status }) => status !== 'forbidden');
const fittingUse = fc.constantFrom(
  ...ROWS.flatMap(({ id, jose }) =>
    Object.values(jose).flatMap((names) => names.map((name) => ({ algorithm: id, jose: name }))),
  ),
);
const oddUse = fc.record({
  algorithm: fc.option(fc.constantFrom(...ALGORITHMS.map(({ id }) => id), 'unknown'), { nil: undefined }),
  jose: fc.option(fc.constantFrom(...JOSE_NAMES, 'RSA1_5', 'unknown'), { nil: undefined }),
});

/** Mostly an algorithm with a JOSE name of its own, sometimes anything. */
export const anyQuestion: fc.Arbitrary<PolicyQuestion> = fc
  .record({
    operation: fc.constantFrom(...OPERATION_NAMES),
    use: fc.oneof({ weight: 3, arbitrary: fittingUse }, { weight: 1, arbitrary: oddUse }),
    custody: fc.option(fc.constantFrom('hsm', 'wrapped', 'split'), { nil: undefined }),
  })
  .map(({ use, ...question }) => ({ tenant: 'acme', ...question, ...use }) as PolicyQuestion);

export const anyTime: fc.Arbitrary<number> = fc.oneof(
  fc.constant(NOW),
  fc.integer({ min: NOW - 2 * DAY_MS, max: NOW + 2 * DAY_MS }),
  fc.integer({ min: NOW - 500 * DAY_MS, max: NOW + 500 * DAY_MS }),
);
