// The exit codes of the CLI and what leads to each. docs/cli.md prints the table; a test compares the two.
import type { MortiseErrorCode } from '../typescript/index.ts';

export const EXIT_CODES = {
  ok: { code: 0, meaning: 'done' },
  failure: { code: 1, meaning: 'failed: a key in the wrong state, a file that cannot be written, anything not below' },
  usage: { code: 2, meaning: 'usage: wrong arguments, refused here or by the agent (INVALID_REQUEST, TOO_LARGE)' },
  refused: { code: 3, meaning: 'refused: no valid credentials, no permission, or policy forbids it' },
  negative: { code: 4, meaning: 'verification negative: invalid signature or MAC, or findings in a log or policy' },
  retryable: { code: 5, meaning: 'unavailable: no agent, busy, or too late; the same command may succeed later' },
} as const;
export type Exit = keyof typeof EXIT_CODES;

/** By the code of a failed call; what is absent is `failure`. */
const EXIT_OF: Readonly<Partial<Record<MortiseErrorCode, Exit>>> = {
  UNAUTHENTICATED: 'refused',
  TOKEN_EXPIRED: 'refused',
  TOKEN_REPLAYED: 'refused',
  PERMISSION_DENIED: 'refused',
  POLICY_DENIED: 'refused',
  ALGORITHM_FORBIDDEN: 'refused',
  FIPS_ONLY: 'refused',
  INVALID_REQUEST: 'usage',
  TOO_LARGE: 'usage',
  AUDIT_CORRUPT: 'negative',
  SIGNATURE_INVALID: 'negative',
};

/** Where a failed call ends the program. */
export const exitOf = (error: { readonly code: MortiseErrorCode; readonly retryable: boolean }): Exit =>
  error.retryable ? 'retryable' : (EXIT_OF[error.code] ?? 'failure');

/** The table as it stands at the end of --help. */
export const exitCodesHelp = (): string =>
  ['Exit codes:', ...Object.values(EXIT_CODES).map(({ code, meaning }) => `  ${code}  ${meaning}`)].join('\n');

/** A failure of the CLI itself, in words that say what to do. */
export class CliError extends Error {
  readonly exit: Exit;

  constructor(exit: Exit, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'CliError';
    this.exit = exit;
  }
}
