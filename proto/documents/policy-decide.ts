// The decision: may this tenant do this operation with this algorithm, now? Pure. What depends on the policy alone is a
// Judgement, which may be kept as long as the policy is in force; time is looked at on every call.
import { algorithm, type Custody, forbiddenAlgorithm } from './algorithms.ts';
import { type OperationName, operation } from './operations.ts';
import { purposeOf } from './policy-algorithms.ts';
import { type AlgorithmUse, fipsRefusal } from './policy-fips.ts';
import { type EffectivePolicy, PLATFORM_TENANT, type PolicyLayer } from './policy-types.ts';

export interface PolicyQuestion {
  readonly tenant: string;
  readonly operation: OperationName;
  readonly algorithm?: string;
  readonly jose?: string;
  readonly custody?: Custody;
}

export interface PolicyWarning {
  readonly code: 'ALGORITHM_SUNSET' | 'POLICY_STALE';
  readonly message: string;
}

export interface Refusal {
  readonly allowed: false;
  readonly rule: string;
  readonly code: 'POLICY_DENIED' | 'ALGORITHM_FORBIDDEN' | 'FIPS_ONLY' | 'POLICY_STALE' | 'POLICY_INVALID';
  readonly explanation: string;
}

export interface Permission {
  readonly allowed: true;
  readonly rule: string;
  readonly warnings: readonly PolicyWarning[];
}

export type Decision = Permission | Refusal;

/** A date after which an algorithm is warned of, and one after which it makes nothing new. */
interface SunsetRule {
  readonly rule: string;
  readonly entry: string;
  readonly warnAfter: number;
  readonly refuseAfter: number;
}

/** What a policy says whatever the time. */
export interface Judgement {
  /** Holds before anything else, even without a valid policy. */
  readonly forbidden?: Refusal;
  readonly refusal?: Refusal;
  readonly permission: Permission;
  readonly sunsets: readonly SunsetRule[];
}

export const refuse = (code: Refusal['code'], rule: string, explanation: string): Refusal =>
  Object.freeze({ allowed: false, rule, code, explanation });

/** Looking at the agent and its audit log: goes on whatever the policy's age, so that people can see what is wrong. */
const OBSERVE: ReadonlySet<string | null> = new Set([null, 'agent.status', 'audit.read']);
const observes = (name: OperationName): boolean =>
  operation(name).kind === 'read' && OBSERVE.has(operation(name).scope);

/** Taking a key out of use goes on under a stale policy: it can only make things safer. */
const PROTECTIVE: ReadonlySet<OperationName> = new Set(['suspend-key', 'revoke-key']);

/** Operations that make something new with an algorithm; old data stays readable after a sunset. */
const makesNew = (name: OperationName): boolean =>
  operation(name).kind === 'apply' || ['create-key', 'rotate-key', 'import-key'].includes(name);

const describe = (question: PolicyQuestion): string => {
  const { operation: name, algorithm: id, jose } = question;
  if (id === undefined && jose === undefined) return name;
  return id !== undefined && jose !== undefined && id !== jose
    ? `${name} with ${id} (${jose})`
    : `${name} with ${id ?? jose}`;
};

const lists = (entries: ReadonlySet<string>, use: AlgorithmUse): boolean =>
  (use.algorithm !== undefined && entries.has(use.algorithm)) || (use.jose !== undefined && entries.has(use.jose));

/** Refuses forbidden algorithms, with or without a policy. */
export const judgeForbidden = ({ algorithm: id, jose }: PolicyQuestion): Refusal | undefined => {
  for (const name of [id, jose]) {
    const row = name === undefined ? undefined : forbiddenAlgorithm(name);
    if (row !== undefined)
      return refuse('ALGORITHM_FORBIDDEN', 'forbidden', `${row.id} is forbidden whatever a policy says: ${row.reason}`);
  }
  return undefined;
};

const judgeDeny = (layer: PolicyLayer, question: PolicyQuestion, use: AlgorithmUse): Refusal | undefined =>
  lists(layer.deny, use)
    ? refuse(
        'POLICY_DENIED',
        `${layer.scope}.algorithms.deny`,
        `${describe(question)}: the algorithm is on the deny list`,
      )
    : undefined;

const judgeLists = (layer: PolicyLayer, question: PolicyQuestion, use: AlgorithmUse): Refusal | undefined => {
  const { allow, operations, scope } = layer;
  const named = use.algorithm !== undefined || use.jose !== undefined;
  if (named && allow !== undefined && !lists(allow, use))
    return refuse('POLICY_DENIED', `${scope}.algorithms.allow`, `${describe(question)}: not on the allow list`);
  const own = operations.get(question.operation);
  const passes = own === undefined || (named ? lists(own, use) : own.size > 0);
  if (passes) return undefined;
  const rule = `${scope}.operations.${question.operation}`;
  return refuse('POLICY_DENIED', rule, `${describe(question)}: not on the list of this operation`);
};

const judgeUse = (effective: EffectivePolicy, question: PolicyQuestion, use: AlgorithmUse): Refusal | undefined => {
  const { layers } = effective;
  for (const layer of layers) {
    const why = fipsRefusal(layer.fipsBoundary, question.operation, use, question.custody);
    if (why !== undefined) return refuse('FIPS_ONLY', `${layer.scope}.fipsOnly`, `${describe(question)}: ${why}`);
  }
  for (const judge of [judgeDeny, judgeLists]) {
    for (const layer of layers) {
      const refusal = judge(layer, question, use);
      if (refusal !== undefined) return refusal;
    }
  }
  return undefined;
};

/** The JOSE names that a question without one may mean; a later use of the key is judged with its own. */
const usesOf = (question: PolicyQuestion): readonly AlgorithmUse[] => {
  const { algorithm: id, jose } = question;
  const row = id === undefined || jose !== undefined ? undefined : algorithm(id);
  if (row === undefined) return [{ algorithm: id, jose }];
  const purpose = purposeOf(question.operation);
  const served = Object.entries(row.jose).filter(([key]) => purpose === undefined || key === purpose);
  const uses = served.flatMap(([, names]) => names.map((name) => ({ algorithm: id, jose: name })));
  return uses.length > 0 ? uses : [{ algorithm: id, jose }];
};

/** The most particular rule that lets a question pass. */
const permittingRule = (effective: EffectivePolicy, question: PolicyQuestion): string => {
  const byOperation = effective.layers.findLast(({ operations }) => operations.has(question.operation));
  if (byOperation !== undefined) return `${byOperation.scope}.operations.${question.operation}`;
  if (question.algorithm === undefined && question.jose === undefined) return 'platform.tenants';
  return `${effective.layers.findLast(({ allow }) => allow !== undefined)?.scope ?? 'platform'}.algorithms.allow`;
};

const sunsetsOf = (effective: EffectivePolicy, { algorithm: id, jose }: PolicyQuestion): readonly SunsetRule[] =>
  effective.layers.flatMap(({ scope, sunset }) =>
    [...sunset]
      .filter(([entry]) => entry === id || entry === jose)
      .map(([entry, dates]) => ({ rule: `${scope}.algorithms.sunset`, entry, ...dates })),
  );

export interface SunsetDates {
  readonly warnAfter: number;
  readonly refuseAfter: number;
}

/** The earliest dates that hold for an algorithm; undefined where it has no end. */
export const sunsetOf = (
  effective: EffectivePolicy,
  use: { readonly algorithm: string; readonly jose: string },
): SunsetDates | undefined => {
  const rules = effective.layers.flatMap(({ sunset }) =>
    [use.algorithm, use.jose].map((name) => sunset.get(name)).filter((dates) => dates !== undefined),
  );
  if (rules.length === 0) return undefined;
  return {
    warnAfter: Math.min(...rules.map(({ warnAfter }) => warnAfter)),
    refuseAfter: Math.min(...rules.map(({ refuseAfter }) => refuseAfter)),
  };
};

const judgeTenant = (effective: EffectivePolicy, question: PolicyQuestion): Refusal | undefined => {
  const name = question.operation;
  if (effective.tenant === PLATFORM_TENANT && !observes(name))
    return refuse(
      'POLICY_DENIED',
      'platform.tenants',
      `${name}: ${PLATFORM_TENANT} holds no keys and does no cryptography`,
    );
  if (purposeOf(name) !== undefined && question.algorithm === undefined && question.jose === undefined)
    return refuse('POLICY_DENIED', 'platform.algorithms.allow', `${name}: the question names no algorithm`);
  return undefined;
};

/** Everything about a question that does not depend on time. */
export const judge = (effective: EffectivePolicy, question: PolicyQuestion): Judgement => {
  const forbidden = judgeForbidden(question);
  const refusals = usesOf(question).map((use) => judgeUse(effective, question, use));
  const refusal = judgeTenant(effective, question) ?? (refusals.includes(undefined) ? undefined : refusals[0]);
  return {
    ...(forbidden && { forbidden }),
    ...(refusal && { refusal }),
    permission: Object.freeze({
      allowed: true,
      rule: permittingRule(effective, question),
      warnings: Object.freeze([]),
    }),
    sunsets: sunsetsOf(effective, question),
  };
};

const warn = (code: PolicyWarning['code'], message: string): PolicyWarning => ({ code, message });
const at = (time: number): string => new Date(time).toISOString();

/** Refuses, warns, or neither, by the validity of the policy and its lease. */
const judgeAge = (
  effective: EffectivePolicy,
  name: OperationName,
  now: number,
  verifiedAt: number,
): Refusal | PolicyWarning | undefined => {
  const { notBefore, expiresAt, lease } = effective;
  if (now < notBefore || now >= expiresAt) {
    const why = now < notBefore ? `is valid only from ${at(notBefore)}` : `expired at ${at(expiresAt)}`;
    if (observes(name)) return warn('POLICY_STALE', `the policy in force ${why}`);
    return refuse('POLICY_INVALID', 'validity', `the policy in force ${why}`);
  }
  if (now - verifiedAt <= lease.maxStaleness) return undefined;
  const why = `the policy was last verified at ${at(verifiedAt)}, longer ago than its lease of ${lease.maxStaleness / 1000} s`;
  const goesOn = lease.whenStale === 'process-only' && operation(name).kind === 'process';
  if (goesOn || observes(name) || PROTECTIVE.has(name)) return warn('POLICY_STALE', why);
  return refuse('POLICY_STALE', 'lease', why);
};

const judgeSunsets = (sunsets: readonly SunsetRule[], name: OperationName, now: number): Refusal | PolicyWarning[] => {
  const warnings: PolicyWarning[] = [];
  for (const { rule, entry, warnAfter, refuseAfter } of sunsets) {
    if (now >= refuseAfter && makesNew(name))
      return refuse('POLICY_DENIED', rule, `${name}: ${entry} makes nothing new since ${at(refuseAfter)}`);
    if (now >= warnAfter)
      warnings.push(warn('ALGORITHM_SUNSET', `${entry} is refused for new work from ${at(refuseAfter)}`));
  }
  return warnings;
};

/** A judgement at a moment. `verifiedAt`: when the policy was last verified against its source. */
export const decideAt = (
  judgement: Judgement,
  effective: EffectivePolicy,
  name: OperationName,
  now: number,
  verifiedAt: number,
): Decision => {
  if (judgement.forbidden !== undefined) return judgement.forbidden;
  const age = judgeAge(effective, name, now, verifiedAt);
  if (age !== undefined && 'allowed' in age) return age;
  if (judgement.refusal !== undefined) return judgement.refusal;
  const sunset = judgement.sunsets.length === 0 ? [] : judgeSunsets(judgement.sunsets, name, now);
  if ('allowed' in sunset) return sunset;
  if (age === undefined && sunset.length === 0) return judgement.permission;
  return { ...judgement.permission, warnings: age === undefined ? sunset : [age, ...sunset] };
};

/** May this be done now? Never throws. */
export const decide = (
  effective: EffectivePolicy,
  question: PolicyQuestion,
  now: number,
  verifiedAt: number,
): Decision => decideAt(judge(effective, question), effective, question.operation, now, verifiedAt);

export interface Explanation {
  readonly allowed: boolean;
  readonly rule: string;
  /** One sentence for people. */
  readonly explanation: string;
  /** The error code; empty where allowed. */
  readonly code: Refusal['code'] | '';
}

/** A decision in words. */
export const explainDecision = (question: PolicyQuestion, decision: Decision): Explanation => {
  if (!decision.allowed) return decision;
  const warnings = decision.warnings.map(({ message }) => `; warning: ${message}`).join('');
  const explanation = `${describe(question)} is allowed by ${decision.rule}${warnings}`;
  return { allowed: true, rule: decision.rule, explanation, code: '' };
};

export const explain = (
  effective: EffectivePolicy,
  question: PolicyQuestion,
  now: number,
  verifiedAt: number,
): Explanation => explainDecision(question, decide(effective, question, now, verifiedAt));
