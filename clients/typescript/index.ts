// The public API of the client package; everything else is internal.
export type { AuditOperations, TailOptions } from './audit.ts';
export type { BatchOperations, BatchResults } from './batch.ts';
export { type ConnectOptions, connect, type MortiseClient } from './client.ts';
export type { ByteRange, ReadAt } from './container-range.ts';
export type { TokenSource } from './credentials.ts';
export type {
  AssociatedDataOptions,
  DecryptOptions,
  SignatureForm,
  SignatureInput,
  SignatureToVerify,
  SignOptions,
  Verification,
  VerifyMacOptions,
  VerifyOptions,
} from './crypto.ts';
export type { DataStream } from './data-stream.ts';
export { type FieldViolation, MORTISE_ERROR_CODES, MortiseError, type MortiseErrorCode } from './errors.ts';
export type {
  KeyChanges,
  KeyOperations,
  KeyQuery,
  KeyToImport,
  NewKey,
  PublicKeyFormat,
  ReasonOptions,
  RotateOptions,
  VersionToImport,
} from './keys.ts';
export type {
  DataKeyOptions,
  KeyUsed,
  Recipient,
  ReEncryptOptions,
  ReSignOptions,
  RewrapOptions,
  Source,
} from './moves.ts';
export {
  type Pinned,
  type ProvenRecord,
  type Receipt,
  type ReceiptOptions,
  receiptText,
  verifyReceipt,
} from './receipts.ts';
export type { RetryOptions } from './retry.ts';
export type { ByteSource } from './source-reader.ts';
export type {
  DecryptStreamOptions,
  EncryptStreamOptions,
  LocalChunks,
  ReEncryptStreamOptions,
  ReSignStreamOptions,
  SignStreamOptions,
  StreamSignature,
} from './stream-options.ts';
export type { StreamOperations } from './streams.ts';
export { TokenFile } from './token-file.ts';
export type { CallOptions, TransportKind } from './transport.ts';
export type {
  AgentStatus,
  AuditRecord,
  Custody,
  Envelope,
  Explanation,
  Finding,
  Grant,
  HealthStatus,
  Identity,
  Key,
  KeyLimits,
  KeyState,
  KeyVersion,
  LogVerification,
  Origin,
  Purpose,
  VersionState,
  Warning,
} from './types.ts';
