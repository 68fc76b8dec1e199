// May this file's policy come into force? Signatures first, then scope, time, version and narrowing. Pure: what is
// refused is refused by PolicyError, and nothing here changes what is in force.
import { PolicyError } from '../../proto/documents/policy-error.ts';
import { requireNarrowing } from '../../proto/documents/policy-narrow.ts';
import { type SignedPolicy, verifyPolicy } from '../../proto/documents/policy-sign.ts';
import type { PlatformPolicy } from '../../proto/documents/policy-types.ts';
import type { TrustAnchor } from '../../proto/documents/trust-anchor.ts';
import type { ScopeKey } from './store.ts';

export const scopeKeyOf = ({ policy }: SignedPolicy): ScopeKey =>
  policy.scope === 'platform' ? 'platform' : `tenant/${policy.tenant}`;

export interface Candidate {
  readonly scope: ScopeKey;
  readonly bytes: Buffer;
  readonly anchor: TrustAnchor;
  readonly now: number;
  /** What the store says was in force last in this scope, still usable or not. */
  readonly floor: { readonly version: number; readonly digest: string } | undefined;
  /** The platform policy in force, for tenant policies. */
  readonly platform: PlatformPolicy | undefined;
}

const requireTime = ({ policy }: SignedPolicy, now: number): void => {
  if (now >= Date.parse(policy.expiresAt))
    throw new PolicyError('EXPIRED', 'expiresAt', `expired at ${policy.expiresAt}`);
  if (now < Date.parse(policy.notBefore))
    throw new PolicyError('NOT_YET_VALID', 'notBefore', `valid only from ${policy.notBefore}`);
};

const requireVersion = ({ policy, digest }: SignedPolicy, floor: Candidate['floor']): void => {
  if (floor === undefined || policy.version > floor.version) return;
  if (policy.version < floor.version)
    throw new PolicyError(
      'ROLLBACK',
      'version',
      `${policy.version} is lower than ${floor.version}, which was in force`,
    );
  if (digest !== floor.digest)
    throw new PolicyError('VERSION_REUSED', 'version', `version ${policy.version} was in force with other contents`);
};

/** The policy in the bytes; or PolicyError, with NOT_YET_VALID for one whose time is still to come. */
export const admit = (candidate: Candidate): SignedPolicy => {
  const signed = verifyPolicy(candidate.bytes, candidate.anchor);
  const actual = scopeKeyOf(signed);
  if (actual !== candidate.scope)
    throw new PolicyError('SCOPE_MISMATCH', 'scope', `a policy of ${actual} in the file of ${candidate.scope}`);
  requireVersion(signed, candidate.floor);
  const { policy } = signed;
  // The same policy again was admitted before; the platform may have narrowed beneath it since, which the merge heeds.
  const known = candidate.floor?.version === policy.version;
  if (policy.scope === 'tenant' && !known) {
    if (candidate.platform === undefined)
      throw new PolicyError('SCOPE_MISMATCH', 'scope', 'no platform policy is in force that it could narrow');
    requireNarrowing(candidate.platform, policy);
  }
  requireTime(signed, candidate.now);
  return signed;
};
