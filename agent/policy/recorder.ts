// Audit events of policy changes and refusals, and their way into the audit log. Invariant: an event of a policy that
// came into force is in the policy store until the audit log has taken it, so a crash between the two loses none.
import { randomUUID } from 'node:crypto';
import type { PolicyError } from '../../proto/documents/policy-error.ts';
import type { SignedPolicy } from '../../proto/documents/policy-sign.ts';
import { PLATFORM_TENANT } from '../../proto/documents/policy-types.ts';
import { changesBetween } from './changes.ts';
import { type PolicyRecord, pendingId, type ScopeKey } from './store.ts';

const OPERATION = 'load-policy';
const AGENT = 'agent'; // the actor of what no officer signed
const MAX_QUEUED = 256;
const MAX_REASON_CHARACTERS = 512;
const MAX_PRINCIPAL_CHARACTERS = 256;

/** What a problem is about: a scope, or a part of the room. */
export type Subject = ScopeKey | 'trust-anchor' | 'store' | 'folder';

export const tenantOf = (subject: Subject): string =>
  subject.startsWith('tenant/') ? subject.slice('tenant/'.length) : PLATFORM_TENANT;

/** What a key of the store is about. */
export const subjectOf = (key: string): Subject => {
  if (key === 'anchor') return 'trust-anchor';
  return key.startsWith('policy/') ? (key.slice('policy/'.length) as ScopeKey) : 'store';
};

const describe = (signed: SignedPolicy | undefined): { version: number; digest: string } | null =>
  signed === undefined ? null : { version: signed.policy.version, digest: signed.digest };

const event = (
  subject: Subject,
  principal: string,
  outcome: string,
  detail: Record<string, unknown>,
): PolicyRecord => ({
  tenant: tenantOf(subject),
  principal: principal.slice(0, MAX_PRINCIPAL_CHARACTERS),
  key: '-',
  algorithm: '-',
  operation: OPERATION,
  outcome,
  correlationId: randomUUID(),
  detail: { subject, ...detail },
});

/** A policy came into force: by whom, what was before, what changed. */
export const adoptedRecord = (input: {
  subject: ScopeKey;
  now: number;
  before: SignedPolicy | undefined;
  after: SignedPolicy;
}): PolicyRecord => {
  const { subject, now, before, after } = input;
  const { count, changes } = changesBetween(before?.policy, after.policy);
  return event(subject, after.officers.join(','), 'ok', {
    at: new Date(now).toISOString(),
    previous: describe(before),
    next: describe(after),
    // Of a first policy everything is new; its digest says what it was.
    ...(before !== undefined && { changed: count, changes }),
  });
};

/** A policy, anchor or stored record was refused, and what goes on in its place. */
export const refusedRecord = (input: {
  subject: Subject;
  now: number;
  error: PolicyError;
  inForce: SignedPolicy | undefined;
  /** The tenants of the platform; a file of any other name must not begin an audit log. */
  tenants: readonly string[];
}): PolicyRecord => {
  const record = event(input.subject, AGENT, 'POLICY_INVALID', {
    at: new Date(input.now).toISOString(),
    code: input.error.code,
    reason: input.error.message.slice(0, MAX_REASON_CHARACTERS),
    inForce: describe(input.inForce),
  });
  return input.tenants.includes(record.tenant) ? record : { ...record, tenant: PLATFORM_TENANT };
};

/** The trust anchor was pinned for the first time or replaced. */
export const anchorRecord = (input: { now: number; previous: string | null; next: string }): PolicyRecord =>
  event('trust-anchor', AGENT, 'ok', {
    at: new Date(input.now).toISOString(),
    previous: input.previous,
    next: input.next,
  });

interface Queued {
  readonly record: PolicyRecord;
  /** Where it lies in the store; absent for refusals, which change nothing. */
  readonly stored?: string;
}

export class Recorder {
  readonly #append: (record: PolicyRecord) => Promise<void>;
  readonly #failed: (event: { cause: unknown; queued: number }) => void;
  readonly #queue: Queued[] = [];
  #draining: Promise<void> | undefined;

  constructor(input: {
    append: (record: PolicyRecord) => Promise<void>;
    failed: (event: { cause: unknown; queued: number }) => void;
  }) {
    this.#append = input.append;
    this.#failed = input.failed;
  }

  /** Refusals beyond the bound are reported as failed: whoever rewrites files in a loop cannot fill the memory. */
  add(record: PolicyRecord, stored?: string): void {
    if (stored === undefined && this.#queue.length >= MAX_QUEUED)
      this.#failed({ cause: new Error('too many events wait for the audit log'), queued: this.#queue.length });
    else this.#queue.push({ record, ...(stored !== undefined && { stored }) });
  }

  /** Hands over what waits, in order; stops at the first failure, to be called again later. */
  drain(forget: (stored: string) => void): Promise<void> {
    this.#draining ??= this.#handOver(forget).finally(() => {
      this.#draining = undefined;
    });
    return this.#draining;
  }

  async #handOver(forget: (stored: string) => void): Promise<void> {
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      try {
        await this.#append(next.record);
        this.#queue.shift();
        if (next.stored !== undefined) forget(next.stored);
      } catch (cause) {
        this.#failed({ cause, queued: this.#queue.length });
        return;
      }
    }
  }
}

/** The record with its place in the store. */
export const toStore = (record: PolicyRecord): { id: string; record: PolicyRecord } => ({
  id: pendingId(record.correlationId),
  record,
});
