// Reads what policy commands work on: bounded files, and whether one is a draft (the payload) or signed (General JWS).
import { parsePolicy } from '../../../proto/documents/policy.ts';
import { PolicyError } from '../../../proto/documents/policy-error.ts';
import { judgeSignatures, verifyPolicy } from '../../../proto/documents/policy-sign.ts';
import type { PlatformPolicy, Policy } from '../../../proto/documents/policy-types.ts';
import { parseTrustAnchor, type TrustAnchor } from '../../../proto/documents/trust-anchor.ts';
import { CliError } from '../exit-codes.ts';
import { MAX_DOCUMENT_BYTES, readInput } from '../files.ts';
import type { Io } from '../io.ts';

const LIMIT = { bytes: MAX_DOCUMENT_BYTES, advice: 'no policy or trust anchor is so large' };

export const readDocument = (io: Io, path: string): Promise<Buffer> => readInput(io, path, LIMIT);

/** A General JWS has signatures; a draft is the payload itself. Both are parsed strictly later. */
export const isSigned = (bytes: Buffer): boolean => {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null && 'signatures' in value;
  } catch {
    return false; // the strict parser will say what is wrong with it
  }
};

export const readAnchor = async (io: Io, path: string): Promise<TrustAnchor> =>
  parseTrustAnchor(await readDocument(io, path));

/** The platform policy that tenants' policies are held against: signed, verified, and of the right scope. */
export const readPlatform = async (io: Io, path: string, anchor: TrustAnchor): Promise<PlatformPolicy> => {
  const bytes = await readDocument(io, path);
  if (!isSigned(bytes)) throw new CliError('usage', `${path} is not signed; sign the platform policy first`);
  const { policy } = verifyPolicy(bytes, anchor);
  if (policy.scope !== 'platform') {
    throw new PolicyError('SCOPE_MISMATCH', 'scope', `${path} is the policy of a tenant, not of the platform`);
  }
  return policy;
};

/** The policy in a draft or a signed file, whoever signed it: for reading, not for trusting. */
export const readAnyPolicy = async (io: Io, path: string): Promise<Policy> => {
  const bytes = await readDocument(io, path);
  return parsePolicy(isSigned(bytes) ? payloadOf(bytes) : bytes);
};

/** The payload of a signed policy, its signatures not judged. */
export const payloadOf = (bytes: Buffer): Buffer =>
  judgeSignatures(bytes, { schema: 'mortise.trust-anchor/v1', threshold: 1, officers: [] }).payload;
