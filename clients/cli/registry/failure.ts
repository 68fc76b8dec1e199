// Refusals of the registry in words and exit codes.
import { type ServiceError, status } from '@grpc/grpc-js';
import { ErrorInfo, Status } from '../../../proto/gen/google/rpc/status.ts';
import { CliError, type Exit } from '../exit-codes.ts';

const EXIT_OF: Readonly<Record<string, Exit>> = {
  UNAUTHENTICATED: 'refused',
  ENROLMENT_REFUSED: 'refused',
  HOST_REVOKED: 'refused',
  PERMISSION_DENIED: 'refused',
  INVALID_REQUEST: 'usage',
  TOO_LARGE: 'usage',
  POLICY_INVALID: 'negative',
  POLICY_VERSION: 'negative',
  POLICY_WIDENS: 'negative',
  OVERLOADED: 'retryable',
  STORE_UNAVAILABLE: 'retryable',
  SHUTTING_DOWN: 'retryable',
  DEADLINE_EXCEEDED: 'retryable',
};

const HINTS: Readonly<Record<string, string>> = {
  UNAUTHENTICATED: 'the certificate is not, or no longer, known; enrol again with a new token',
  ENROLMENT_REFUSED: 'it was used, has expired, or another one was made since; ask for a new one',
  POLICY_WIDENS: 'see "mortise policy verify --platform"; --accept-conflicts publishes a platform policy all the same',
};

const reasonOf = ({ metadata }: ServiceError): string | undefined => {
  const bytes = metadata?.get('grpc-status-details-bin')[0];
  if (!Buffer.isBuffer(bytes)) return undefined;
  const info = Status.decode(bytes).details.find(({ typeUrl }) => typeUrl.endsWith('/google.rpc.ErrorInfo'));
  return info && ErrorInfo.decode(info.value).reason;
};

/** A failed call as a failure of the command. */
export const registryFailure = (error: ServiceError, address: string): CliError => {
  const reason = reasonOf(error);
  if (reason === undefined) {
    const gone = error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED;
    return new CliError(
      gone ? 'retryable' : 'failure',
      `registry ${address}: ${error.details || error.message}`,
      error,
    );
  }
  const hint = HINTS[reason];
  const text = hint === undefined ? `${reason}: ${error.details}` : `${reason}: ${error.details} (${hint})`;
  return new CliError(EXIT_OF[reason] ?? 'failure', text, error);
};
