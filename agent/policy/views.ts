// The effective view of each tenant under one set of policies, with its decisions. A view and its cached judgements live
// as long as the set: a swap makes a new set, so nothing stale can be served. Time is looked at on every call.
import {
  type Decision,
  decideAt,
  type Judgement,
  judge,
  judgeForbidden,
  type PolicyQuestion,
  refuse,
} from '../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../proto/documents/policy-merge.ts';
import type { SignedPolicy } from '../../proto/documents/policy-sign.ts';
import {
  type EffectivePolicy,
  PLATFORM_TENANT,
  type PlatformPolicy,
  type TenantPolicy,
} from '../../proto/documents/policy-types.ts';

/** A policy in force. `verifiedAt` moves on with each verification against the source. */
export interface InForce {
  readonly signed: SignedPolicy;
  readonly jws: Buffer;
  /** The trust anchor under which its signatures were verified. */
  readonly anchorDigest: string;
  verifiedAt: number;
  storedVerifiedAt: number;
  /** When this process began to decide by it. */
  readonly since: number;
}

const MAX_JUDGEMENTS = 4096; // operations × algorithms in use; a caller's inventions must not grow it further

export class View {
  readonly effective: EffectivePolicy;
  readonly #sources: readonly InForce[];
  readonly #judgements = new Map<string, Judgement>();

  constructor(effective: EffectivePolicy, sources: readonly InForce[]) {
    this.effective = effective;
    this.#sources = sources;
  }

  /** The older of the two verifications counts. */
  get verifiedAt(): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const { verifiedAt } of this.#sources) if (verifiedAt < oldest) oldest = verifiedAt;
    return oldest;
  }

  decide(question: PolicyQuestion, now: number): Decision {
    return decideAt(this.#judgement(question), this.effective, question.operation, now, this.verifiedAt);
  }

  #judgement(question: PolicyQuestion): Judgement {
    const { operation, algorithm, jose, custody } = question;
    const key = `${operation} ${algorithm} ${jose} ${custody}`;
    const known = this.#judgements.get(key);
    if (known !== undefined) return known;
    const judgement = judge(this.effective, question);
    if (this.#judgements.size >= MAX_JUDGEMENTS) this.#judgements.clear();
    this.#judgements.set(key, judgement);
    return judgement;
  }
}

export class Views {
  readonly #platform: InForce | undefined;
  readonly #tenants: ReadonlyMap<string, InForce>;
  readonly #known: ReadonlySet<string>;
  readonly #served: ReadonlySet<string> | undefined;
  readonly #none: Decision;
  readonly #views = new Map<string, View>();

  /** `why`: what to say while no platform policy is in force. `served`: tenants of this host; undefined: all. */
  constructor(input: {
    platform: InForce | undefined;
    tenants: ReadonlyMap<string, InForce>;
    why: string;
    served?: ReadonlySet<string> | undefined;
  }) {
    this.#platform = input.platform;
    this.#tenants = input.tenants;
    this.#served = input.served;
    this.#known = new Set([PLATFORM_TENANT, ...(this.platformPolicy?.tenants ?? [])]);
    this.#none = refuse('POLICY_INVALID', 'none', `no policy is in force: ${input.why}`);
  }

  get platformPolicy(): PlatformPolicy | undefined {
    return this.#platform?.signed.policy as PlatformPolicy | undefined;
  }

  /** Undefined without a platform policy, and for tenants that it does not have. */
  of(tenant: string): View | undefined {
    return this.#views.get(tenant) ?? this.#make(tenant);
  }

  #make(tenant: string): View | undefined {
    const platform = this.platformPolicy;
    if (platform === undefined || this.#platform === undefined || !this.#known.has(tenant)) return undefined;
    if (!this.serves(tenant)) return undefined;
    const own = this.#tenants.get(tenant);
    const policy = own?.signed.policy as TenantPolicy | undefined;
    const effective = mergePolicies({ tenant, platform, ...(policy && { policy }) });
    const view = new View(effective, own === undefined ? [this.#platform] : [this.#platform, own]);
    this.#views.set(tenant, view);
    return view;
  }

  decide(question: PolicyQuestion, now: number): Decision {
    const view = this.of(question.tenant);
    if (view !== undefined) return view.decide(question, now);
    const forbidden = judgeForbidden(question);
    if (forbidden !== undefined) return forbidden;
    if (this.#platform === undefined) return this.#none;
    if (!this.serves(question.tenant)) {
      return refuse('POLICY_DENIED', 'host.tenants', 'this host was not enrolled for this tenant');
    }
    return refuse('POLICY_DENIED', 'platform.tenants', 'the platform policy does not have this tenant');
  }

  /** False for tenants that the host was not enrolled for; an agent without a registry serves them all. */
  serves(tenant: string): boolean {
    return tenant === PLATFORM_TENANT || this.#served === undefined || this.#served.has(tenant);
  }

  /** The policies in force for a tenant: the platform's, then its own. */
  sources(tenant: string): readonly InForce[] {
    return [this.#platform, this.#tenants.get(tenant)].filter((source) => source !== undefined);
  }
}
