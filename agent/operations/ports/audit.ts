// What the operations need of the audit log: that it takes a record.

export interface AuditEvent {
  readonly tenant: string;
  readonly principal: string;
  /** "<key id>/<version>", "<key id>", or "-". */
  readonly key: string;
  readonly algorithm: string;
  readonly operation: string;
  /** "ok" or an error code. */
  readonly outcome: string;
  readonly correlationId: string;
  /** More about the event, as JSON of at most 4 KiB. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

export interface AuditPort {
  /** Resolves with the event id when the record is as durable as the tenant's policy asks; or AUDIT_UNAVAILABLE. */
  append(event: AuditEvent): Promise<string>;
}
