// What goes beside every call: the correlation id and the token, checked here because the gRPC library's own errors
// quote the value that they refuse.
import { Metadata } from '@grpc/grpc-js';
import { MortiseError } from './errors.ts';

export const CORRELATION_HEADER = 'x-correlation-id';

const CORRELATION_ID = /^[A-Za-z0-9._-]{1,64}$/;
const TOKEN = /^[\x21-\x7e]+$/;

const refused = (field: string, description: string): MortiseError =>
  new MortiseError('INVALID_REQUEST', { message: `${field}: ${description}`, fields: [{ field, description }] });

/** Throws where the values cannot be sent. */
export const checkCall = (token: string | undefined, correlationId: string): void => {
  if (!CORRELATION_ID.test(correlationId)) throw refused('correlationId', '1 to 64 of A-Z a-z 0-9 . _ -');
  if (token !== undefined && !TOKEN.test(token)) {
    throw new MortiseError('UNAUTHENTICATED', { message: 'the token has characters that a header cannot carry' });
  }
};

/** Of values that `checkCall` has passed. */
export const callMetadata = (token: string | undefined, correlationId: string): Metadata => {
  const metadata = new Metadata();
  metadata.set(CORRELATION_HEADER, correlationId);
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  return metadata;
};
