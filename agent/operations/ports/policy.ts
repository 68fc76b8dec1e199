// What the operations ask of the policy.
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import type { CompositeVerification } from '../../../proto/documents/composite-verification.ts';
import type { OperationName } from '../../../proto/documents/operations.ts';
import type { Warning } from './answer.ts';

export interface PolicyQuestion {
  readonly tenant: string;
  readonly operation: OperationName;
  /** Algorithm id and JOSE name; absent for operations that use no algorithm. */
  readonly algorithm?: string;
  readonly jose?: string;
  /** Custody of the version, for the FIPS boundary. */
  readonly custody?: 'hsm' | 'wrapped' | 'split';
}

export type Decision =
  | { readonly allowed: true; readonly rule: string; readonly warnings: readonly Warning[] }
  | {
      readonly allowed: false;
      readonly rule: string;
      readonly code: 'POLICY_DENIED' | 'ALGORITHM_FORBIDDEN' | 'FIPS_ONLY' | 'POLICY_STALE' | 'POLICY_INVALID';
      readonly explanation: string;
    };

export interface PolicyPort {
  /** Pure in the policy in force and the clock; never throws. */
  decide(question: PolicyQuestion): Decision;
  /** The default algorithm id of a purpose, or undefined where policy names none. */
  defaultAlgorithm(tenant: string, purpose: Purpose): string | undefined;
  /** Limits that a new key gets, and that it may not exceed. Ages are in milliseconds from creation. */
  keyLimits(tenant: string): {
    readonly softUses?: number;
    readonly hardUses?: number;
    readonly softAge?: number;
    readonly hardAge?: number;
  };
  /** From when policy warns of an algorithm, and from when it makes nothing new with it; undefined: never. */
  sunset(
    tenant: string,
    use: { readonly algorithm: string; readonly jose: string },
  ): { readonly warnAfter: number; readonly refuseAfter: number } | undefined;
  /** The undo window of DestroyKey in milliseconds. */
  destroyWait(tenant: string): number;
  /** What happens when the audit log cannot be written. */
  whenAuditUnavailable(tenant: string): 'refuse' | 'process-only';
  /** Which halves of a composite signature have to be right. */
  compositeVerification(tenant: string): CompositeVerification;
  /** Whether a signature is verified before it leaves. */
  checkSignatures(tenant: string): boolean;
  /** Whether a client may be given the content key of a stream. */
  localStreamKeys(tenant: string): boolean;
}
