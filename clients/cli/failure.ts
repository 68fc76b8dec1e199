// A failure in words: what happened, by which rule, and what to do. JSON output has the same as an object.
import type { MortiseError, MortiseErrorCode } from '../typescript/index.ts';
import { CliError, EXIT_CODES, type Exit, exitOf } from './exit-codes.ts';
import { cellText } from './output.ts';

export interface Failure {
  readonly exit: Exit;
  readonly code: string;
  readonly message: string;
  readonly hints: readonly string[];
  readonly correlationId?: string;
  readonly fields?: readonly { readonly field: string; readonly description: string }[];
  readonly metadata?: Readonly<Record<string, string>>;
}

const HINTS: Readonly<Partial<Record<MortiseErrorCode, string>>> = {
  UNAUTHENTICATED:
    'give a token with --token-file or $MORTISE_TOKEN_FILE, or have policy name your uid as a workload; with both, they must agree',
  TOKEN_EXPIRED: 'get a new token from the issuer and write it to the token file',
  TOKEN_REPLAYED: 'this issuer gives tokens for single use: get a new one for each command',
  POLICY_DENIED: '"mortise explain" says what the policy allows',
  FIPS_ONLY: '"mortise status" says which FIPS boundary is in force',
  KEY_UNKNOWN: '"mortise key list" shows the keys of your tenant',
  KEY_EXISTS: '"mortise key get" shows the key that has this id',
  KEY_CONFLICT: 'read the key again and repeat with its present revision or version',
  KEY_STATE: '"mortise key get" shows the state of the key and of its versions',
  KEY_LIMIT: 'rotate the key, or raise its limits with "mortise key update"',
  INVALID_CIPHERTEXT: 'wrong key, wrong associated data, or changed bytes; the agent does not say which',
  OPENING_REFUSED: 'the clocks of this program and of the agent differ, or somebody repeated the stream',
  SIGNATURE_INVALID: 'wrong key, or changed bytes; nothing was signed',
  HSM_UNAVAILABLE: '"mortise doctor" examines the token',
  HSM_UNSUPPORTED: '"mortise doctor" says what this token can do',
  AUDIT_CORRUPT: '"mortise audit verify" names every finding',
  RECORD_UNKNOWN: 'without the scope audit.read only your own records are found',
  RECEIPT_PENDING: 'a checkpoint is being signed; --wait gives it more time',
  AUDIT_UNAVAILABLE: 'is the disk of the audit store full? "mortise status" says',
  POLICY_STALE: 'the signed policy was not refreshed within its lease; "mortise status" says since when',
  POLICY_INVALID: '"mortise policy verify" examines the policy files',
};

/** MortiseError by its shape: the class itself lives in a library that is loaded only when an agent is called. */
const isMortiseError = (thrown: unknown): thrown is MortiseError =>
  thrown instanceof Error && thrown.name === 'MortiseError';

interface CommanderError extends Error {
  readonly code: string;
  readonly exitCode: number;
}
export const isCommanderError = (thrown: unknown): thrown is CommanderError =>
  thrown instanceof Error && typeof (thrown as Partial<CommanderError>).exitCode === 'number';

const ofCall = (error: MortiseError): Failure => {
  const rule = error.metadata['rule'];
  const hint = HINTS[error.code];
  return {
    exit: exitOf(error),
    code: error.reason,
    message: error.message,
    hints: [
      ...(rule === undefined ? [] : [`rule: ${rule}`]),
      ...error.fields
        .map(({ field, description }) => `${field}: ${description}`)
        .filter((text) => text !== error.message),
      ...(error.retryAfterMs === undefined ? [] : [`try again in ${Math.ceil(error.retryAfterMs / 1000)} s`]),
      ...(hint === undefined ? [] : [hint]),
    ],
    ...(error.correlationId && { correlationId: error.correlationId }),
    ...(error.fields.length > 0 && { fields: error.fields }),
    ...(Object.keys(error.metadata).length > 0 && { metadata: error.metadata }),
  };
};

const causeOf = (error: MortiseError): CliError | undefined =>
  error.cause instanceof CliError ? error.cause : undefined;

/** PolicyError and DocumentError of the documents: refused input, with a code of their own. */
const ofDocument = (error: Error & { readonly code?: unknown }): Failure | undefined => {
  if (error.name !== 'PolicyError' && error.name !== 'DocumentError') return undefined;
  return {
    exit: 'negative',
    code: typeof error.code === 'string' ? error.code : 'DOCUMENT_INVALID',
    message: error.message,
    hints: [],
  };
};

/** Anything thrown by a command. */
export const failureOf = (thrown: unknown): Failure => {
  if (isMortiseError(thrown)) {
    const own = causeOf(thrown); // the token file could not be read
    return own === undefined ? ofCall(thrown) : failureOf(own);
  }
  if (thrown instanceof CliError) {
    return { exit: thrown.exit, code: thrown.exit.toUpperCase(), message: thrown.message, hints: [] };
  }
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  return ofDocument(error) ?? { exit: 'failure', code: 'FAILURE', message: error.message, hints: [] };
};

export const failureText = (failure: Failure): string => {
  const code = /^[A-Z_]+$/.test(failure.code) && !(failure.code.toLowerCase() in EXIT_CODES) ? ` ${failure.code}` : '';
  const id = failure.correlationId === undefined ? [] : [`correlation id: ${failure.correlationId}`];
  return [
    `mortise:${code}${code && ':'} ${cellText(failure.message)}`,
    ...[...failure.hints, ...id].map((hint) => `  ${cellText(hint)}`),
    '',
  ].join('\n');
};

export const failureJson = ({ exit, hints, ...rest }: Failure): unknown => ({
  error: { ...rest, exitCode: EXIT_CODES[exit].code, hints },
});
