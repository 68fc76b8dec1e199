// The published policies. Invariants: what is published verifies against the pinned officers, ascends in version and, for
// a tenant, only narrows the platform policy that is published then; nothing published is ever changed.

import type { Clock } from '../../agent/clock.ts';
import { PolicyError } from '../../proto/documents/policy-error.ts';
import { findWidenings, requireNarrowing } from '../../proto/documents/policy-narrow.ts';
import { POLICY_JWS_LIMIT_BYTES, type SignedPolicy, verifyPolicy } from '../../proto/documents/policy-sign.ts';
import { PLATFORM_TENANT, type PlatformPolicy, type TenantPolicy } from '../../proto/documents/policy-types.ts';
import type { TrustAnchor } from '../../proto/documents/trust-anchor.ts';
import { RegistryError } from '../errors.ts';
import type { PoliciesStore, PolicyRow } from './store.ts';

export interface PolicyEvents {
  policyPublished(event: { tenant: string; version: number; digest: string; admin: string }): void;
  policyRefused(event: { tenant: string; code: string; reason: string; admin: string }): void;
  /** The store could not say what the newest policies are. */
  policiesUnknown(event: { cause: unknown }): void;
}

export interface Published {
  readonly row: PolicyRow;
  /** Tenants whose published policy widens the platform policy just published. */
  readonly conflicts: readonly string[];
}

const ATTEMPTS = 8;
const MAX_SHOWN = 190; // of ErrorInfo.metadata

export class Policies {
  readonly #store: PoliciesStore;
  readonly #anchor: TrustAnchor;
  readonly #clock: Clock;
  readonly #events: PolicyEvents;

  constructor(parts: {
    readonly store: PoliciesStore;
    readonly anchor: TrustAnchor;
    readonly clock: Clock;
    readonly events: PolicyEvents;
  }) {
    this.#store = parts.store;
    this.#anchor = parts.anchor;
    this.#clock = parts.clock;
    this.#events = parts.events;
  }

  /** Whose policy it is, once its signatures hold: what the right to publish is judged by. */
  tenantOf(jws: Buffer): string {
    return tenantOf(this.#verify(jws));
  }

  async publish(
    jws: Buffer,
    options: { readonly admin: string; readonly acceptConflicts: boolean },
  ): Promise<Published> {
    const signed = this.#verify(jws);
    const tenant = tenantOf(signed);
    try {
      for (let left = ATTEMPTS; left > 0; left -= 1) {
        const published = await this.#attempt(jws, signed, options);
        if (published === undefined) continue;
        const { version, digest } = published.row;
        this.#events.policyPublished({ tenant, version, digest, admin: options.admin });
        return published;
      }
    } catch (error) {
      const { code, message } = error as RegistryError;
      this.#events.policyRefused({ tenant, code, reason: message, admin: options.admin });
      throw error;
    }
    throw new RegistryError('OVERLOADED', { message: 'too many policies are published at once' });
  }

  async get(tenant: string, version: number): Promise<PolicyRow> {
    const row = version === 0 ? await this.#store.newestPolicy(tenant) : await this.#store.policy(tenant, version);
    if (row === undefined) throw new RegistryError('POLICY_UNKNOWN');
    return row;
  }

  history(query: {
    readonly tenant: string;
    readonly below?: number;
    readonly limit: number;
  }): Promise<readonly PolicyRow[]> {
    return this.#store.policyVersions(query);
  }

  async #attempt(
    jws: Buffer,
    signed: SignedPolicy,
    { admin, acceptConflicts }: { readonly admin: string; readonly acceptConflicts: boolean },
  ): Promise<Published | undefined> {
    const { policy } = signed;
    const tenant = tenantOf(signed);
    const [newest, platform] = await Promise.all([
      this.#store.newestPolicy(tenant),
      this.#store.newestPolicy(PLATFORM_TENANT),
    ]);
    if (newest?.version === policy.version && newest.jws.equals(jws)) return { row: newest, conflicts: [] };
    if (newest !== undefined && policy.version <= newest.version) {
      const message = `version ${policy.version} is not above ${newest.version}, which is published`;
      throw new RegistryError('POLICY_VERSION', { message, metadata: { newest: String(newest.version) } });
    }
    if (Date.parse(policy.expiresAt) <= this.#clock.now()) {
      throw new RegistryError('POLICY_INVALID', { message: `the policy expired at ${policy.expiresAt}` });
    }
    const conflicts = policy.scope === 'platform' ? await this.#conflicts(policy) : [];
    if (policy.scope === 'tenant') this.#requireNarrowing(policy, platform);
    if (conflicts.length > 0 && !acceptConflicts) {
      const message = `published policies of tenants would widen it: ${conflicts.slice(0, 8).join(', ')}`;
      throw new RegistryError('POLICY_WIDENS', {
        message,
        metadata: { tenants: conflicts.join(' ').slice(0, MAX_SHOWN) },
      });
    }
    const row: PolicyRow = {
      tenant,
      version: policy.version,
      digest: signed.digest,
      jws,
      publishedAt: this.#clock.now(),
      publishedBy: admin,
      officers: signed.officers,
      notBefore: Date.parse(policy.notBefore),
      expiresAt: Date.parse(policy.expiresAt),
    };
    const judged = { newest: newest?.version ?? 0, platform: platform?.version ?? 0 };
    return (await this.#store.insertPolicy(row, judged)) ? { row, conflicts } : undefined;
  }

  #verify(jws: Buffer): SignedPolicy {
    if (jws.length > POLICY_JWS_LIMIT_BYTES) throw new RegistryError('TOO_LARGE');
    try {
      return verifyPolicy(jws, this.#anchor);
    } catch (error) {
      throw translated(error);
    }
  }

  #requireNarrowing(policy: TenantPolicy, platform: PolicyRow | undefined): void {
    if (platform === undefined) {
      throw new RegistryError('POLICY_INVALID', { message: 'there is no platform policy that it could narrow' });
    }
    try {
      requireNarrowing(this.#verify(platform.jws).policy as PlatformPolicy, policy);
    } catch (error) {
      throw translated(error);
    }
  }

  /** Tenants whose newest published policy is wider than this platform policy, or that it no longer has. */
  async #conflicts(platform: PlatformPolicy): Promise<readonly string[]> {
    const conflicts: string[] = [];
    for (const { tenant } of await this.#store.policyHeads()) {
      if (tenant === PLATFORM_TENANT) continue;
      const row = await this.#store.newestPolicy(tenant);
      if (row === undefined) continue;
      const { policy } = this.#verify(row.jws);
      const isWider = policy.scope === 'tenant' && findWidenings(platform, policy).length > 0;
      if (isWider || !platform.tenants.includes(tenant)) conflicts.push(tenant);
    }
    return conflicts.sort();
  }
}

const tenantOf = ({ policy }: SignedPolicy): string => (policy.scope === 'platform' ? PLATFORM_TENANT : policy.tenant);

/** What an officer must know about his own document may be told to who publishes it. */
const translated = (error: unknown): unknown => {
  if (!(error instanceof PolicyError)) return error;
  const code = error.code === 'WIDENING' ? 'POLICY_WIDENS' : 'POLICY_INVALID';
  const metadata = { problem: error.code, path: error.path.slice(0, MAX_SHOWN) };
  return new RegistryError(code, { message: error.message, cause: error, metadata });
};
