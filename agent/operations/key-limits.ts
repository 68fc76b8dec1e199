// Limits of a key against the policy's: what is not given is the policy's default, what is given is never wider.
// Times are milliseconds since 1970.
import { limitsFault } from '../../proto/documents/key-attributes.ts';
import type { KeyLimits } from '../../proto/documents/key-record.ts';
import { AgentError, invalid } from '../errors.ts';
import type { PolicyPort } from './ports/policy.ts';

type PolicyLimits = ReturnType<PolicyPort['keyLimits']>;
const FIELDS: Readonly<Record<keyof KeyLimits, string>> = {
  softUses: 'limits.soft_uses',
  hardUses: 'limits.hard_uses',
  softExpiry: 'limits.soft_expiry',
  hardExpiry: 'limits.hard_expiry',
};

const notWider = (name: keyof KeyLimits, given: number | undefined, policy: number | undefined): number | undefined => {
  if (given === undefined || policy === undefined) return given ?? policy;
  if (given <= policy) return given;
  const most = name.endsWith('Uses') ? String(policy) : new Date(policy).toISOString();
  throw new AgentError('POLICY_DENIED', {
    message: `${FIELDS[name]}: policy allows at most ${most}`,
    metadata: { rule: `keys.${name}` },
  });
};

const least = (soft: number | undefined, hard: number | undefined): number | undefined =>
  soft === undefined || hard === undefined ? soft : Math.min(soft, hard);

/** The limits in force for a key whose primary version was made at `madeAt`. */
export const mergeLimits = (given: KeyLimits, policy: PolicyLimits, madeAt: number): KeyLimits => {
  const fault = limitsFault(given);
  if (fault !== undefined) throw invalid(FIELDS[fault], 'a count from 1 to 2^53-1, or a time');
  const at = (age: number | undefined): number | undefined => (age === undefined ? undefined : madeAt + age);
  const hardUses = notWider('hardUses', given.hardUses, policy.hardUses);
  const hardExpiry = notWider('hardExpiry', given.hardExpiry, at(policy.hardAge));
  // A default that lies beyond a narrower hard limit of the key's own is drawn in; a value that was given is refused.
  const softUses = notWider('softUses', given.softUses, policy.softUses);
  const softExpiry = notWider('softExpiry', given.softExpiry, at(policy.softAge));
  if (given.softUses !== undefined && hardUses !== undefined && given.softUses > hardUses) {
    throw invalid(FIELDS.softUses, 'above the hard limit');
  }
  if (given.softExpiry !== undefined && hardExpiry !== undefined && given.softExpiry > hardExpiry) {
    throw invalid(FIELDS.softExpiry, 'after the hard expiry');
  }
  const soft = { softUses: least(softUses, hardUses), softExpiry: least(softExpiry, hardExpiry) };
  return {
    ...(soft.softUses !== undefined && { softUses: soft.softUses }),
    ...(hardUses !== undefined && { hardUses }),
    ...(soft.softExpiry !== undefined && { softExpiry: soft.softExpiry }),
    ...(hardExpiry !== undefined && { hardExpiry }),
  };
};

/** Rotation starts a new cryptoperiod of the same length (SP 800-57 part 1, section 5.3), within the policy's. */
export const renewLimits = (limits: KeyLimits, policy: PolicyLimits, madeAt: number, now: number): KeyLimits => {
  const moved = (end: number | undefined, age: number | undefined): number | undefined =>
    least(end === undefined ? undefined : now + Math.max(1, end - madeAt), age === undefined ? undefined : now + age);
  const { softUses, hardUses } = limits;
  const softExpiry = moved(limits.softExpiry, policy.softAge);
  const hardExpiry = moved(limits.hardExpiry, policy.hardAge);
  return {
    ...(softUses !== undefined && { softUses }),
    ...(hardUses !== undefined && { hardUses }),
    ...(softExpiry !== undefined && { softExpiry }),
    ...(hardExpiry !== undefined && { hardExpiry }),
  };
};
