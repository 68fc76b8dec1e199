// What is wrong with a policy document, a trust anchor, a signature set or a stored policy: a stable code for
// programs, the path of the value for people. Never carries secret bytes.

export const POLICY_ERROR_CODES = [
  'TOO_LARGE',
  'MALFORMED',
  'FIELD_UNKNOWN',
  'FIELD_MISSING',
  'FIELD_DUPLICATE',
  'VALUE_INVALID',
  'ALGORITHM_UNKNOWN',
  'ALGORITHM_FORBIDDEN',
  'KEY_INVALID',
  'SIGNATURE_THRESHOLD',
  'ANCHOR_UNTRUSTED',
  'SCOPE_MISMATCH',
  'TENANT_UNKNOWN',
  'WIDENING',
  'EXPIRED',
  'NOT_YET_VALID',
  'ROLLBACK',
  'VERSION_REUSED',
  'STORE_TAMPERED',
  'STORE_UNAVAILABLE',
  'FILE_UNREADABLE',
  'FILE_MISSING',
  'PASSPHRASE_WRONG',
] as const;
export type PolicyErrorCode = (typeof POLICY_ERROR_CODES)[number];

export class PolicyError extends Error {
  readonly code: PolicyErrorCode;
  /** Path of the value, such as "issuers[0].jwks.keys[1].n"; empty for the document as a whole. */
  readonly path: string;

  constructor(code: PolicyErrorCode, path: string, message: string, cause?: unknown) {
    super(path === '' ? message : `${path}: ${message}`, cause === undefined ? undefined : { cause });
    this.name = 'PolicyError';
    this.code = code;
    this.path = path;
  }
}
