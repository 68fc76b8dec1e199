// Bounds of the data that cryptographic operations take, as the comments of crypto.proto state them, and the refusal of
// forbidden algorithm names wherever a caller's header or JWK brings one.
import { forbiddenAlgorithm } from '../../../proto/documents/algorithms.ts';
import { AgentError } from '../../errors.ts';

const MIB = 1024 * 1024;
export const MAX_DATA_BYTES = 2 * MIB;
export const MAX_JOSE_BYTES = 3 * MIB; // 2 MiB in base64url, and the header
export const MAX_ASSOCIATED_DATA_BYTES = 16 * 1024;
export const MAX_RAW_SIGNATURE_BYTES = 64 * 1024;
/** What goes to the token whole (HMAC and Ed25519 are not computed from a digest): the bound of one token request. */
export const MAX_TOKEN_DATA_BYTES = MIB;
/** The same for a message that goes there in a JWS signing input, beside a header of at most 1 KiB. */
export const MAX_TOKEN_UNENCODED_BYTES = 1023 * 1024;
export const MAX_TOKEN_ENCODED_BYTES = 767 * 1024; // three quarters of it: base64url

/** `field` is its name in the .proto file. */
export const requireSize = (field: string, bytes: number, limit: number): void => {
  if (bytes <= limit) return;
  const description = `${bytes} bytes, the limit is ${limit}`;
  throw new AgentError('TOO_LARGE', {
    message: `${field}: ${description}`,
    fields: [{ field, description }],
    metadata: { field, limit: String(limit) },
  });
};

export const refuseForbidden = (name: string | undefined): void => {
  const row = name === undefined ? undefined : forbiddenAlgorithm(name);
  if (row === undefined) return;
  throw new AgentError('ALGORITHM_FORBIDDEN', { message: `${row.id} is forbidden: ${row.reason}` });
};
