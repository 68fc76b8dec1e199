// Replays audit records against a draft policy, by the decision function of the agent itself. Invariant: what is kept
// grows with the number of different refusals, up to a bound, and not with the number of records.
import {
  type Decision,
  decide,
  judgeForbidden,
  type PolicyQuestion,
  refuse,
} from '../../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../../proto/documents/policy-merge.ts';
import {
  type EffectivePolicy,
  PLATFORM_TENANT,
  type PlatformPolicy,
  type TenantPolicy,
} from '../../../proto/documents/policy-types.ts';
import {
  type Candidates,
  type Catalogue,
  isOperation,
  questionsOf,
  streamKeyQuestion,
  type TrailRecord,
} from './trail-question.ts';

/** Different refusals that are told apart; a trail with more principals than this is told in sum. */
const MAX_ROWS = 10_000;
const MAX_DECISIONS = 4096;

export interface RefusalRow {
  readonly tenant: string;
  /** Key id without its version, or "-". */
  readonly key: string;
  readonly principal: string;
  readonly operation: string;
  readonly algorithm: string;
  /** `depends`: refused or not by which key did it, or by what its client takes, which the record alone does not say. */
  readonly verdict: 'refused' | 'depends';
  readonly code: string;
  readonly rule: string;
  readonly explanation: string;
  count: number;
  readonly firstTime: string;
  lastTime: string;
}

export interface Counts {
  /** Records in the window. */
  records: number;
  /** Operations that were done, and are judged. */
  judged: number;
  refused: number;
  depends: number;
  /** Would be allowed, with the warning that the algorithm comes to its end. */
  warned: number;
  /** Were refused or failed when they were tried. */
  failedBefore: number;
  /** Intents, and events of the agent that are no operation of a caller. */
  notJudged: number;
  otherTenants: number;
}

export interface Draft {
  readonly platform: PlatformPolicy;
  /** Policies of tenants, by tenant. */
  readonly tenants: ReadonlyMap<string, TenantPolicy>;
  /** Only this tenant's records, where set. */
  readonly only: string | undefined;
}

const DONE: ReadonlySet<string> = new Set(['ok', 'SIGNATURE_INVALID']); // a wrong signature is an answer

/** The policy as if it were valid and fresh: when it will be in force is not what is asked. */
const whenever = (effective: EffectivePolicy): EffectivePolicy => ({
  ...effective,
  notBefore: Number.NEGATIVE_INFINITY,
  expiresAt: Number.POSITIVE_INFINITY,
});

export class Rehearsal {
  readonly counts: Counts = {
    records: 0,
    judged: 0,
    refused: 0,
    depends: 0,
    warned: 0,
    failedBefore: 0,
    notJudged: 0,
    otherTenants: 0,
  };
  readonly #draft: Draft;
  readonly #at: number;
  readonly #catalogue: Catalogue;
  readonly #views = new Map<string, EffectivePolicy | undefined>();
  readonly #decisions = new Map<string, Decision>();
  readonly #rows = new Map<string, RefusalRow>();
  #leftOut = 0;

  /** `at`: the moment at which sunsets are judged, in milliseconds since 1970. */
  constructor(input: { readonly draft: Draft; readonly at: number; readonly catalogue: Catalogue }) {
    this.#draft = input.draft;
    this.#at = input.at;
    this.#catalogue = input.catalogue;
  }

  /** Refusals, the most frequent first. */
  get rows(): readonly RefusalRow[] {
    return [...this.#rows.values()].sort((a, b) => b.count - a.count);
  }

  /** Refusals that no row tells of. */
  get leftOut(): number {
    return this.#leftOut;
  }

  add(record: TrailRecord): void {
    const { counts } = this;
    counts.records += 1;
    if (this.#draft.only !== undefined && record.tenant !== this.#draft.only) counts.otherTenants += 1;
    else if (!isOperation(record.operation) || record.outcome === 'intent') counts.notJudged += 1;
    else if (!DONE.has(record.outcome)) counts.failedBefore += 1;
    else this.#judge(record);
  }

  #judge(record: TrailRecord): void {
    this.counts.judged += 1;
    let warned = false;
    let depends: Decision | undefined;
    for (const candidates of questionsOf(record, this.#catalogue)) {
      const decisions = this.#decide(candidates);
      const refusal = decisions.find(({ allowed }) => !allowed);
      if (refusal !== undefined && decisions.every(({ allowed }) => !allowed)) {
        this.#note(record, 'refused', refusal);
        return;
      }
      depends ??= refusal;
      warned ||= decisions.some((decision) => decision.allowed && decision.warnings.length > 0);
    }
    depends ??= this.#streamKeyRefusal(record);
    if (depends !== undefined) this.#note(record, 'depends', depends);
    else if (warned) this.counts.warned += 1;
  }

  /** Why the client would get no content key of this stream: the agent does its work then, if the client lets it. */
  #streamKeyRefusal(record: TrailRecord): Decision | undefined {
    const candidates = streamKeyQuestion(record, this.#catalogue);
    if (candidates === undefined) return undefined;
    if (this.#view(record.tenant)?.localStreamKeys === true) {
      return this.#decide(candidates).find(({ allowed }) => !allowed);
    }
    const explanation = 'the agent would work on the stream itself, or refuse a client that takes nothing else';
    return refuse('POLICY_DENIED', 'streams.localKeys', explanation);
  }

  #decide(candidates: Candidates): readonly Decision[] {
    return candidates.map((question) => {
      const { tenant, operation, algorithm, jose, custody } = question;
      const name = `${tenant} ${operation} ${algorithm} ${jose} ${custody}`;
      const known = this.#decisions.get(name);
      if (known !== undefined) return known;
      const decision = this.#ask(question);
      if (this.#decisions.size >= MAX_DECISIONS) this.#decisions.clear();
      this.#decisions.set(name, decision);
      return decision;
    });
  }

  #ask(question: PolicyQuestion): Decision {
    const view = this.#view(question.tenant);
    if (view !== undefined) return decide(view, question, this.#at, this.#at);
    return (
      judgeForbidden(question) ??
      refuse('POLICY_DENIED', 'platform.tenants', 'the platform policy does not have this tenant')
    );
  }

  #view(tenant: string): EffectivePolicy | undefined {
    if (this.#views.has(tenant)) return this.#views.get(tenant);
    const { platform, tenants } = this.#draft;
    const policy = tenants.get(tenant);
    const isKnown = tenant === PLATFORM_TENANT || platform.tenants.includes(tenant);
    const view = isKnown ? whenever(mergePolicies({ tenant, platform, ...(policy && { policy }) })) : undefined;
    this.#views.set(tenant, view);
    return view;
  }

  #note(record: TrailRecord, verdict: RefusalRow['verdict'], decision: Decision): void {
    if (decision.allowed) return;
    this.counts[verdict] += 1;
    const { tenant, principal, operation, algorithm, time } = record;
    const { code, rule, explanation } = decision;
    const key = record.key.split('/')[0] as string;
    const name = JSON.stringify([tenant, key, principal, operation, algorithm, verdict, code, rule]);
    const row = this.#rows.get(name);
    if (row !== undefined) {
      row.count += 1;
      row.lastTime = time;
    } else if (this.#rows.size >= MAX_ROWS) this.#leftOut += 1;
    else {
      const about = { tenant, key, principal, operation, algorithm, verdict, code, rule, explanation };
      this.#rows.set(name, { ...about, count: 1, firstTime: time, lastTime: time });
    }
  }
}
