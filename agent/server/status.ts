// Coded errors → gRPC status, with the google.rpc error model in `grpc-status-details-bin`. Invariants: causes never
// leave; every text is printable ASCII of bounded length, since grpc-message is a header; the whole stays below the
// 8 KiB that clients accept as trailers.
import { Metadata, status } from '@grpc/grpc-js';
import { BadRequest, ErrorInfo, RetryInfo, Status } from '../../proto/gen/google/rpc/status.ts';

const DOMAIN = 'mortise';
const MESSAGE_LIMIT = 512;
const VALUE_LIMIT = 200;
const MAX_FIELDS = 8;
const MAX_METADATA = 8;

/** What an error of ours says to a caller; AgentError and RegistryError are such. */
export interface CodedError {
  readonly code: string;
  readonly grpc: keyof typeof status;
  readonly message: string;
  readonly fields: readonly { readonly field: string; readonly description: string }[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number | undefined;
}

export interface GrpcStatus {
  readonly code: status;
  readonly details: string;
  readonly metadata: Metadata;
}

const plain = (text: string, limit: number): string => {
  const ascii = text.replaceAll(/[^\x20-\x7e]/gu, '?');
  return ascii.length <= limit ? ascii : `${ascii.slice(0, limit - 3)}...`;
};

const any = (name: string, bytes: Uint8Array): { typeUrl: string; value: Buffer } => ({
  typeUrl: `type.googleapis.com/google.rpc.${name}`,
  value: Buffer.from(bytes),
});

const detailsOf = (error: CodedError, correlationId: string) => {
  const told = Object.entries(error.metadata).slice(0, MAX_METADATA);
  const metadata = Object.fromEntries(told.map(([key, value]) => [plain(key, 64), plain(value, VALUE_LIMIT)]));
  const info = { reason: error.code, domain: DOMAIN, metadata: { ...metadata, correlation_id: correlationId } };
  const details = [any('ErrorInfo', ErrorInfo.encode(info).finish())];
  if (error.fields.length > 0) {
    const fieldViolations = error.fields.slice(0, MAX_FIELDS).map((violation) => ({
      field: plain(violation.field, 64),
      description: plain(violation.description, VALUE_LIMIT),
    }));
    details.push(any('BadRequest', BadRequest.encode({ fieldViolations }).finish()));
  }
  if (error.retryAfterMs !== undefined) {
    const ms = Math.max(1, Math.ceil(error.retryAfterMs));
    const retryDelay = { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
    details.push(any('RetryInfo', RetryInfo.encode({ retryDelay }).finish()));
  }
  return details;
};

/** The error as a message, for an answer that is one of several. */
export const rpcStatusOf = (error: CodedError, correlationId: string): Status => ({
  code: status[error.grpc],
  message: plain(error.message, MESSAGE_LIMIT),
  details: detailsOf(error, correlationId),
});

/** Ready for grpc-js, as a status or as an error. */
export const grpcStatusOf = (error: CodedError, correlationId: string): GrpcStatus => {
  const body = rpcStatusOf(error, correlationId);
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from(Status.encode(body).finish()));
  return { code: body.code, details: body.message, metadata };
};
