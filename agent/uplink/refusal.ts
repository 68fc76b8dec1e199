// What a call to the registry failed with, read once from the gRPC status. Invariant: nothing of gRPC goes further than
// this; `code` is the registry's own where it answered, and REGISTRY_UNAVAILABLE where nobody knows whether it did.
import { type ServiceError, status } from '@grpc/grpc-js';
import { ErrorInfo, Status } from '../../proto/gen/google/rpc/status.ts';

const DETAILS_TRAILER = 'grpc-status-details-bin';
const DOMAIN = 'mortise';
const MAX_MESSAGE = 300; // of a peer's words in our log

export class Refusal extends Error {
  readonly code: string;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(code: string, message: string, options: { cause?: unknown; metadata?: Record<string, string> } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'Refusal';
    this.code = code;
    this.metadata = options.metadata ?? {};
  }

  /** The registry did not answer, or cannot just now: what was asked may or may not have been done. */
  get isUnknown(): boolean {
    return UNKNOWN.has(this.code);
  }
}

/** Not among these: NOT_CONNECTED, where nothing was asked. */
const UNKNOWN: ReadonlySet<string> = new Set([
  'REGISTRY_UNAVAILABLE',
  'STORE_UNAVAILABLE',
  'SHUTTING_DOWN',
  'DEADLINE_EXCEEDED',
  'CANCELLED',
  'INTERNAL',
  'OVERLOADED',
]);

const infoOf = (error: ServiceError): ErrorInfo | undefined => {
  const bytes = error.metadata?.get(DETAILS_TRAILER)[0];
  if (!Buffer.isBuffer(bytes)) return undefined;
  try {
    const detail = Status.decode(bytes).details.find(({ typeUrl }) => typeUrl.endsWith('/google.rpc.ErrorInfo'));
    const info = detail && ErrorInfo.decode(detail.value);
    return info?.domain === DOMAIN ? info : undefined;
  } catch {
    return undefined; // not a registry's bytes: the status alone has to do
  }
};

/** Statuses without our details come from the gRPC library at either end. */
const BY_STATUS: Readonly<Partial<Record<status, string>>> = {
  [status.UNAUTHENTICATED]: 'UNAUTHENTICATED',
  [status.PERMISSION_DENIED]: 'PERMISSION_DENIED',
  [status.UNIMPLEMENTED]: 'UNIMPLEMENTED',
  [status.DEADLINE_EXCEEDED]: 'DEADLINE_EXCEEDED',
  [status.RESOURCE_EXHAUSTED]: 'TOO_LARGE',
};

const isServiceError = (thrown: unknown): thrown is ServiceError =>
  thrown instanceof Error && typeof (thrown as Partial<ServiceError>).code === 'number' && 'details' in thrown;

export const asRefusal = (thrown: unknown): Refusal => {
  if (thrown instanceof Refusal) return thrown;
  if (!isServiceError(thrown)) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new Refusal('REGISTRY_UNAVAILABLE', message.slice(0, MAX_MESSAGE), { cause: thrown });
  }
  const info = infoOf(thrown);
  const code = info?.reason ?? BY_STATUS[thrown.code] ?? 'REGISTRY_UNAVAILABLE';
  const { metadata = {} } = info ?? {};
  return new Refusal(code, thrown.details.slice(0, MAX_MESSAGE), { cause: thrown, metadata });
};
