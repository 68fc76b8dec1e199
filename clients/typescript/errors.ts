// The client's one error class, and how a failed call becomes one. Every rejection of the client is a MortiseError
// whose `code` is stable, so that `switch (error.code)` narrows.
import { type Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo, Status } from '../../proto/gen/google/rpc/status.ts';

/** Codes that mean: the same call may succeed later without anybody changing anything. */
const RETRYABLE = [
  'POLICY_STALE',
  'POLICY_INVALID',
  'RATE_LIMITED',
  'HSM_BUSY',
  'HSM_UNAVAILABLE',
  'OVERLOADED',
  'AUDIT_UNAVAILABLE',
  'RECEIPT_PENDING',
  'STORE_UNAVAILABLE',
  'REGISTRY_UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'SHUTTING_DOWN',
  'AGENT_UNREACHABLE',
] as const;

/** Codes that mean: repeating the same call gives the same answer. */
const FINAL = [
  'UNAUTHENTICATED',
  'TOKEN_EXPIRED',
  'TOKEN_REPLAYED',
  'PERMISSION_DENIED',
  'POLICY_DENIED',
  'ALGORITHM_FORBIDDEN',
  'FIPS_ONLY',
  'KEY_UNKNOWN',
  'KEY_EXISTS',
  'KEY_CONFLICT',
  'KEY_STATE',
  'KEY_LIMIT',
  'INVALID_CIPHERTEXT',
  'SIGNATURE_INVALID',
  'INVALID_REQUEST',
  'TOO_LARGE',
  'OPENING_REFUSED',
  'HSM_UNSUPPORTED',
  'AUDIT_CORRUPT',
  'RECORD_UNKNOWN',
  'CANCELLED',
  'UNIMPLEMENTED',
  'INTERNAL',
] as const;

/**
 * Why a call failed. The list is the agent's (docs/errors.md) and one of the client's own: `AGENT_UNREACHABLE`, no
 * agent answers on the socket or the connection broke. A code that this version of the client does not know arrives
 * as `INTERNAL`, with the agent's word in `reason`.
 */
export type MortiseErrorCode = (typeof RETRYABLE)[number] | (typeof FINAL)[number];

/** All codes, for tables and exhaustive tests. */
export const MORTISE_ERROR_CODES: readonly MortiseErrorCode[] = Object.freeze([...RETRYABLE, ...FINAL]);

const RETRYABLE_CODES: ReadonlySet<string> = new Set(RETRYABLE);
const KNOWN_CODES: ReadonlySet<string> = new Set(MORTISE_ERROR_CODES);

/** One request field that the agent refused; `field` is its name in the .proto file. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** What a MortiseError is made of. */
export interface MortiseErrorDetail {
  readonly message: string;
  readonly reason?: string;
  readonly fields?: readonly FieldViolation[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number;
  readonly correlationId?: string;
  readonly cause?: unknown;
}

/** A failed call. */
export class MortiseError extends Error {
  /** Stable, for programs. */
  readonly code: MortiseErrorCode;
  /** The agent's own word for it: equal to `code` unless the agent is newer than this client. */
  readonly reason: string;
  /** Whether the same call may succeed later. Says nothing about whether it is safe to repeat. */
  readonly retryable: boolean;
  /** Wrong request fields; empty unless `code` is `INVALID_REQUEST`. */
  readonly fields: readonly FieldViolation[];
  /** More about this occurrence, for example `rule`: the policy rule that denied it. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Wait at least so many milliseconds before trying again. */
  readonly retryAfterMs: number | undefined;
  /** Finds the call in the agent's log and audit trail. */
  readonly correlationId: string | undefined;

  constructor(code: MortiseErrorCode, detail: MortiseErrorDetail) {
    super(detail.message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = 'MortiseError';
    this.code = code;
    this.reason = detail.reason ?? code;
    this.retryable = RETRYABLE_CODES.has(code);
    this.fields = detail.fields ?? [];
    this.metadata = detail.metadata ?? {};
    this.retryAfterMs = detail.retryAfterMs;
    this.correlationId = detail.correlationId;
  }
}

const DETAILS_TRAILER = 'grpc-status-details-bin';
const DOMAIN = 'mortise';

interface Details {
  readonly reason?: string;
  readonly fields: readonly FieldViolation[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number;
}

const readDetails = (all: Status['details']): Details => {
  let reason: string | undefined;
  let fields: readonly FieldViolation[] = [];
  let metadata: Readonly<Record<string, string>> = {};
  let retryAfterMs: number | undefined;
  for (const { typeUrl, value } of all) {
    const type = typeUrl.slice(typeUrl.lastIndexOf('/') + 1);
    if (type === 'google.rpc.ErrorInfo') {
      const info = ErrorInfo.decode(value);
      if (info.domain === DOMAIN) ({ reason, metadata } = info);
    } else if (type === 'google.rpc.BadRequest') {
      fields = BadRequest.decode(value).fieldViolations;
    } else if (type === 'google.rpc.RetryInfo') {
      const delay = RetryInfo.decode(value).retryDelay;
      if (delay !== undefined) retryAfterMs = Number(delay.seconds) * 1000 + Math.ceil(delay.nanos / 1e6);
    }
  }
  return {
    fields,
    metadata,
    ...(reason !== undefined && { reason }),
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  };
};

/** For statuses without our details: made by the gRPC library here or there, not by the agent's operations. */
const BY_STATUS: Readonly<Partial<Record<status, MortiseErrorCode>>> = {
  [status.CANCELLED]: 'AGENT_UNREACHABLE', // not by us: transport.ts knows its own cancels
  [status.INVALID_ARGUMENT]: 'INVALID_REQUEST',
  [status.DEADLINE_EXCEEDED]: 'DEADLINE_EXCEEDED',
  [status.PERMISSION_DENIED]: 'PERMISSION_DENIED',
  [status.UNAUTHENTICATED]: 'UNAUTHENTICATED',
  [status.UNIMPLEMENTED]: 'UNIMPLEMENTED',
  [status.UNAVAILABLE]: 'AGENT_UNREACHABLE',
  [status.RESOURCE_EXHAUSTED]: 'TOO_LARGE', // grpc-js: "message larger than max"
};

const codeOf = (error: { code: status; details: string }, reason: string | undefined): MortiseErrorCode => {
  if (reason !== undefined) return KNOWN_CODES.has(reason) ? (reason as MortiseErrorCode) : 'INTERNAL';
  // A peer that dies in the middle of an answer shows as INTERNAL in grpc-js, not as UNAVAILABLE.
  if (error.code === status.INTERNAL && /RST_STREAM|ECONNRESET|EPIPE/.test(error.details)) return 'AGENT_UNREACHABLE';
  return BY_STATUS[error.code] ?? 'INTERNAL';
};

const detailsOf = (trailer: Metadata | undefined): Details => {
  const bytes = trailer?.get(DETAILS_TRAILER)[0];
  if (!Buffer.isBuffer(bytes)) return { fields: [], metadata: {} };
  try {
    return readDetails(Status.decode(bytes).details);
  } catch {
    // Not the agent's bytes: the status alone has to do.
    return { fields: [], metadata: {} };
  }
};

const isServiceError = (thrown: unknown): thrown is ServiceError =>
  thrown instanceof Error && typeof (thrown as Partial<ServiceError>).code === 'number' && 'details' in thrown;

/** Anything thrown by a call as a MortiseError. */
export const asMortiseError = (thrown: unknown, correlationId?: string): MortiseError => {
  if (thrown instanceof MortiseError) return thrown;
  if (!isServiceError(thrown)) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new MortiseError('INTERNAL', { message, cause: thrown, ...(correlationId && { correlationId }) });
  }
  const details = detailsOf(thrown.metadata);
  return new MortiseError(codeOf(thrown, details.reason), {
    message: thrown.details,
    cause: thrown,
    ...details,
    ...(correlationId && { correlationId }),
  });
};

/** The error of one operation in a pipeline or a batch: a google.rpc.Status in place of trailers. */
export const operationError = ({ code, message, details: all }: Status, correlationId: string): MortiseError => {
  const details = readDetails(all);
  return new MortiseError(codeOf({ code, details: message }, details.reason), { message, ...details, correlationId });
};
