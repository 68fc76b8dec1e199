// The one table of the registry's error codes: code → gRPC status, whether a repeat may help, and the public text.
// Detail and cause go to the log, never to the caller.

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
  UNAUTHENTICATED: { grpc: 'UNAUTHENTICATED', retry: false, text: 'no certificate of a known host or administrator' },
  ENROLMENT_REFUSED: { grpc: 'UNAUTHENTICATED', retry: false, text: 'the enrolment token is not, or no longer, good' },
  HOST_REVOKED: { grpc: 'PERMISSION_DENIED', retry: false, text: 'the host or administrator was revoked' },
  PERMISSION_DENIED: { grpc: 'PERMISSION_DENIED', retry: false, text: 'the caller may not do this' },
  INVALID_REQUEST: { grpc: 'INVALID_ARGUMENT', retry: false, text: 'the request is not valid' },
  TOO_LARGE: { grpc: 'INVALID_ARGUMENT', retry: false, text: 'the request is larger than the limit' },
  HEARTBEAT_REPLACED: { grpc: 'ABORTED', retry: false, text: 'the host opened another heartbeat' },
  TENANT_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'no such tenant' },
  HOST_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'no such host' },
  ADMIN_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'no such administrator' },
  LAST_ADMIN: { grpc: 'FAILED_PRECONDITION', retry: false, text: 'nobody would be left to manage administrators' },
  POLICY_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'no such policy' },
  POLICY_INVALID: {
    grpc: 'INVALID_ARGUMENT',
    retry: false,
    text: 'the policy is not valid, or not signed as it must be',
  },
  POLICY_VERSION: { grpc: 'FAILED_PRECONDITION', retry: false, text: 'the version is not above the newest one' },
  POLICY_WIDENS: { grpc: 'FAILED_PRECONDITION', retry: false, text: 'a tenant policy may only narrow' },
  KEY_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'no such entry' },
  KEY_EXISTS: { grpc: 'ALREADY_EXISTS', retry: false, text: 'an entry has this name' },
  KEY_CONFLICT: { grpc: 'ABORTED', retry: false, text: 'the entry was changed meanwhile; read it again' },
  KEY_STATE: { grpc: 'FAILED_PRECONDITION', retry: false, text: 'the state of the key does not allow this' },
  KEY_LIMIT: { grpc: 'FAILED_PRECONDITION', retry: false, text: 'the key has reached its hard limit; rotate it' },
  RECORD_INVALID: { grpc: 'INVALID_ARGUMENT', retry: false, text: 'not a record that may be stored' },
  KEK_NOT_LIVE: {
    grpc: 'FAILED_PRECONDITION',
    retry: false,
    text: 'the wrapped key is under a key encryption key that is not live',
  },
  LEASE_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'no such lease of this host' },
  REBUILDING: {
    grpc: 'UNAVAILABLE',
    retry: true,
    text: 'the catalogue of the tenant is being rebuilt; an administrator has to end that',
  },
  REBUILD_CLOSED: { grpc: 'FAILED_PRECONDITION', retry: false, text: 'no such rebuild is open' },
  REBUILD_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'the catalogue of the tenant was never rebuilt' },
  HOSTS_MISSING: {
    grpc: 'FAILED_PRECONDITION',
    retry: false,
    text: 'not all hosts of the tenant have told everything',
  },
  LEDGER_CORRUPT: { grpc: 'DATA_LOSS', retry: false, text: 'a record of the ledger does not verify' },
  RECORD_UNKNOWN: { grpc: 'NOT_FOUND', retry: false, text: 'no such record' },
  RECEIPT_PENDING: { grpc: 'UNAVAILABLE', retry: true, text: 'no checkpoint covers the record yet' },
  OVERLOADED: { grpc: 'RESOURCE_EXHAUSTED', retry: true, text: 'too much is under way' },
  STORE_UNAVAILABLE: { grpc: 'UNAVAILABLE', retry: true, text: 'the store cannot be reached or written' },
  DEADLINE_EXCEEDED: { grpc: 'DEADLINE_EXCEEDED', retry: true, text: 'the deadline of the call passed' },
  CANCELLED: { grpc: 'CANCELLED', retry: false, text: 'the caller cancelled the call' },
  UNIMPLEMENTED: { grpc: 'UNIMPLEMENTED', retry: false, text: 'this registry does not offer this call' },
  SHUTTING_DOWN: { grpc: 'UNAVAILABLE', retry: true, text: 'this replica is stopping; ask another one' },
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
}

export class RegistryError extends Error {
  readonly code: Code;
  readonly fields: readonly FieldViolation[];
  readonly metadata: Readonly<Record<string, string>>;

  constructor(code: Code, detail: ErrorDetail = {}) {
    super(detail.message ?? CODES[code].text, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = 'RegistryError';
    this.code = code;
    this.fields = detail.fields ?? [];
    this.metadata = detail.metadata ?? {};
  }

  get grpc(): CodeRow['grpc'] {
    return CODES[this.code].grpc;
  }
}

/** INVALID_REQUEST for one field. */
export const invalid = (field: string, description: string): RegistryError =>
  new RegistryError('INVALID_REQUEST', { message: `${field}: ${description}`, fields: [{ field, description }] });

/** Any thrown value as a RegistryError; what is not one becomes INTERNAL with the value as cause. */
export const asRegistryError = (thrown: unknown): RegistryError =>
  thrown instanceof RegistryError ? thrown : new RegistryError('INTERNAL', { cause: thrown });
