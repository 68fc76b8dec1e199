// Joins a platform policy and a tenant's into the frozen view that decisions use. Every field takes the stricter side,
// so a tenant policy can only narrow, whatever it says and whenever the platform's changes beneath it.
import type { Purpose } from './algorithms.ts';
import { strictestRule } from './composite-verification.ts';
import type { OperationName } from './operations.ts';
import { judge } from './policy-decide.ts';
import { boundaryRank } from './policy-narrow.ts';
import type {
  DataKeyRules,
  EffectivePolicy,
  FipsBoundary,
  PlatformPolicy,
  Policy,
  PolicyLayer,
  TenantPolicy,
  UnwrappedKeyRules,
} from './policy-types.ts';

const SECOND = 1000;
const PURPOSES: readonly Purpose[] = ['encrypt', 'sign', 'mac'];

const boundaryOf = ({ fipsOnly }: Policy): FipsBoundary | false =>
  fipsOnly === undefined || fipsOnly === false ? false : fipsOnly.boundary;

const layerOf = (policy: Policy): PolicyLayer => {
  const { allow, deny = [], sunset = {} } = policy.algorithms ?? {};
  const operations = Object.entries(policy.operations ?? {}) as [OperationName, readonly string[]][];
  return Object.freeze({
    scope: policy.scope,
    version: policy.version,
    fipsBoundary: boundaryOf(policy),
    allow: allow && new Set(allow),
    deny: new Set(deny),
    sunset: new Map(
      Object.entries(sunset).map(([entry, { warnAfter, refuseAfter }]) => [
        entry,
        { warnAfter: Date.parse(warnAfter), refuseAfter: Date.parse(refuseAfter) },
      ]),
    ),
    operations: new Map(operations.map(([name, entries]) => [name, new Set(entries)])),
  });
};

const least = (...values: readonly (number | undefined)[]): number | undefined => {
  const given = values.filter((value) => value !== undefined);
  return given.length === 0 ? undefined : Math.min(...given);
};

const inMilliseconds = (seconds: number | undefined): number | undefined =>
  seconds === undefined ? undefined : seconds * SECOND;

/** The smaller of each limit; a soft limit never stands above its hard one. */
const limitsOf = ({ keys: ours }: PlatformPolicy, theirs: TenantPolicy['keys']): EffectivePolicy['keyLimits'] => {
  const hardUses = least(ours.hardUses, theirs?.hardUses);
  const softUses = least(ours.softUses, theirs?.softUses);
  const hardAge = inMilliseconds(least(ours.hardAgeSeconds, theirs?.hardAgeSeconds));
  const softAge = inMilliseconds(least(ours.softAgeSeconds, theirs?.softAgeSeconds));
  return Object.freeze({
    ...(softUses !== undefined && { softUses: least(softUses, hardUses) as number }),
    ...(hardUses !== undefined && { hardUses }),
    ...(softAge !== undefined && { softAge: least(softAge, hardAge) as number }),
    ...(hardAge !== undefined && { hardAge }),
  });
};

/** The tenant's default, else the platform's, where a key of it could be made under both. */
const defaultsOf = (
  view: EffectivePolicy,
  platform: PlatformPolicy,
  tenant: TenantPolicy | undefined,
): EffectivePolicy['defaults'] => {
  const usable = (purpose: Purpose): [Purpose, string] | undefined => {
    const algorithm = tenant?.defaults?.[purpose] ?? platform.defaults[purpose];
    if (algorithm === undefined) return undefined;
    const { refusal } = judge(view, { tenant: view.tenant, operation: 'create-key', algorithm });
    return refusal === undefined ? [purpose, algorithm] : undefined;
  };
  return Object.freeze(Object.fromEntries(PURPOSES.map(usable).filter((entry) => entry !== undefined)));
};

/** What either switches off is off; the smaller of each bound. */
const smallerOf = <T extends object>(wide: false | T = false, narrow: false | T = wide): T | undefined => {
  if (wide === false || narrow === false) return undefined;
  const bounds = narrow as Readonly<Record<string, number>>;
  const smaller = Object.entries(wide).map(([name, bound]) => [name, Math.min(bound, bounds[name] ?? bound)]);
  return Object.freeze(Object.fromEntries(smaller)) as T;
};

const cachesOf = ({ caches: ours }: PlatformPolicy, tenant: TenantPolicy | undefined): EffectivePolicy['caches'] => {
  const theirs = tenant?.caches;
  const tokenSeconds = Math.min(ours.tokenSeconds, theirs?.tokenSeconds ?? ours.tokenSeconds);
  const dataKeys = smallerOf<DataKeyRules>(ours.dataKeys, theirs?.dataKeys);
  const unwrappedKeys = smallerOf<UnwrappedKeyRules>(ours.unwrappedKeys, theirs?.unwrappedKeys);
  return Object.freeze({ tokenSeconds, ...(dataKeys && { dataKeys }), ...(unwrappedKeys && { unwrappedKeys }) });
};

const strictest = <T>(strict: T, loose: T, ...values: readonly (T | undefined)[]): T =>
  values.includes(strict) ? strict : loose;

/** What is in force for `tenant`, which the platform policy must have or which is the host itself. */
export const mergePolicies = (input: {
  tenant: string;
  platform: PlatformPolicy;
  policy?: TenantPolicy;
}): EffectivePolicy => {
  const { tenant, platform, policy } = input;
  const policies: readonly Policy[] = policy === undefined ? [platform] : [platform, policy];
  const strictestFips = policies.toSorted((a, b) => boundaryRank(b.fipsOnly) - boundaryRank(a.fipsOnly))[0] as Policy;
  const lower = (read: (from: PlatformPolicy | TenantPolicy) => number | undefined): number =>
    Math.min(...policies.map(read).filter((value) => value !== undefined));
  const view: EffectivePolicy = {
    tenant,
    layers: Object.freeze(policies.map(layerOf)),
    notBefore: Math.max(...policies.map(({ notBefore }) => Date.parse(notBefore))),
    expiresAt: Math.min(...policies.map(({ expiresAt }) => Date.parse(expiresAt))),
    lease: Object.freeze({
      maxStaleness: lower(({ lease }) => lease?.maxStalenessSeconds) * SECOND,
      whenStale: strictest('deny', 'process-only', ...policies.map(({ lease }) => lease?.whenStale)),
    }),
    fipsBoundary: boundaryOf(strictestFips),
    defaults: {},
    keyLimits: limitsOf(platform, policy?.keys),
    destroyWait: Math.max(...policies.map(({ keys }) => keys?.destroyWaitSeconds ?? 0)) * SECOND,
    rateLimits: Object.freeze({
      operationsPerSecond: lower(({ rateLimits }) => rateLimits?.operationsPerSecond),
      burst: lower(({ rateLimits }) => rateLimits?.burst),
    }),
    durability: strictest('flushed', 'committed', ...policies.map(({ audit }) => audit?.durability)),
    whenAuditUnavailable: strictest('refuse', 'process-only', ...policies.map(({ audit }) => audit?.whenUnavailable)),
    compositeVerification: strictestRule([
      platform.compositeVerification ?? 'all',
      ...(policy?.compositeVerification === undefined ? [] : [policy.compositeVerification]),
    ]),
    checkSignatures: platform.checkSignatures === true || policy?.checkSignatures === true,
    localStreamKeys:
      platform.streams?.localKeys === true &&
      policy?.streams?.localKeys !== false &&
      boundaryOf(strictestFips) === false, // nobody here knows what module a client encrypts with
    caches: cachesOf(platform, policy),
    revokedTokens: Object.freeze([...new Set(policies.flatMap(({ revokedTokens }) => revokedTokens ?? []))]),
  };
  return Object.freeze({ ...view, defaults: defaultsOf(view, platform, policy) });
};
