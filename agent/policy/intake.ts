// One round of reading the source of policies: what is good is stored, then comes into force; what is not is reported and
// changes nothing. Rounds never overlap. Invariant: a policy is in force only if its version is on disk as the floor.
import { PolicyError } from '../../proto/documents/policy-error.ts';
import { type SignedPolicy, verifyPolicy } from '../../proto/documents/policy-sign.ts';
import type { PlatformPolicy } from '../../proto/documents/policy-types.ts';
import type { Clock } from '../clock.ts';
import { admit } from './admission.ts';
import { forgetAcceptance, judgeAnchor, type PinnedAnchor, pinnedAnchor } from './anchor-pin.ts';
import type { Mac } from './envelope.ts';
import type { PolicyEvents } from './interface.ts';
import type { PolicyFile } from './loader.ts';
import {
  adoptedRecord,
  anchorRecord,
  type Recorder,
  refusedRecord,
  type Subject,
  subjectOf,
  tenantOf,
  toStore,
} from './recorder.ts';
import type { PolicySource } from './source.ts';
import { asPolicyError, PolicyStore, type ScopeKey, type StoredPolicy } from './store.ts';
import type { InForce } from './views.ts';

export interface IntakeInput {
  readonly source: PolicySource;
  readonly storeDir: string;
  readonly mac: Mac;
  readonly clock: Clock;
  readonly events: PolicyEvents;
  readonly recorder: Recorder;
}

/** How much of a lease may pass before the time of verification is stored again. */
const AGE_STEP = 10;
const LEAST_AGE_STEP_MS = 60_000;

interface Floor {
  readonly version: number;
  readonly digest: string;
}

export class Intake {
  readonly inForce = new Map<ScopeKey, InForce>();
  /** What is wrong now, by subject. */
  problems: ReadonlyMap<Subject, PolicyError> = new Map();
  readonly #input: IntakeInput;
  readonly #floors = new Map<ScopeKey, Floor>();
  readonly #announced = new Map<Subject, string>();
  #found = new Map<Subject, PolicyError>();
  #tampered = new Map<Subject, PolicyError>();
  #store: PolicyStore | undefined;
  #loaded = false;
  #pinned: PinnedAnchor | undefined;
  #anchorKnown = false;
  #changed = false;
  #confirmedAt = 0;

  constructor(input: IntakeInput) {
    this.#input = input;
  }

  /** Reads, judges, stores; true where what is in force changed. Never throws. */
  async round(): Promise<boolean> {
    this.#changed = false;
    this.#found = new Map();
    try {
      await this.#load();
      await this.#readSource();
    } catch (error) {
      this.#report('store', asPolicyError(error));
    }
    for (const [subject, error] of this.#tampered) {
      const found = this.#found.get(subject)?.code;
      if (found === undefined || found === 'FILE_MISSING') this.#found.set(subject, error);
    }
    this.problems = this.#found;
    this.#announce();
    return this.#changed;
  }

  /** Removes a recorded event from the store. */
  forget = (id: string): void => this.#store?.recorded(id);

  async close(): Promise<void> {
    await this.#store?.close();
  }

  #report(subject: Subject, error: PolicyError): void {
    if (!this.#found.has(subject)) this.#found.set(subject, error);
  }

  get #platform(): PlatformPolicy | undefined {
    return this.inForce.get('platform')?.signed.policy as PlatformPolicy | undefined;
  }

  /** The last good policies, once. Tried again in each round until the token and the store answer. */
  async #load(): Promise<void> {
    if (this.#loaded) return;
    const { storeDir, mac, recorder } = this.#input;
    this.#store ??= PolicyStore.open({ path: storeDir, mac });
    const { policies, anchor, pending, tampered } = await this.#store.load();
    for (const error of tampered) this.#tampered.set(subjectOf(error.path), error);
    this.#anchorKnown = anchor !== undefined || policies.length > 0 || tampered.length > 0;
    this.#pinned = anchor && pinnedAnchor(anchor);
    for (const { id, record } of pending) recorder.add(record, id);
    for (const stored of policies) this.#restore(stored);
    // At once: a good file may take the place of what was tampered with before the round is over.
    for (const [subject, error] of this.#tampered) this.#alarm(subject, error);
    this.#loaded = true;
    this.#changed = true;
  }

  #restore(stored: StoredPolicy): void {
    const { scope, version, digest, verifiedAt, jws } = stored;
    this.#floors.set(scope, { version, digest });
    if (this.#pinned === undefined) return;
    try {
      const signed = verifyPolicy(jws, this.#pinned.anchor);
      const anchorDigest = this.#pinned.digest;
      const since = this.#input.clock.now();
      this.inForce.set(scope, { signed, jws, anchorDigest, verifiedAt, storedVerifiedAt: verifiedAt, since });
    } catch (error) {
      this.#tampered.set(scope, asPolicyError(error));
    }
  }

  async #readSource(): Promise<void> {
    const files = await this.#input.source.read(this.inForce);
    this.#confirmedAt = files.confirmedAt;
    await this.#readAnchor(files.anchor);
    if (this.#pinned === undefined) return;
    await this.#consider('platform', files.platform, this.#pinned);
    for (const [tenant, file] of files.tenants) await this.#consider(`tenant/${tenant}`, file, this.#pinned);
    for (const scope of this.inForce.keys()) {
      if (scope === 'platform' || files.tenants.has(tenantOf(scope))) continue;
      // Taking the file away is not a way to widen: the tenant's policy stays, and goes stale.
      this.#report(scope, new PolicyError('FILE_MISSING', `${scope}.json`, 'the file of a policy in force is gone'));
    }
    this.#dropUntrusted(this.#pinned);
    if (files.strays[0] !== undefined) this.#report('folder', files.strays[0]);
    await this.#storeAges();
  }

  async #readAnchor(file: PolicyFile): Promise<void> {
    const { storeDir, clock, events, recorder } = this.#input;
    try {
      const pinned = this.#pinned;
      const found = await judgeAnchor({ file, pinned, known: this.#anchorKnown, folder: storeDir });
      if (found === pinned) return;
      const record = anchorRecord({ now: clock.now(), previous: pinned?.digest ?? null, next: found.digest });
      await this.#store?.saveAnchor(found.bytes, toStore(record));
      this.#pinned = found;
      this.#anchorKnown = true;
      this.#tampered.delete('trust-anchor');
      recorder.add(record, toStore(record).id);
      events.anchorPinned({ digest: found.digest, previous: pinned?.digest });
      await forgetAcceptance(storeDir);
    } catch (error) {
      this.#report('trust-anchor', asPolicyError(error));
    }
  }

  async #consider(scope: ScopeKey, file: PolicyFile, pinned: PinnedAnchor): Promise<void> {
    const now = this.#input.clock.now();
    const current = this.inForce.get(scope);
    const trusted = current?.anchorDigest === pinned.digest;
    try {
      if ('error' in file) throw file.error;
      if (current !== undefined && trusted && current.jws.equals(file.bytes)) {
        this.#confirm(current);
        return;
      }
      const floor = this.#floors.get(scope);
      const platform = this.#platform;
      const signed = admit({ scope, bytes: file.bytes, anchor: pinned.anchor, now, floor, platform });
      await this.#adopt(scope, signed, file.bytes, pinned);
    } catch (error) {
      const refused = asPolicyError(error);
      // A good policy whose time is still to come shows that the source is alive and means the present one until then.
      if (refused.code === 'NOT_YET_VALID' && current !== undefined && trusted) this.#confirm(current);
      this.#report(scope, refused);
    }
  }

  /** The source vouches for it: its lease counts from then. */
  #confirm(current: InForce): void {
    current.verifiedAt = Math.max(current.verifiedAt, this.#confirmedAt);
  }

  /** On disk first, then in force. */
  async #adopt(scope: ScopeKey, signed: SignedPolicy, jws: Buffer, pinned: PinnedAnchor): Promise<void> {
    const { clock, events, recorder } = this.#input;
    const now = clock.now();
    const before = this.inForce.get(scope)?.signed;
    const { version } = signed.policy;
    const next = { signed, jws, anchorDigest: pinned.digest, verifiedAt: now, storedVerifiedAt: now, since: now };
    const stored: StoredPolicy = { scope, version, digest: signed.digest, verifiedAt: now, jws };
    const isNew = before?.digest !== signed.digest;
    const pending = isNew ? toStore(adoptedRecord({ subject: scope, now, before, after: signed })) : undefined;
    await this.#store?.savePolicy(stored, pending);
    this.inForce.set(scope, next);
    this.#floors.set(scope, { version, digest: signed.digest });
    this.#tampered.delete(scope);
    this.#changed = true;
    if (pending === undefined) return;
    recorder.add(pending.record, pending.id);
    const { officers, digest } = signed;
    events.adopted({ tenant: tenantOf(scope), version, digest, officers, previousVersion: before?.policy.version });
  }

  /** After a change of the anchor, what the new officers have not signed is no longer in force. */
  #dropUntrusted(pinned: PinnedAnchor): void {
    for (const [scope, current] of this.inForce) {
      if (current.anchorDigest === pinned.digest) continue;
      try {
        const signed = verifyPolicy(current.jws, pinned.anchor);
        this.inForce.set(scope, { ...current, signed, anchorDigest: pinned.digest });
      } catch (error) {
        this.inForce.delete(scope);
        this.#report(scope, asPolicyError(error));
      }
      this.#changed = true;
    }
  }

  /** So that a lease does not begin anew with each start of the agent. */
  async #storeAges(): Promise<void> {
    const step = Math.max(LEAST_AGE_STEP_MS, ((this.#platform?.lease.maxStalenessSeconds ?? 0) * 1000) / AGE_STEP);
    for (const [scope, current] of this.inForce) {
      const { signed, jws, verifiedAt, storedVerifiedAt } = current;
      if (verifiedAt - storedVerifiedAt < step) continue;
      try {
        const { digest, policy } = signed;
        await this.#store?.savePolicy({ scope, version: policy.version, digest, verifiedAt, jws });
        current.storedVerifiedAt = verifiedAt;
      } catch (cause) {
        this.#input.events.storeFailed({ subject: scope, cause });
        return; // the next round tries again
      }
    }
  }

  #announce(): void {
    for (const subject of this.#announced.keys()) if (!this.#found.has(subject)) this.#announced.delete(subject);
    for (const [subject, error] of this.#found) this.#alarm(subject, error);
  }

  /** Says and records what is wrong, once for as long as it stays the same. */
  #alarm(subject: Subject, error: PolicyError): void {
    const { events, recorder, clock } = this.#input;
    const what = `${error.code} ${error.message}`;
    if (this.#announced.get(subject) === what) return;
    this.#announced.set(subject, what);
    const inForce = this.inForce.get(subject as ScopeKey)?.signed;
    const { code, message: reason } = error;
    events.refused({ subject, code, reason, inForceVersion: inForce?.policy.version });
    if (code === 'NOT_YET_VALID') return;
    const tenants = this.#platform?.tenants ?? [];
    recorder.add(refusedRecord({ subject, now: clock.now(), error, inForce, tenants }));
  }
}
