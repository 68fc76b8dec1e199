// What a receiver of audit records is to the forwarder, and the two ways in which a delivery fails. Invariant: deliver
// resolves only once the receiver has said that it took every record.
import type { AuditRecord } from '../../typescript/index.ts';

export interface Destination {
  /** For people and for the state file: kind and address, no credentials. */
  readonly name: string;
  /** Most records that go into one delivery. */
  readonly batch: number;
  /** Rejects with DeliveryError; everything else is a fault of ours. Repeating it is safe: records have event ids. */
  deliver(records: readonly AuditRecord[], signal: AbortSignal): Promise<void>;
  close(): void;
}

export class DeliveryError extends Error {
  /** The same records may be taken later; otherwise somebody has to change something first. */
  readonly retryable: boolean;
  /** What the receiver asked for. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    options: { readonly retryable: boolean; readonly retryAfterMs?: number; readonly cause?: unknown },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'DeliveryError';
    this.retryable = options.retryable;
    this.retryAfterMs = options.retryAfterMs;
  }
}
