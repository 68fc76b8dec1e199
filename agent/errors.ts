// The one table of error codes: code → gRPC status, whether a repeat may help, and the public text. Detail and cause
// go to the log, never to the caller.

export interface CodeRow {
  readonly grpc:
    | 'INVALID_ARGUMENT'
    | 'NOT_FOUND'
    | 'ALREADY_EXISTS'
    | 'PERMISSION_DENIED'
    | 'UNAUTHENTICATED'
    | 'RESOURCE_EXHAUSTED'
    | 'FAILED_PRECONDITION'
    | 'ABORTED'
    | 'UNIMPLEMENTED'
    | 'DEADLINE_EXCEEDED'
    | 'CANCELLED'
    | 'DATA_LOSS'
    | 'INTERNAL'
    | 'UNAVAILABLE';
  /** Whether the same call may succeed later without anybody changing anything. */
  readonly retry: boolean;
  readonly text: string;
}

export const CODES = {
  UNAUTHENTICATED: { grpc: 'UNAUTHENTICATED', retry: false, text: 'no valid credentials' },
  TOKEN_EXPIRED: { grpc: 'UNAUTHENTICATED', retry: false, text: 'the bearer token has expired; get a new one' },
  TOKEN_REPLAYED: { grpc: 'UNAUTHENTICATED', retry: false, text: 'the bearer token was already used' },
  PERMISSION_DENIED: { grpc: 'PERMISSION_DENIED', retry: false, text: 'the caller may not do this' },
  POLICY_DENIED: { grpc: 'PERMISSION_DENIED', retry: false, text: 'not allowed by policy' },
  ALGORITHM_FORBIDDEN: {
    grpc: 'PERMISSION_DENIED',
    retry: false,
    text: 'this algorithm is forbidden; no policy can allow it',
  },
  FIPS_ONLY: { grpc: 'PERMISSION_DENIED', retry: false, text: 'policy allows only FIPS-approved algorithms' },
  POLICY_STALE: { grpc: 'FAILED_PRECONDITION', retry: true, text: 'the policy could not be refreshed in time' },
  POLICY_INVALID: { grpc: 'FAILED_PRECONDITION', retry: true, text: 'no valid policy is in force' },
  KEY_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'no such key' },
  KEY_EXISTS: { grpc: 'ALREADY_EXISTS', retry: false, text: 'a different key has this id' },
  KEY_CONFLICT: { grpc: 'ABORTED', retry: false, text: 'the key was changed meanwhile; read it again' },
  KEY_STATE: { grpc: 'FAILED_PRECONDITION', retry: false, text: 'the state of the key does not allow this' },
  KEY_LIMIT: { grpc: 'FAILED_PRECONDITION', retry: false, text: 'the key has reached its hard limit; rotate it' },
  RATE_LIMITED: { grpc: 'RESOURCE_EXHAUSTED', retry: true, text: 'too many operations of this tenant' },
  INVALID_CIPHERTEXT: { grpc: 'INVALID_ARGUMENT', retry: false, text: 'the ciphertext could not be decrypted' },
  SIGNATURE_INVALID: { grpc: 'INVALID_ARGUMENT', retry: false, text: 'the signature does not verify' },
  INVALID_REQUEST: { grpc: 'INVALID_ARGUMENT', retry: false, text: 'the request is not valid' },
  TOO_LARGE: { grpc: 'INVALID_ARGUMENT', retry: false, text: 'the request is larger than the limit' },
  OPENING_REFUSED: {
    grpc: 'FAILED_PRECONDITION',
    retry: false,
    text: 'the opening of the stream was used before, or its time is not now',
  },
  OVERLOADED: { grpc: 'RESOURCE_EXHAUSTED', retry: true, text: 'too much is under way on this connection' },
  HSM_BUSY: { grpc: 'RESOURCE_EXHAUSTED', retry: true, text: 'no session of the token was free in time' },
  HSM_UNAVAILABLE: { grpc: 'UNAVAILABLE', retry: true, text: 'the token cannot be reached' },
  HSM_UNSUPPORTED: { grpc: 'UNIMPLEMENTED', retry: false, text: 'the token cannot do this' },
  AUDIT_UNAVAILABLE: { grpc: 'UNAVAILABLE', retry: true, text: 'the operation cannot be recorded, so it was not done' },
  AUDIT_CORRUPT: { grpc: 'DATA_LOSS', retry: false, text: 'the audit log does not verify' },
  RECORD_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'no such record' },
  RECEIPT_PENDING: { grpc: 'UNAVAILABLE', retry: true, text: 'no checkpoint covers the record yet' },
  STORE_UNAVAILABLE: { grpc: 'UNAVAILABLE', retry: true, text: 'the local store cannot be written' },
  REGISTRY_UNAVAILABLE: {
    grpc: 'UNAVAILABLE',
    retry: true,
    text: 'the registry cannot be reached; keys can be used, not changed',
  },
  DEADLINE_EXCEEDED: { grpc: 'DEADLINE_EXCEEDED', retry: true, text: 'the deadline of the call passed' },
  CANCELLED: { grpc: 'CANCELLED', retry: false, text: 'the caller cancelled the call' },
  UNIMPLEMENTED: { grpc: 'UNIMPLEMENTED', retry: false, text: 'this agent does not offer this call' },
  SHUTTING_DOWN: { grpc: 'UNAVAILABLE', retry: true, text: 'the agent is stopping' },
  INTERNAL: { grpc: 'INTERNAL', retry: false, text: 'internal error; the correlation id finds it in the log' },
} as const satisfies Record<string, CodeRow>;

export type Code = keyof typeof CODES;

/** One wrong request field; `field` is its name in the .proto file. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

export interface ErrorDetail {
  /** Public words in place of the table's text. Must not tell what the caller may not know. */
  readonly message?: string;
  readonly cause?: unknown;
  readonly fields?: readonly FieldViolation[];
  /** Goes out as ErrorInfo.metadata. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Goes out as RetryInfo; dropped with codes whose row does not say retry. */
  readonly retryAfterMs?: number;
}

export class AgentError extends Error {
  readonly code: Code;
  readonly fields: readonly FieldViolation[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;

  constructor(code: Code, detail: ErrorDetail = {}) {
    super(detail.message ?? CODES[code].text, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = 'AgentError';
    this.code = code;
    this.fields = detail.fields ?? [];
    this.metadata = detail.metadata ?? {};
    this.retryAfterMs = CODES[code].retry ? detail.retryAfterMs : undefined;
  }

  get grpc(): CodeRow['grpc'] {
    return CODES[this.code].grpc;
  }
}

/** INVALID_REQUEST for one field. */
export const invalid = (field: string, description: string): AgentError =>
  new AgentError('INVALID_REQUEST', { message: `${field}: ${description}`, fields: [{ field, description }] });

/** Any thrown value as an AgentError; what is not one becomes INTERNAL with the value as cause. */
export const asAgentError = (thrown: unknown): AgentError =>
  thrown instanceof AgentError ? thrown : new AgentError('INTERNAL', { cause: thrown });
