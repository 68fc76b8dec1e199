// The policy room: what is in force, from the signed files of one folder. Decisions are answered from memory and never
// wait; a round of reading swaps the whole set at once. Without a good policy everything is refused, and it says why.
import { join } from 'node:path';
import type { Purpose } from '../../proto/documents/algorithms.ts';
import type { CompositeVerification } from '../../proto/documents/composite-verification.ts';
import {
  type Decision,
  type Explanation,
  explainDecision,
  type PolicyQuestion,
  type SunsetDates,
  sunsetOf,
} from '../../proto/documents/policy-decide.ts';
import {
  type Durability,
  type EffectivePolicy,
  type FipsBoundary,
  type Issuer,
  PLATFORM_TENANT,
  type RateLimits,
  type WhenUnavailable,
  type Workload,
} from '../../proto/documents/policy-types.ts';
import { Intake } from './intake.ts';
import type { PolicyInput, PolicyProblem, PolicyReport, PolicyState } from './interface.ts';
import { Recorder, tenantOf } from './recorder.ts';
import { folderSource, type PolicySource } from './source.ts';
import { storeFolder } from './store.ts';
import { type InForce, Views } from './views.ts';
import { watchFolders } from './watch.ts';

const DAY_MS = 24 * 3600 * 1000;
const SAFE_DESTROY_WAIT_MS = 30 * DAY_MS; // where no policy says

export class Policy {
  readonly #input: PolicyInput;
  readonly #recorder: Recorder;
  readonly #intake: Intake;
  readonly #source: PolicySource;
  readonly #listeners = new Set<() => void>();
  #views = new Views({ platform: undefined, tenants: new Map(), why: 'none was loaded yet' });
  #running: Promise<PolicyReport> | undefined;
  #next: Promise<PolicyReport> | undefined;
  #watch: { close(): void } | undefined;
  #closed = false;

  constructor(input: PolicyInput) {
    const { events, clock, dir, mac, dataDir } = input;
    const trustAnchor = input.trustAnchor ?? join(dir, 'trust-anchor.json');
    this.#input = input;
    this.#recorder = new Recorder({ append: input.record, failed: (event) => events.recordFailed(event) });
    const storeDir = storeFolder(dataDir);
    this.#source = input.source ?? folderSource({ dir, trustAnchor, clock });
    this.#intake = new Intake({ source: this.#source, storeDir, mac, clock, events, recorder: this.#recorder });
  }

  /** Watches the folders from now on, and looks once more for what changed since they were read. */
  watch(): void {
    const changed = (): void => void this.reload();
    const { folders } = this.#source;
    this.#watch = watchFolders({ folders, intervalMs: this.#input.reloadIntervalMs, changed });
    changed();
  }

  /** May this be done now? Never throws. */
  decide(question: PolicyQuestion): Decision {
    return this.#views.decide(question, this.#input.clock.now());
  }

  explain(question: PolicyQuestion): Explanation {
    return explainDecision(question, this.decide(question));
  }

  defaultAlgorithm(tenant: string, purpose: Purpose): string | undefined {
    return this.effective(tenant)?.defaults[purpose];
  }

  keyLimits(tenant: string): EffectivePolicy['keyLimits'] {
    return this.effective(tenant)?.keyLimits ?? {};
  }

  destroyWait(tenant: string): number {
    return this.effective(tenant)?.destroyWait ?? SAFE_DESTROY_WAIT_MS;
  }

  /** From when policy warns of an algorithm and makes nothing new with it; undefined: never. */
  sunset(tenant: string, use: { readonly algorithm: string; readonly jose: string }): SunsetDates | undefined {
    const view = this.effective(tenant);
    return view && sunsetOf(view, use);
  }

  /** Whether a signature is verified before it leaves. */
  checkSignatures(tenant: string): boolean {
    return this.effective(tenant)?.checkSignatures ?? false;
  }

  /** Whether a client may be given the content key of a stream. */
  localStreamKeys(tenant: string): boolean {
    return this.effective(tenant)?.localStreamKeys ?? false;
  }

  /** Which halves of a composite signature have to be right. */
  compositeVerification(tenant: string): CompositeVerification {
    return this.effective(tenant)?.compositeVerification ?? 'all';
  }

  whenAuditUnavailable(tenant: string): WhenUnavailable {
    return this.effective(tenant)?.whenAuditUnavailable ?? 'refuse';
  }

  durability(tenant: string): Durability {
    return this.effective(tenant)?.durability ?? 'flushed';
  }

  /** Undefined where no policy gives any: then decide refuses whatever is asked. */
  rateLimits(tenant: string): RateLimits | undefined {
    return this.effective(tenant)?.rateLimits;
  }

  fipsBoundary(tenant: string): '' | FipsBoundary {
    return this.effective(tenant)?.fipsBoundary || '';
  }

  /** The view in force of a tenant; undefined without a platform policy or where it does not have the tenant. */
  effective(tenant: string): EffectivePolicy | undefined {
    return this.#views.of(tenant)?.effective;
  }

  /** False for tenants that the host was not enrolled for. */
  serves(tenant: string): boolean {
    return this.#views.serves(tenant);
  }

  tenants(): readonly string[] {
    return this.#views.platformPolicy?.tenants ?? [];
  }

  issuers(): readonly Issuer[] {
    return this.#views.platformPolicy?.issuers ?? [];
  }

  workloads(): readonly Workload[] {
    return this.#views.platformPolicy?.workloads ?? [];
  }

  /** Revoked for all tenants; with a tenant, also what its own policy revokes. */
  revokedTokens(tenant: string = PLATFORM_TENANT): readonly string[] {
    return this.effective(tenant)?.revokedTokens ?? [];
  }

  caches(tenant: string = PLATFORM_TENANT): EffectivePolicy['caches'] {
    return this.effective(tenant)?.caches ?? { tokenSeconds: 0 };
  }

  /** For GetStatus: what is in force for a tenant, and what is wrong that concerns it. */
  status(tenant: string): PolicyState {
    const now = this.#input.clock.now();
    const effective = this.effective(tenant);
    const maxStaleness = effective?.lease.maxStaleness ?? 0;
    const policies = this.#views.sources(tenant).map(({ signed: { policy, digest }, verifiedAt }) => ({
      scope: policy.scope,
      version: policy.version,
      digest,
      expiresAt: Date.parse(policy.expiresAt),
      verifiedAt,
      stale: now - verifiedAt > maxStaleness,
    }));
    const stale = policies.some((row) => row.stale);
    const valid = effective !== undefined && now >= effective.notBefore && now < effective.expiresAt;
    const problems = this.problems().filter(
      ({ subject }) => tenant === PLATFORM_TENANT || [tenant, PLATFORM_TENANT].includes(tenantOf(subject)),
    );
    const words = problems.map(({ subject, code, message }) => `${subject}: ${code}: ${message}`);
    if (!valid) words.unshift('no valid policy is in force');
    if (stale) words.unshift('the policy is stale');
    const detail = words.length > 0 ? words.join('; ') : 'in force and verified';
    return { policies, healthy: words.length === 0, detail, fipsBoundary: this.fipsBoundary(tenant) };
  }

  problems(): readonly PolicyProblem[] {
    return [...this.#intake.problems].map(([subject, { code, message }]) => ({ subject, code, message }));
  }

  /** Each policy in force, with when it began to be. */
  inForce(): readonly { tenant: string; version: number; digest: string; since: number }[] {
    return [...this.#intake.inForce].map(([scope, { signed, since }]) => ({
      tenant: tenantOf(scope),
      version: signed.policy.version,
      digest: signed.digest,
      since,
    }));
  }

  /** The tenants that this host serves are others now. */
  servedChanged(): void {
    this.#swap();
  }

  /** Calls back after each swap; gives back what stops it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reads the folder again. Calls that come while a round runs share the one after it. */
  reload(): Promise<PolicyReport> {
    if (this.#closed) return Promise.resolve(this.#report(false));
    if (this.#running === undefined) {
      this.#running = this.#round().finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      return this.reload();
    });
    return this.#next;
  }

  /** Hands waiting events to the audit log; for when it has just been opened. Every round does it too. */
  recordPending(): Promise<void> {
    return this.#recorder.drain(this.#intake.forget);
  }

  /** Ends the watch, lets a round under way and the recording end, and closes the store. */
  async close(): Promise<void> {
    this.#watch?.close();
    await (this.#next ?? this.#running);
    this.#closed = true;
    await this.recordPending();
    await this.#intake.close();
  }

  async #round(): Promise<PolicyReport> {
    const changed = await this.#intake.round();
    if (changed || this.#views.platformPolicy === undefined) this.#swap();
    void this.recordPending();
    const report = this.#report(changed);
    const ages = [...this.#intake.inForce.values()].map(({ verifiedAt }) => verifiedAt);
    this.#input.events.reloaded({
      inForce: ages.length,
      problems: report.problems.length,
      changed,
      oldestVerifiedAt: ages.length === 0 ? undefined : Math.min(...ages),
    });
    return report;
  }

  #swap(): void {
    const { inForce, problems } = this.#intake;
    const tenants = new Map<string, InForce>();
    for (const [scope, entry] of inForce) if (scope !== 'platform') tenants.set(tenantOf(scope), entry);
    const cause = problems.get('store') ?? problems.get('trust-anchor') ?? problems.get('platform');
    const why = cause === undefined ? 'none was loaded yet' : `${cause.code}: ${cause.message}`;
    const served = this.#source.tenants();
    this.#views = new Views({ platform: inForce.get('platform'), tenants, why, served });
    for (const listener of this.#listeners) listener();
  }

  #report(changed: boolean): PolicyReport {
    const signed = this.#intake.inForce.get('platform')?.signed;
    return {
      changed,
      platform: signed && { version: signed.policy.version, digest: signed.digest },
      tenantPolicies: [...this.#intake.inForce.keys()].filter((scope) => scope !== 'platform').length,
      problems: this.problems(),
    };
  }
}

/** Loads the last good policies, reads the folder, and keeps watch. Resolves also where no policy is good. */
export const openPolicy = async (input: PolicyInput): Promise<Policy> => {
  const policy = new Policy(input);
  await policy.reload();
  policy.watch();
  return policy;
};
