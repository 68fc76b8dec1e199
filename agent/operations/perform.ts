// The one chain that every operation runs through: deadline → rate → scope → [key → state → policy → limits → act] →
// audit → answer. Handlers never repeat a step of it. Invariant: no answer, good or bad, leaves before its audit
// record is as durable as the tenant's policy asks.
import { forbiddenAlgorithm } from '../../proto/documents/algorithms.ts';
import {
  grantsAllow,
  KEY_ID_PATTERN,
  type KeyRecord,
  type KeyVersionRecord,
} from '../../proto/documents/key-record.ts';
import { primaryVersion, stateAllows, stateAt, versionAllows } from '../../proto/documents/key-states.ts';
import { type OperationName, type OperationRow, operation } from '../../proto/documents/operations.ts';
import type { Clock } from '../clock.ts';
import { AgentError, asAgentError, invalid } from '../errors.ts';
import type { Envelope, Warning } from './ports/answer.ts';
import type { AuditEvent, AuditPort } from './ports/audit.ts';
import type { Call } from './ports/call.ts';
import type { DataKeysPort } from './ports/data-keys.ts';
import type { ImportKeysPort } from './ports/import-keys.ts';
import type { KeysPort, ObjectsPort } from './ports/keys.ts';
import type { PolicyPort, PolicyQuestion } from './ports/policy.ts';
import type { PostQuantumPort } from './ports/post-quantum.ts';
import type { PublicKeysPort } from './ports/public-keys.ts';
import type { RandomPort } from './ports/random.ts';
import type { RateLimitPort } from './ports/rate-limit.ts';
import type { TokenCall, TokenPort } from './ports/token.ts';
import type { VaultPort } from './ports/vault.ts';

/** What happened, for metrics and the log; called once per operation, never throws. */
export interface OperationEvents {
  finished(event: {
    tenant: string;
    operation: OperationName;
    outcome: string;
    startedAt: number;
    error?: AgentError;
  }): void;
  /** The token made something that is not right; it was kept back. */
  wrongResult(event: { tenant: string; key: string; algorithm: string }): void;
  auditSuspended(event: { tenant: string; operation: OperationName; cause: unknown }): void;
}

export interface Ports {
  readonly policy: PolicyPort;
  readonly keys: KeysPort;
  readonly token: TokenPort;
  readonly audit: AuditPort;
  readonly rateLimit: RateLimitPort;
  readonly vault: VaultPort;
  readonly objects: ObjectsPort;
  readonly random: RandomPort;
  readonly publicKeys: PublicKeysPort;
  readonly postQuantum: PostQuantumPort;
  readonly dataKeys: DataKeysPort;
  readonly importKeys: ImportKeysPort;
  readonly clock: Clock;
  readonly events: OperationEvents;
}

/** An answer with the envelope that goes with it. */
export interface Performed<T> {
  readonly value: T;
  readonly envelope: Envelope;
}

/** What one key does in an operation that reads with one key and writes with another. */
export interface Part {
  /** The operation whose purpose, states and policy hold for this key. */
  readonly as: OperationName;
  /** Operations of which a grant of the key must name one; `as` where absent. */
  readonly grants?: readonly OperationName[];
  /** The data leaves this key: who may revoke keys may take it out of a revoked one. */
  readonly away?: true;
}

const NEAR_EXPIRY_MS = 7 * 24 * 3600 * 1000; // warn a week ahead, the usual length of a change window

/** One operation under way: collects what the audit record and the envelope will say. */
export class Run {
  readonly call: Call;
  readonly name: OperationName;
  readonly token: TokenCall;
  readonly #ports: Ports;
  readonly #row: OperationRow;
  readonly #warnings: Warning[] = [];
  #keyRequested = '';
  #key = '-';
  #used: { keyId: string; version: number } | undefined;
  #algorithm = '-';
  #outcome = 'ok';
  #eventId = '';
  #detail: Record<string, unknown> = {};

  constructor(ports: Ports, call: Call, name: OperationName) {
    this.#ports = ports;
    this.#row = operation(name);
    this.call = call;
    this.name = name;
    this.token = { tenant: call.caller.tenant, deadline: call.deadline, signal: call.signal };
  }

  get tenant(): string {
    return this.call.caller.tenant;
  }

  /** Adds to the detail of the audit record. Never put data, key bytes or tokens here. */
  note(detail: Readonly<Record<string, unknown>>): void {
    Object.assign(this.#detail, detail);
  }

  /** Warns in the envelope of something that policy lets pass. */
  warn(warning: Warning): void {
    this.#warnings.push(warning);
  }

  /** The audited outcome of an answer that is not an error, such as a wrong signature. */
  outcome(outcome: 'ok' | 'SIGNATURE_INVALID'): void {
    this.#outcome = outcome;
  }

  /** Names what stands in the record where no key of the catalogue is used (a caller's JWK, a key to be made). */
  about(what: { requested: string; key?: string; algorithm?: string }): void {
    this.#keyRequested = what.requested;
    this.#key = what.key ?? '-';
    this.#algorithm = what.algorithm ?? '-';
  }

  /** The id in a key name ("<key id>" or "<tenant>/<key id>"); another tenant's name is refused unseen. */
  keyId(name: string, field = 'key'): string {
    const slash = name.indexOf('/');
    const keyId = slash < 0 ? name : name.slice(slash + 1);
    if (slash >= 0 && name.slice(0, slash) !== this.tenant) {
      this.#key = '-';
      throw new AgentError('PERMISSION_DENIED', { message: 'the key belongs to another tenant' });
    }
    if (!KEY_ID_PATTERN.test(keyId)) throw invalid(field, 'a key id is [a-z0-9] and then up to 63 of [a-z0-9._-]');
    this.#keyRequested = name;
    this.#key = keyId;
    return keyId;
  }

  /** The record behind a key name, if the caller may do this operation with it at all. */
  key(name: string, field = 'key', part: Part = { as: this.name }): KeyRecord {
    const keyId = this.keyId(name, field);
    const key = this.#ports.keys.get(this.tenant, keyId);
    if (key === undefined) throw new AgentError('KEY_UNKNOWN', { metadata: { key: keyId } });
    const { grants = [part.as] } = part;
    if (!grants.some((row) => grantsAllow(key.grants, this.call.caller.principal, row))) {
      throw new AgentError('PERMISSION_DENIED', {
        message: 'no grant of the key allows this to the caller',
        metadata: { key: keyId },
      });
    }
    const { purpose } = operation(part.as);
    if (purpose !== undefined && key.purpose !== purpose) {
      throw invalid(field, `the key is for "${key.purpose}", ${this.name} needs a key for "${purpose}"`);
    }
    const state = stateAt(key, this.#ports.clock.now(), this.#ports.keys.uses(this.tenant, keyId));
    if (!stateAllows(state, part.as) && !(state === 'REVOKED' && this.#mayTakeAway(part))) {
      throw new AgentError('KEY_STATE', {
        message: `the key is ${state}, which does not allow ${this.name}`,
        metadata: { key: keyId, state },
      });
    }
    return key;
  }

  /** The primary version, allowed by policy, one use taken from the limits. For encrypt, sign and mac. */
  async apply(key: KeyRecord, part: Part = { as: this.name }): Promise<KeyVersionRecord> {
    const version = primaryVersion(key);
    if (version === undefined) throw new AgentError('KEY_STATE', { message: 'the key has no primary version' });
    this.#use(key, version);
    const question = { algorithm: version.algorithm, jose: version.jose, custody: version.custody };
    this.decide(question, part.as);
    if (part.as !== this.name) this.decide(question);
    const uses = await this.#ports.keys.use(key);
    this.#warnSoftLimits(key, uses);
    return version;
  }

  /** A version by number (undefined: the primary), allowed by policy. For decrypt and verify. */
  process(key: KeyRecord, number?: number, part: Part = { as: this.name }): KeyVersionRecord {
    const version = number === undefined ? primaryVersion(key) : key.versions.find((row) => row.version === number);
    if (version === undefined) throw new AgentError('KEY_UNKNOWN', { message: 'no such version of the key' });
    this.#use(key, version);
    if (!versionAllows(version.state, 'process') && !(version.state === 'REVOKED' && this.#mayTakeAway(part))) {
      throw new AgentError('KEY_STATE', {
        message: `version ${version.version} of the key is ${version.state}`,
        metadata: { key: key.keyId, version: String(version.version), state: version.state },
      });
    }
    this.decide({ algorithm: version.algorithm, jose: version.jose, custody: version.custody }, part.as);
    return version;
  }

  /** Notes that a version has read something with success. */
  processed(keyId: string, version: number): void {
    this.#ports.keys.processed(this.tenant, keyId, version);
  }

  /** Asks policy; throws what it refuses, keeps what it warns of. */
  decide(question: Omit<PolicyQuestion, 'tenant' | 'operation'>, as: OperationName = this.name): void {
    for (const name of [question.algorithm, question.jose]) {
      const row = name === undefined ? undefined : forbiddenAlgorithm(name);
      if (row !== undefined)
        throw new AgentError('ALGORITHM_FORBIDDEN', { message: `${row.id} is forbidden: ${row.reason}` });
    }
    const decision = this.#ports.policy.decide({ tenant: this.tenant, operation: as, ...question });
    if (!decision.allowed) {
      this.note({ rule: decision.rule });
      throw new AgentError(decision.code, { message: decision.explanation, metadata: { rule: decision.rule } });
    }
    // Decrypt and Verify may ask for several versions in turn; what is said of all of them is said once.
    const isNew = ({ message }: Warning): boolean => this.#warnings.every((row) => row.message !== message);
    this.#warnings.push(...decision.warnings.filter(isNew));
  }

  /** Writes the intent of an operation that cannot be undone; it must be durable before the act. */
  async intend(): Promise<void> {
    await this.#ports.audit.append(this.#event('intent'));
  }

  /** Says which version an operation on the record made or changed. */
  used(key: KeyRecord, version: KeyVersionRecord): void {
    this.#use(key, version);
  }

  /** Records that a stream has begun. What it sends may leave once this is durable. */
  async begin(): Promise<Envelope> {
    await this.#record('intent');
    return this.#envelope();
  }

  /** The end of the chain: record, then answer. */
  async finish<T>(result: { value: T } | { error: AgentError }): Promise<Performed<T>> {
    const error = 'error' in result ? result.error : undefined;
    const isRead = this.#row.kind === 'process' && error === undefined && this.#outcome === 'ok';
    if (isRead && this.#used !== undefined) this.processed(this.#used.keyId, this.#used.version);
    await this.#record(error?.code ?? this.#outcome);
    if ('error' in result) throw result.error;
    return { value: result.value, envelope: this.#envelope() };
  }

  async #record(outcome: string): Promise<void> {
    try {
      this.#eventId = await this.#ports.audit.append(this.#event(outcome));
    } catch (cause) {
      const goesOn =
        this.#row.kind === 'process' && this.#ports.policy.whenAuditUnavailable(this.tenant) === 'process-only';
      if (!goesOn) throw new AgentError('AUDIT_UNAVAILABLE', { cause });
      this.#ports.events.auditSuspended({ tenant: this.tenant, operation: this.name, cause });
      if (this.#warnings.some(({ code }) => code === 'AUDIT_SUSPENDED')) return;
      this.#warnings.push({
        code: 'AUDIT_SUSPENDED',
        message: 'the audit log cannot be written; policy lets this operation go on unrecorded',
      });
    }
  }

  #mayTakeAway({ away }: Part): boolean {
    return away === true && this.call.caller.scopes.has('keys.revoke');
  }

  #use(key: KeyRecord, version: KeyVersionRecord): void {
    this.#used = { keyId: key.keyId, version: version.version };
    this.#key = `${key.keyId}/${version.version}`;
    this.#algorithm = version.jose;
  }

  #warnSoftLimits(key: KeyRecord, uses: number): void {
    const { softUses, softExpiry, hardExpiry } = key.limits;
    const now = this.#ports.clock.now();
    if (softUses !== undefined && uses > softUses) {
      this.#warnings.push({
        code: 'SOFT_LIMIT',
        message: `the key is past its soft limit of ${softUses} uses; rotate it`,
      });
    }
    if (softExpiry !== undefined && now >= softExpiry) {
      this.#warnings.push({ code: 'SOFT_LIMIT', message: 'the key is past its soft expiry; rotate it' });
    }
    if (hardExpiry !== undefined && hardExpiry - now < NEAR_EXPIRY_MS) {
      this.#warnings.push({ code: 'NEAR_EXPIRY', message: `the key expires at ${new Date(hardExpiry).toISOString()}` });
    }
  }

  #event(outcome: string): AuditEvent {
    const { caller, peer, correlationId } = this.call;
    return {
      tenant: caller.tenant,
      principal: caller.principal,
      key: this.#key,
      algorithm: this.#algorithm,
      operation: this.name,
      outcome,
      correlationId,
      detail: { uid: peer.uid, pid: peer.pid, ...this.#detail },
    };
  }

  #envelope(): Envelope {
    return {
      keyRequested: this.#keyRequested,
      keyUsed: this.#used,
      algorithmUsed: this.#algorithm,
      warnings: this.#warnings,
      correlationId: this.call.correlationId,
      eventId: this.#eventId,
    };
  }
}

/** The first links of the chain: deadline, rate, scope, and policy where it needs no algorithm to judge. */
export const admit = (ports: Ports, run: Run): void => {
  const { call, name } = run;
  if (call.signal.aborted) throw new AgentError('CANCELLED');
  if (ports.clock.now() >= call.deadline) throw new AgentError('DEADLINE_EXCEEDED');
  ports.rateLimit.take(call.caller.tenant);
  const { kind, scope, alsoScope, algorithm } = operation(name);
  for (const needed of [scope, alsoScope]) {
    if (needed == null || call.caller.scopes.has(needed)) continue;
    throw new AgentError('PERMISSION_DENIED', { message: `needs the scope ${needed}`, metadata: { scope: needed } });
  }
  if (algorithm !== true) run.decide({});
  if (kind === 'manage') ports.keys.requireChangeable(call.caller.tenant);
};

/** Runs one operation through the chain. `act` does the work with `run`; its result may be dropped if it cannot be recorded. */
export const perform = async <T>(
  ports: Ports,
  call: Call,
  name: OperationName,
  act: (run: Run) => Promise<T> | T,
): Promise<Performed<T>> => {
  const startedAt = performance.now();
  const run = new Run(ports, call, name);
  let result: { value: T } | { error: AgentError };
  try {
    admit(ports, run);
    result = { value: await act(run) };
  } catch (thrown) {
    result = { error: asAgentError(thrown) };
  }
  const finished = (outcome: string, error?: AgentError): void =>
    ports.events.finished({ tenant: call.caller.tenant, operation: name, outcome, startedAt, ...(error && { error }) });
  try {
    const performed = await run.finish(result);
    finished('ok');
    return performed;
  } catch (thrown) {
    const error = asAgentError(thrown);
    finished(error.code, error);
    throw error;
  }
};
