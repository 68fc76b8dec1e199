// Parses and checks the payload of a policy. Every value is bounded and checked where it stands; a document that passes
// says nothing the agent does not understand. Who signed it is the matter of policy-sign.ts.
import { COMPOSITE_RULES } from './composite-verification.ts';
import {
  asObject,
  boolean,
  integer,
  invalidValue,
  list,
  matching,
  object,
  oneOf,
  optional,
  type Read,
  text,
  utcTime,
} from './fields.ts';
import { TENANT_PATTERN } from './key-record.ts';
import { SCOPES, type Scope } from './operations.ts';
import { algorithmList, defaultAlgorithms, denyAndSunset, operationLists } from './policy-algorithms.ts';
import { PolicyError } from './policy-error.ts';
import {
  type AlgorithmRules,
  type AuditRules,
  type CacheRules,
  type DataKeyRules,
  type FipsBoundary,
  type Issuer,
  type KeyRules,
  type Lease,
  PLATFORM_TENANT,
  type PlatformPolicy,
  POLICY_SCHEMA,
  type Policy,
  type RateLimits,
  type StreamRules,
  type Subject,
  type TenantPolicy,
  type UnwrappedKeyRules,
  type Workload,
} from './policy-types.ts';
import { publicJwks } from './public-jwks.ts';
import { type JsonValue, parseJson } from './strict-json.ts';

export const POLICY_LIMIT_BYTES = 256 * 1024; // thousands of tenants, or some hundred issuers' keys
const MAX_TENANTS = 4096;
const MAX_ISSUERS = 64;
const MAX_SUBJECTS = 4096;
const MAX_WORKLOADS = 1024;
const MAX_REVOKED = 8192;
const YEAR_SECONDS = 366 * 24 * 3600;
const MAX_AGE_SECONDS = 100 * YEAR_SECONDS;
const MAX_TOKEN_CACHE_SECONDS = 60; // a revoked token must not live on in a cache for longer
const MAX_KEPT_SECONDS = 3600;
// SP 800-38D section 8.3 allows 2^32 random ivs under one key; after 2^20 the chance that one comes twice is 2^-57.
const MAX_DATA_KEY_USES = 2 ** 20;
const MAX_DATA_KEY_BYTES = 2 ** 36;
const MAX_UNWRAPPED_USES = 2 ** 32;
const MAX_UNWRAPPED_KEYS = 1024;
const MAX_ID = 4_294_967_294; // (uid_t)-1 means "no one" to the kernel

const tenantId = matching(TENANT_PATTERN, 'a tenant id: [a-z0-9] and then up to 62 of [a-z0-9-]');
const tenantOrHost: Read<string> = (value, path) => (value === PLATFORM_TENANT ? value : tenantId(value, path));

const fipsOnly: Read<false | { readonly boundary: FipsBoundary }> = (value, path) => {
  if (value === false) return false;
  if (typeof value !== 'object') throw invalidValue(path, value, 'false or {"boundary": …}');
  return object<{ boundary: FipsBoundary }>({ boundary: oneOf('algorithms', 'private-keys', 'everything') })(
    value,
    path,
  );
};

const lease = object<Lease>({
  maxStalenessSeconds: integer(1, YEAR_SECONDS),
  whenStale: oneOf('deny', 'process-only'),
});

const keyLimits = {
  softUses: optional(integer(1, Number.MAX_SAFE_INTEGER)),
  hardUses: optional(integer(1, Number.MAX_SAFE_INTEGER)),
  softAgeSeconds: optional(integer(1, MAX_AGE_SECONDS)),
  hardAgeSeconds: optional(integer(1, MAX_AGE_SECONDS)),
};
const destroyWaitSeconds = integer(0, 10 * YEAR_SECONDS);

const softNotAboveHard =
  <T extends Partial<KeyRules>>(read: Read<T>): Read<T> =>
  (value, path) => {
    const rules = read(value, path);
    for (const [soft, hard] of [
      ['softUses', 'hardUses'],
      ['softAgeSeconds', 'hardAgeSeconds'],
    ] as const) {
      const [low, high] = [rules[soft], rules[hard]];
      if (low !== undefined && high !== undefined && low > high)
        throw invalidValue(`${path}.${soft}`, low, `at most ${hard}, which is ${high}`);
    }
    return rules;
  };

const rateLimits = object<RateLimits>({
  operationsPerSecond: integer(1, 1_000_000),
  burst: integer(1, 10_000_000),
});
const audit = object<AuditRules>({
  durability: oneOf('committed', 'flushed'),
  whenUnavailable: oneOf('refuse', 'process-only'),
});
const dataKeyRules = object<DataKeyRules>({
  maxAgeSeconds: integer(1, MAX_KEPT_SECONDS),
  maxUses: integer(2, MAX_DATA_KEY_USES),
  maxBytes: integer(1, MAX_DATA_KEY_BYTES),
});
const unwrappedKeyRules = object<UnwrappedKeyRules>({
  maxAgeSeconds: integer(1, MAX_KEPT_SECONDS),
  maxUses: integer(2, MAX_UNWRAPPED_USES),
  maxKeys: integer(1, MAX_UNWRAPPED_KEYS),
});
const orFalse =
  <T>(read: Read<T>): Read<false | T> =>
  (value, path) =>
    value === false ? false : read(value, path);
const caches = object<CacheRules>({
  tokenSeconds: integer(0, MAX_TOKEN_CACHE_SECONDS),
  dataKeys: optional(orFalse(dataKeyRules)),
  unwrappedKeys: optional(orFalse(unwrappedKeyRules)),
});
const streams = object<StreamRules>({ localKeys: boolean });
const revokedTokens = list(text(256), { max: MAX_REVOKED });

const HOST_SCOPES: readonly Scope[] = ['audit.read', 'agent.status'];

const withinTenant =
  <T extends { readonly tenant: string; readonly scopes: readonly Scope[] }>(read: Read<T>): Read<T> =>
  (value, path) => {
    const row = read(value, path);
    const beyond =
      row.tenant === PLATFORM_TENANT ? row.scopes.find((scope) => !HOST_SCOPES.includes(scope)) : undefined;
    if (beyond === undefined) return row;
    throw invalidValue(`${path}.scopes`, beyond, `only ${HOST_SCOPES.join(' and ')} for ${PLATFORM_TENANT}`);
  };
const scopes = list(oneOf(...SCOPES), { max: SCOPES.length });
const subject = withinTenant(object<Subject>({ subject: text(255), tenant: tenantOrHost, scopes }));

const issuerRow = object<Issuer>({
  issuer: text(512),
  audiences: list(text(512), { min: 1, max: 32 }),
  jwks: object<Issuer['jwks']>({ keys: publicJwks }),
  tenants: list(tenantOrHost, { min: 1, max: MAX_TENANTS }),
  tenantClaim: optional(text(128)),
  scopesClaim: optional(text(128)),
  subjects: optional(list(subject, { min: 1, max: MAX_SUBJECTS }, (row) => row.subject)),
  maxLifetimeSeconds: integer(1, 7 * 24 * 3600),
  singleUse: boolean,
  clockSkewSeconds: optional(integer(0, 300)),
});

/** Tenant and scopes are said by claims or by the list of subjects, never by both. */
const issuer: Read<Issuer> = (value, path) => {
  const row = issuerRow(value, path);
  const { subjects, tenants } = row;
  const claims = [row.tenantClaim, row.scopesClaim].filter((name) => name !== undefined).length;
  if (claims !== (subjects === undefined ? 2 : 0))
    throw new PolicyError('VALUE_INVALID', path, 'expected either tenantClaim and scopesClaim, or subjects');
  for (const [at, { tenant: name }] of (subjects ?? []).entries())
    if (!tenants.includes(name)) throw invalidValue(`${path}.subjects[${at}].tenant`, name, "one of the row's tenants");
  return row;
};

const workloadRow = withinTenant(
  object<Workload>({
    uid: optional(integer(0, MAX_ID)),
    gid: optional(integer(0, MAX_ID)),
    tenant: tenantOrHost,
    principal: text(256),
    scopes,
  }),
);
const workload: Read<Workload> = (value, path) => {
  const row = workloadRow(value, path);
  if ((row.uid === undefined) === (row.gid === undefined))
    throw new PolicyError('VALUE_INVALID', path, 'expected exactly one of uid and gid');
  return row;
};

const head = {
  schema: oneOf(POLICY_SCHEMA),
  version: integer(1, Number.MAX_SAFE_INTEGER),
  issuedAt: utcTime,
  notBefore: utcTime,
  expiresAt: utcTime,
};

const platform = object<PlatformPolicy>({
  ...head,
  scope: oneOf('platform'),
  lease,
  fipsOnly,
  algorithms: object<PlatformPolicy['algorithms']>({ allow: algorithmList, ...denyAndSunset }),
  operations: operationLists,
  defaults: defaultAlgorithms,
  keys: softNotAboveHard(object<KeyRules>({ ...keyLimits, destroyWaitSeconds })),
  tenants: list(tenantId, { max: MAX_TENANTS }),
  issuers: list(issuer, { max: MAX_ISSUERS }, (row) => row.issuer),
  workloads: list(workload, { max: MAX_WORKLOADS }, (row) => `${row.uid}/${row.gid}`),
  revokedTokens: optional(revokedTokens),
  rateLimits,
  audit,
  caches,
  compositeVerification: optional(oneOf(...COMPOSITE_RULES)),
  checkSignatures: optional(boolean),
  streams: optional(streams),
});

const tenant = object<TenantPolicy>({
  ...head,
  scope: oneOf('tenant'),
  tenant: tenantId,
  lease: optional(lease),
  fipsOnly: optional(fipsOnly),
  algorithms: optional(object<AlgorithmRules>({ allow: optional(algorithmList), ...denyAndSunset })),
  operations: optional(operationLists),
  defaults: optional(defaultAlgorithms),
  keys: optional(
    softNotAboveHard(object<Partial<KeyRules>>({ ...keyLimits, destroyWaitSeconds: optional(destroyWaitSeconds) })),
  ),
  revokedTokens: optional(revokedTokens),
  rateLimits: optional(rateLimits),
  audit: optional(audit),
  caches: optional(caches),
  compositeVerification: optional(oneOf(...COMPOSITE_RULES)),
  checkSignatures: optional(boolean),
  streams: optional(streams),
});

const checkDates = (policy: Policy): void => {
  const [issued, begins, ends] = [policy.issuedAt, policy.notBefore, policy.expiresAt].map((time) => Date.parse(time));
  if (begins === undefined || issued === undefined || ends === undefined) return;
  if (begins >= ends) throw invalidValue('notBefore', policy.notBefore, 'a time before expiresAt');
  if (issued >= ends) throw invalidValue('issuedAt', policy.issuedAt, 'a time before expiresAt');
};

/** What a client does with a key that it was given is in no boundary. */
const checkStreams = ({ fipsOnly: boundary = false, streams: rules }: Policy): void => {
  if (boundary !== false && rules?.localKeys === true) {
    throw invalidValue('streams.localKeys', true, `false under the boundary "${boundary.boundary}" of fipsOnly`);
  }
};

/** Issuers and workloads speak only for tenants that the platform has. */
const checkTenants = (policy: PlatformPolicy): void => {
  const known = new Set([...policy.tenants, PLATFORM_TENANT]);
  const check = (name: string, path: string): void => {
    if (!known.has(name)) throw new PolicyError('TENANT_UNKNOWN', path, `"${name}" is not in the list of tenants`);
  };
  for (const [at, row] of policy.issuers.entries())
    for (const [index, name] of row.tenants.entries()) check(name, `issuers[${at}].tenants[${index}]`);
  for (const [at, row] of policy.workloads.entries()) check(row.tenant, `workloads[${at}].tenant`);
};

/** A policy from an already parsed JSON value; PolicyError says what is wrong and where. */
export const readPolicy = (value: JsonValue): Policy => {
  const scope = oneOf('platform', 'tenant')(asObject(value, '')['scope'] ?? null, 'scope');
  const policy = scope === 'platform' ? platform(value, '') : tenant(value, '');
  checkDates(policy);
  checkStreams(policy);
  if (policy.scope === 'platform') checkTenants(policy);
  return policy;
};

/** A policy from the bytes of a signed payload; throws nothing but PolicyError. */
export const parsePolicy = (payload: Uint8Array): Policy => readPolicy(parseJson(payload, POLICY_LIMIT_BYTES));
