// Reading the audit log.

/** One record of a log, as in AuditRecord of audit.proto. */
export interface AuditRecordView {
  readonly index: number;
  readonly tenant: string;
  readonly principal: string;
  readonly key: string;
  readonly algorithm: string;
  readonly operation: string;
  readonly outcome: string;
  /** RFC 3339 UTC with microseconds. */
  readonly time: string;
  readonly correlationId: string;
  readonly eventId: string;
  /** JSON, or empty. */
  readonly detail: string;
  readonly canonical: Uint8Array;
  readonly mac: Uint8Array;
}

export interface AuditFinding {
  readonly code: string;
  readonly index: number;
  readonly message: string;
}

/** Each method reads the log of one tenant. Records are verified as they are read: AUDIT_CORRUPT names the position. */
/** Proof that a record is in a log. */
export interface AuditReceiptView {
  /** C2SP tlog-proof. */
  readonly proof: string;
  /** Canonical form with detail. */
  readonly record: Uint8Array;
  readonly mac: Uint8Array;
  /** JSON. */
  readonly publicJwk: string;
  readonly countersigned: boolean;
}

export interface ReceiptQuestion {
  readonly eventId: string;
  /** Only a checkpoint that the registry has countersigned will do. */
  readonly countersigned: boolean;
  /** How long to wait for a checkpoint. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  /** Whether the caller may know of a record of this principal. */
  mayRead(principal: string): boolean;
}

export interface AuditReadPort {
  size(tenant: string): number;
  /** Up to `limit` records from position `from`, oldest first. */
  list(tenant: string, from: number, limit: number): Promise<readonly AuditRecordView[]>;
  /** Records from `from` on as they are committed, in order; ends when the signal is aborted. */
  tail(tenant: string, from: number, signal: AbortSignal): AsyncIterable<readonly AuditRecordView[]>;
  /** The newest checkpoint; signs a new one where records were added since. `publicJwk` is JSON. */
  checkpoint(tenant: string): Promise<{ readonly checkpoint: string; readonly publicJwk: string }>;
  /** RECORD_UNKNOWN, or RECEIPT_PENDING where no checkpoint covers the record in time. */
  receipt(tenant: string, question: ReceiptQuestion): Promise<AuditReceiptView>;
  verify(
    tenant: string,
    trustedCheckpoint: string | undefined,
  ): Promise<{
    readonly intact: boolean;
    readonly size: number;
    /** Lower-case hex. */
    readonly root: string;
    readonly findings: readonly AuditFinding[];
    /** Milliseconds since 1970. */
    readonly checkpointTime: number | undefined;
  }>;
}
