// Answers of the fake registry: errors as google.rpc.Status, unary handlers as promises.
import { Metadata, type ServerUnaryCall, type ServiceError, type sendUnaryData, status } from '@grpc/grpc-js';
import { ErrorInfo, Status } from '../../proto/gen/google/rpc/status.ts';
import type { HeartbeatRequest } from '../../proto/gen/mortise/registry/v1/hosts.ts';

export interface FakeHost {
  tenants: readonly string[];
  token: string;
  revoked: string | undefined;
  readonly told: HeartbeatRequest[];
}

export const refusal = (code: string, message: string, grpc: status = status.FAILED_PRECONDITION): ServiceError => {
  const metadata = new Metadata();
  const info = ErrorInfo.encode({ reason: code, domain: 'mortise', metadata: {} }).finish();
  const details = [{ typeUrl: 'type.googleapis.com/google.rpc.ErrorInfo', value: Buffer.from(info) }];
  metadata.set('grpc-status-details-bin', Buffer.from(Status.encode({ code: grpc, message, details }).finish()));
  return Object.assign(new Error(message), { code: grpc, details: message, metadata });
};

export const unary =
  <Req, Res>(handle: (call: ServerUnaryCall<Req, Res>) => Promise<Res> | Res) =>
  (call: ServerUnaryCall<Req, Res>, answer: sendUnaryData<Res>): void => {
    (async () => handle(call))().then(
      (value: Res) => answer(null, value),
      (error: unknown) =>
        answer('code' in (error as object) ? (error as ServiceError) : refusal('INTERNAL', (error as Error).message)),
    );
  };

export const unimplemented = (
  call: { emit?(event: 'error', error: unknown): boolean },
  answer?: sendUnaryData<never>,
): void => {
  const error = refusal('UNIMPLEMENTED', 'not in the fake', status.UNIMPLEMENTED);
  if (answer !== undefined) answer(error);
  else call.emit?.('error', error);
};
