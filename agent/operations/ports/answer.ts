// What goes with an answer.

export interface Warning {
  readonly code:
    | 'SOFT_LIMIT'
    | 'NEAR_EXPIRY'
    | 'ALGORITHM_SUNSET'
    | 'POLICY_STALE'
    | 'AUDIT_SUSPENDED'
    | 'COMPOSITE_PARTIAL';
  readonly message: string;
}

export interface Envelope {
  readonly keyRequested: string;
  readonly keyUsed: { readonly keyId: string; readonly version: number } | undefined;
  readonly algorithmUsed: string;
  readonly warnings: readonly Warning[];
  readonly correlationId: string;
  /** The record of the operation in the audit log; empty where it went on unrecorded. */
  readonly eventId: string;
}
