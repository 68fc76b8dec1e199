// Policies to start from. Lists of algorithms are read off the table, so a template cannot name what does not exist;
// docs/spec/policy.md says what each promises and a test walks all algorithms through each.
import { ALGORITHMS, type AlgorithmRow } from './algorithms.ts';
import {
  type Issuer,
  type PlatformPolicy,
  POLICY_SCHEMA,
  type Policy,
  type Sunset,
  type TenantPolicy,
  type Workload,
} from './policy-types.ts';

export const POLICY_TEMPLATES = ['default', 'fips-140-3', 'cnsa-2.0', 'pqc-hybrid', 'classical-migration'] as const;
export type PolicyTemplate = (typeof POLICY_TEMPLATES)[number];

interface TemplateDates {
  readonly template: PolicyTemplate;
  readonly version?: number;
  /** Milliseconds since 1970; also the beginning of validity. */
  readonly issuedAt: number;
  readonly validDays?: number;
}

export type TemplateInput =
  | (TemplateDates & {
      readonly scope: 'platform';
      readonly tenants: readonly string[];
      readonly issuers?: readonly Issuer[];
      readonly workloads?: readonly Workload[];
    })
  | (TemplateDates & { readonly scope: 'tenant'; readonly tenant: string });

/** What a template says in either scope. */
type Rules = Pick<
  PlatformPolicy,
  'lease' | 'fipsOnly' | 'algorithms' | 'operations' | 'defaults' | 'keys' | 'rateLimits' | 'audit' | 'caches'
>;

const DAY_SECONDS = 24 * 3600;
const DAY_MS = DAY_SECONDS * 1000;
const VALID_DAYS = 365;

const idsWhere = (accepts: (row: AlgorithmRow) => boolean): readonly string[] =>
  ALGORITHMS.filter(accepts).map(({ id }) => id);

const DEFAULT: Rules = {
  lease: { maxStalenessSeconds: DAY_SECONDS, whenStale: 'process-only' },
  fipsOnly: false,
  algorithms: { allow: idsWhere(({ status }) => status === 'approved') },
  operations: {},
  defaults: { encrypt: 'AES-256', sign: 'EC-P256', mac: 'HMAC-SHA256' },
  keys: { destroyWaitSeconds: 7 * DAY_SECONDS },
  rateLimits: { operationsPerSecond: 50_000, burst: 100_000 },
  audit: { durability: 'committed', whenUnavailable: 'refuse' },
  caches: { tokenSeconds: 60 },
};

// NIST IR 8547 (initial public draft, November 2024) section 4.1: 112 bits of classical strength deprecated after 2030, all
// quantum-vulnerable public-key algorithms disallowed after 2035. SP 800-131A revision 3 (draft) has the first date too.
const IR_8547_PUBLISHED = '2024-11-12T00:00:00Z';
const AFTER_2030 = '2031-01-01T00:00:00Z';
const AFTER_2035 = '2036-01-01T00:00:00Z';

/** Fixed dates, so that a tenant's policy of a later day does not seem to widen its platform's. */
const CLASSICAL_SUNSET: Readonly<Record<string, Sunset>> = Object.fromEntries(
  ALGORITHMS.filter(({ status, category }) => status === 'approved' && category === 0).map(({ id, securityBits }) => [
    id,
    securityBits < 128
      ? { warnAfter: IR_8547_PUBLISHED, refuseAfter: AFTER_2030 }
      : { warnAfter: AFTER_2030, refuseAfter: AFTER_2035 },
  ]),
);

// SP 800-38D section 8.3: at most 2^32 invocations of GCM under one key with random 96-bit IVs.
const GCM_INVOCATIONS = 2 ** 32;

const FIPS: Rules = {
  ...DEFAULT,
  lease: { maxStalenessSeconds: DAY_SECONDS, whenStale: 'deny' },
  fipsOnly: { boundary: 'private-keys' },
  algorithms: {
    allow: idsWhere(({ fips, status }) => fips !== null && status === 'approved'),
    sunset: CLASSICAL_SUNSET,
  },
  keys: { softUses: GCM_INVOCATIONS / 2, hardUses: GCM_INVOCATIONS, destroyWaitSeconds: 30 * DAY_SECONDS },
  audit: { durability: 'flushed', whenUnavailable: 'refuse' },
};

/**
 * The Commercial National Security Algorithm Suite 2.0, its top parameter sets alone. LMS and XMSS (SP 800-208), which it
 * has for firmware, are not provided. SHA-384 and SHA-512 are those of HMAC; it has no smaller one.
 */
const CNSA_2: readonly string[] = ['AES-256', 'ML-KEM-1024', 'ML-DSA-87', 'HMAC-SHA384', 'HMAC-SHA512'];

/**
 * What CNSA 1.0 has and 2.0 has not. It is on no list here: the dates are for whoever adds one of these to `allow` for the
 * time of a transition. New acquisitions have CNSA 2.0 from 2027 (CNSSP 15), the last categories of NSA's timeline use it
 * exclusively by 2033 (Announcing CNSA 2.0, September 2022; FAQ 2.1, December 2024); software signing, by 2030, is earlier.
 */
const CNSA_1_SUNSET: Readonly<Record<string, Sunset>> = Object.fromEntries(
  ['RSA-3072', 'RSA-4096', 'EC-P384'].map((id) => [
    id,
    { warnAfter: '2027-01-01T00:00:00Z', refuseAfter: '2033-01-01T00:00:00Z' },
  ]),
);

const CNSA: Rules = {
  ...FIPS,
  fipsOnly: { boundary: 'algorithms' }, // `private-keys` where the token has ML-KEM and ML-DSA
  algorithms: { allow: CNSA_2, sunset: CNSA_1_SUNSET },
  defaults: { encrypt: 'AES-256', sign: 'ML-DSA-87', mac: 'HMAC-SHA384' },
};

const isComposite = ({ components }: AlgorithmRow): boolean => components !== undefined;
const isSymmetric = ({ kinds }: AlgorithmRow): boolean => kinds.includes('aead') || kinds.includes('mac');

/** What pqc-hybrid makes anew: composites, and symmetric keys, which a quantum computer does not break. */
const HYBRID_ENCRYPTION = idsWhere((row) => row.jose.encrypt !== undefined && (isComposite(row) || isSymmetric(row)));
const HYBRID_SIGNATURES = idsWhere((row) => row.jose.sign !== undefined && isComposite(row));
const HYBRID_KEYS = [...HYBRID_ENCRYPTION, ...HYBRID_SIGNATURES, ...idsWhere(({ jose }) => jose.mac !== undefined)];

const HYBRID: Rules = {
  ...DEFAULT,
  algorithms: {
    allow: idsWhere((row) => row.status === 'approved' || isComposite(row)),
    sunset: CLASSICAL_SUNSET, // for what the lists of operations below leave: reading, and importing what is to be moved
  },
  operations: {
    encrypt: HYBRID_ENCRYPTION,
    'encrypt-to': HYBRID_ENCRYPTION,
    'encrypt-general': HYBRID_ENCRYPTION,
    're-encrypt': HYBRID_ENCRYPTION,
    rewrap: HYBRID_ENCRYPTION,
    'generate-data-key': HYBRID_ENCRYPTION,
    sign: HYBRID_SIGNATURES,
    're-sign': HYBRID_SIGNATURES,
    'create-key': HYBRID_KEYS,
    'rotate-key': HYBRID_KEYS,
  },
  defaults: { encrypt: 'ML-KEM-768-P256', sign: 'ML-DSA-65-ES256', mac: 'HMAC-SHA256' },
};

const PKCS1_SIGNATURES = ['RS256', 'RS384', 'RS512'];

/** PKCS #1 v1.5 signatures are still verified, but no longer made. */
const signing = idsWhere(({ jose, status }) => status === 'approved' && jose.sign !== undefined).flatMap(
  (id) => ALGORITHMS.find((row) => row.id === id)?.jose.sign ?? [],
);

const MIGRATION: Rules = {
  ...DEFAULT,
  algorithms: { ...DEFAULT.algorithms, sunset: CLASSICAL_SUNSET },
  operations: { sign: [...new Set(signing)].filter((name) => !PKCS1_SIGNATURES.includes(name)) },
};

const rulesOf = (template: PolicyTemplate): Rules => {
  switch (template) {
    case 'default':
      return DEFAULT;
    case 'fips-140-3':
      return FIPS;
    case 'cnsa-2.0':
      return CNSA;
    case 'pqc-hybrid':
      return HYBRID;
    case 'classical-migration':
      return MIGRATION;
  }
};

/** Only what a tenant's policy has to say; the rest stays as the platform's. */
const tenantRules = (
  template: PolicyTemplate,
  rules: Rules,
): Pick<TenantPolicy, 'fipsOnly' | 'algorithms' | 'operations' | 'audit'> => {
  switch (template) {
    case 'default':
      return {};
    case 'fips-140-3':
    case 'cnsa-2.0':
      return { fipsOnly: rules.fipsOnly, algorithms: rules.algorithms, audit: rules.audit };
    case 'pqc-hybrid':
    case 'classical-migration':
      return { algorithms: { sunset: rules.algorithms.sunset ?? {} }, operations: rules.operations };
  }
};

type Head = Pick<PlatformPolicy, 'schema' | 'version' | 'issuedAt' | 'notBefore' | 'expiresAt'>;

const platformPolicy = (head: Head, rules: Rules, input: TemplateInput & { scope: 'platform' }): PlatformPolicy => ({
  ...head,
  scope: 'platform',
  tenants: input.tenants,
  ...rules,
  issuers: input.issuers ?? [],
  workloads: input.workloads ?? [],
});

const time = (ms: number): string => new Date(ms).toISOString().replace('.000Z', 'Z');

/** The payload of a policy from a template; it passes the parser and can be edited before it is signed. */
export const policyFromTemplate = <T extends TemplateInput>(
  input: T,
): T['scope'] extends 'platform' ? PlatformPolicy : TenantPolicy => {
  const { template, version = 1, issuedAt, validDays = VALID_DAYS } = input;
  const rules = rulesOf(template);
  const head: Head = {
    schema: POLICY_SCHEMA,
    version,
    issuedAt: time(issuedAt),
    notBefore: time(issuedAt),
    expiresAt: time(issuedAt + validDays * DAY_MS),
  };
  const policy: Policy =
    input.scope === 'platform'
      ? platformPolicy(head, rules, input)
      : { ...head, scope: 'tenant', tenant: input.tenant, ...tenantRules(template, rules) };
  return policy as T['scope'] extends 'platform' ? PlatformPolicy : TenantPolicy;
};
