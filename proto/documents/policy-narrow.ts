// Does a tenant policy only narrow the platform's? Lists every place where it does not. Used when a tenant policy is
// signed, published and loaded. The merge never depends on it: it takes the stricter side whatever the policies say.
import { ALGORITHMS, type AlgorithmRow, type Purpose } from './algorithms.ts';
import { narrowsRule } from './composite-verification.ts';
import type { OperationName } from './operations.ts';
import { purposeOf } from './policy-algorithms.ts';
import { PolicyError } from './policy-error.ts';
import type { FipsBoundary, PlatformPolicy, Policy, TenantPolicy } from './policy-types.ts';

/** One value by which a tenant policy would allow more than the platform's. */
export interface Widening {
  readonly path: string;
  readonly platform: string;
  readonly tenant: string;
}

/** From loose to strict. */
const BOUNDARIES: readonly (FipsBoundary | false)[] = [false, 'algorithms', 'private-keys', 'everything'];

/** How strict a boundary is; a higher number allows less. */
export const boundaryRank = (fipsOnly: Policy['fipsOnly']): number =>
  BOUNDARIES.indexOf(fipsOnly === undefined || fipsOnly === false ? false : fipsOnly.boundary);

/** An algorithm under one of its JOSE names: what list entries allow or deny. */
interface Use {
  readonly row: AlgorithmRow;
  readonly jose: string;
}

const usesOf = (entry: string, purpose?: Purpose): readonly Use[] =>
  ALGORITHMS.flatMap((row) =>
    Object.entries(row.jose)
      .filter(([key]) => purpose === undefined || key === purpose)
      .flatMap(([, names]) => names.map((jose) => ({ row, jose }))),
  ).filter(({ row, jose }) => row.id === entry || jose === entry);

const names = (entries: readonly string[], { row, jose }: Use): boolean =>
  entries.includes(row.id) || entries.includes(jose);

class Comparison {
  readonly widenings: Widening[] = [];

  add(path: string, platform: unknown, tenant: unknown): void {
    this.widenings.push({ path, platform: String(platform), tenant: String(tenant) });
  }

  atMost(path: string, platform: number | undefined, tenant: number | undefined): void {
    if (platform !== undefined && tenant !== undefined && tenant > platform)
      this.add(path, `at most ${platform}`, tenant);
  }

  atLeast(path: string, platform: number | undefined, tenant: number | undefined): void {
    if (platform !== undefined && tenant !== undefined && tenant < platform)
      this.add(path, `at least ${platform}`, tenant);
  }

  /** `strict` may replace the other value, but not the other way round. */
  keepStrict<T>(path: string, strict: T, platform: T, tenant: T | undefined): void {
    if (platform === strict && tenant !== undefined && tenant !== strict) this.add(path, platform, tenant);
  }

  /** Every use that an entry allows must be allowed by the platform's list; an entry wholly denied may not return. */
  list(path: string, entries: readonly string[], allow: readonly string[], deny: readonly string[], purpose?: Purpose) {
    for (const [index, entry] of entries.entries()) {
      const uses = usesOf(entry, purpose);
      const outside = uses.find((use) => !names(allow, use));
      if (outside !== undefined) this.add(`${path}[${index}]`, `not ${outside.row.id} with ${outside.jose}`, entry);
      else if (uses.every((use) => names(deny, use))) this.add(`${path}[${index}]`, 'denied', entry);
    }
  }
}

const compareAlgorithms = (compare: Comparison, platform: PlatformPolicy, tenant: TenantPolicy): void => {
  const { allow, deny = [], sunset = {} } = platform.algorithms;
  compare.list('algorithms.allow', tenant.algorithms?.allow ?? [], allow, deny);
  for (const [name, dates] of Object.entries(tenant.algorithms?.sunset ?? {})) {
    const bound = sunset[name];
    if (bound === undefined) continue;
    for (const field of ['warnAfter', 'refuseAfter'] as const) {
      if (Date.parse(dates[field]) > Date.parse(bound[field]))
        compare.add(`algorithms.sunset.${name}.${field}`, `at most ${bound[field]}`, dates[field]);
    }
  }
  for (const [name, entries] of Object.entries(tenant.operations ?? {}) as [OperationName, readonly string[]][]) {
    const purpose = purposeOf(name);
    compare.list(`operations.${name}`, entries, platform.operations[name] ?? allow, deny, purpose);
    if (platform.operations[name] !== undefined) compare.list(`operations.${name}`, entries, allow, deny, purpose);
  }
  for (const [purpose, id] of Object.entries(tenant.defaults ?? {}) as [Purpose, string][]) {
    const uses = usesOf(id, purpose);
    if (!uses.some((use) => names(allow, use) && !names(deny, use)))
      compare.add(`defaults.${purpose}`, 'not allowed', id);
  }
};

const compareKept = <T extends object>(
  compare: Comparison,
  path: string,
  platform: false | T = false,
  tenant: false | T = false,
): void => {
  if (tenant !== false && platform === false) compare.add(path, false, JSON.stringify(tenant));
  if (tenant === false || platform === false) return;
  for (const field of Object.keys(platform) as (keyof T & string)[])
    compare.atMost(`${path}.${field}`, platform[field] as number, tenant[field] as number);
};

const compareLimits = (compare: Comparison, platform: PlatformPolicy, tenant: TenantPolicy): void => {
  for (const field of ['softUses', 'hardUses', 'softAgeSeconds', 'hardAgeSeconds'] as const)
    compare.atMost(`keys.${field}`, platform.keys[field], tenant.keys?.[field]);
  compare.atLeast('keys.destroyWaitSeconds', platform.keys.destroyWaitSeconds, tenant.keys?.destroyWaitSeconds);
  for (const field of ['operationsPerSecond', 'burst'] as const)
    compare.atMost(`rateLimits.${field}`, platform.rateLimits[field], tenant.rateLimits?.[field]);
  compare.atMost('caches.tokenSeconds', platform.caches.tokenSeconds, tenant.caches?.tokenSeconds);
  compareKept(compare, 'caches.dataKeys', platform.caches.dataKeys, tenant.caches?.dataKeys);
  compareKept(compare, 'caches.unwrappedKeys', platform.caches.unwrappedKeys, tenant.caches?.unwrappedKeys);
  compare.atMost('lease.maxStalenessSeconds', platform.lease.maxStalenessSeconds, tenant.lease?.maxStalenessSeconds);
};

const compareModes = (compare: Comparison, platform: PlatformPolicy, tenant: TenantPolicy): void => {
  if (tenant.fipsOnly !== undefined && boundaryRank(tenant.fipsOnly) < boundaryRank(platform.fipsOnly))
    compare.add('fipsOnly', JSON.stringify(platform.fipsOnly), JSON.stringify(tenant.fipsOnly));
  const [platformRule = 'all', rule = platformRule] = [platform.compositeVerification, tenant.compositeVerification];
  if (!narrowsRule(platformRule, rule)) compare.add('compositeVerification', platformRule, rule);
  if (platform.checkSignatures === true && tenant.checkSignatures === false) {
    compare.add('checkSignatures', 'true', 'false');
  }
  if (platform.streams?.localKeys !== true && tenant.streams?.localKeys === true) {
    compare.add('streams.localKeys', 'false', 'true');
  }
  compare.keepStrict('lease.whenStale', 'deny', platform.lease.whenStale, tenant.lease?.whenStale);
  compare.keepStrict('audit.durability', 'flushed', platform.audit.durability, tenant.audit?.durability);
  compare.keepStrict('audit.whenUnavailable', 'refuse', platform.audit.whenUnavailable, tenant.audit?.whenUnavailable);
};

/** Every widening, each with its path in the tenant policy; an empty list means that it only narrows. */
export const findWidenings = (platform: PlatformPolicy, tenant: TenantPolicy): readonly Widening[] => {
  const compare = new Comparison();
  compareAlgorithms(compare, platform, tenant);
  compareLimits(compare, platform, tenant);
  compareModes(compare, platform, tenant);
  const seen = new Set<string>();
  return compare.widenings.filter(({ path }) => !seen.has(path) && seen.add(path));
};

const SHOWN_WIDENINGS = 8;

/** Throws TENANT_UNKNOWN or WIDENING, naming each place. */
export const requireNarrowing = (platform: PlatformPolicy, tenant: TenantPolicy): void => {
  if (!platform.tenants.includes(tenant.tenant))
    throw new PolicyError('TENANT_UNKNOWN', 'tenant', `the platform policy has no tenant "${tenant.tenant}"`);
  const widenings = findWidenings(platform, tenant);
  const first = widenings[0];
  if (first === undefined) return;
  const shown = widenings
    .slice(0, SHOWN_WIDENINGS)
    .map((row) => `${row.path}: platform ${row.platform}, here ${row.tenant}`);
  const more = widenings.length > SHOWN_WIDENINGS ? ` and ${widenings.length - SHOWN_WIDENINGS} more` : '';
  throw new PolicyError('WIDENING', first.path, `a tenant policy may only narrow (${shown.join('; ')}${more})`);
};
