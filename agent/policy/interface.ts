// What the policy room needs of the rest of the agent, and what it answers with. Times are milliseconds since 1970.
import type { PolicyErrorCode } from '../../proto/documents/policy-error.ts';
import type { FipsBoundary } from '../../proto/documents/policy-types.ts';
import type { Clock } from '../clock.ts';
import type { Mac } from './envelope.ts';
import type { Subject } from './recorder.ts';
import type { PolicySource } from './source.ts';
import type { PolicyRecord } from './store.ts';

export interface PolicyEvents {
  /** A policy came into force. */
  adopted(event: {
    tenant: string;
    version: number;
    digest: string;
    officers: readonly string[];
    previousVersion: number | undefined;
  }): void;
  /** Something was refused or is missing; once for as long as it stays the same. */
  refused(event: { subject: Subject; code: string; reason: string; inForceVersion: number | undefined }): void;
  /** The trust anchor was pinned or replaced. */
  anchorPinned(event: { digest: string; previous: string | undefined }): void;
  /** What is in force could not be written again; it stays in force. */
  storeFailed(event: { subject: Subject; cause: unknown }): void;
  /** A round is over; for the log when something is wrong, and for the metric of policy age. */
  reloaded(event: { inForce: number; problems: number; changed: boolean; oldestVerifiedAt: number | undefined }): void;
  /** An audit event could not be recorded yet; it waits. */
  recordFailed(event: { cause: unknown; queued: number }): void;
}

export interface PolicyProblem {
  readonly subject: Subject;
  readonly code: PolicyErrorCode;
  readonly message: string;
}

export interface PolicyReport {
  /** What came into force, or went out of it, in this round. */
  readonly changed: boolean;
  readonly platform: { readonly version: number; readonly digest: string } | undefined;
  /** Tenants with a policy of their own. */
  readonly tenantPolicies: number;
  readonly problems: readonly PolicyProblem[];
}

export interface PolicyState {
  /** The platform policy, then the tenant's own where there is one. Times are milliseconds since 1970. */
  readonly policies: readonly {
    readonly scope: 'platform' | 'tenant';
    readonly version: number;
    readonly digest: string;
    readonly expiresAt: number;
    readonly verifiedAt: number;
    readonly stale: boolean;
  }[];
  readonly healthy: boolean;
  readonly detail: string;
  readonly fipsBoundary: '' | FipsBoundary;
}

export interface PolicyInput {
  /** Absent: the folder `dir`. */
  readonly source?: PolicySource;
  /** The folder with platform.json and tenants/. */
  readonly dir: string;
  /** By default trust-anchor.json in `dir`. */
  readonly trustAnchor?: string;
  /** The agent's data folder; the store is its `policy` folder. */
  readonly dataDir: string;
  readonly mac: Mac;
  /** Appends to the audit log of the record's tenant. May reject for as long as the log is not open. */
  readonly record: (record: PolicyRecord) => Promise<void>;
  readonly clock: Clock;
  readonly events: PolicyEvents;
  /** 0 never polls. */
  readonly reloadIntervalMs: number;
}
