// Why a file or a line stays as it is, and which failures end a run instead: those that every other one would meet too.
import type { MortiseError } from '../../typescript/index.ts';
import { CliError } from '../exit-codes.ts';
import { Unverified } from './move.ts';
import { Changed, NotReplaceable } from './replace.ts';
import type { Reason } from './targets.ts';

const FATAL: ReadonlySet<string> = new Set(['UNAUTHENTICATED', 'TOKEN_EXPIRED', 'TOKEN_REPLAYED', 'UNIMPLEMENTED']);
const FATAL_ERRNO: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EMFILE', 'ABORT_ERR']);
const REFUSED: ReadonlySet<string> = new Set([
  'POLICY_DENIED',
  'FIPS_ONLY',
  'PERMISSION_DENIED',
  'ALGORITHM_FORBIDDEN',
]);

export class Stays extends Error {
  readonly reason: Reason;
  readonly code: string | undefined;

  constructor(reason: Reason, message: string, code?: string) {
    super(message);
    this.reason = reason;
    this.code = code;
  }
}

export const isMortiseError = (error: unknown): error is MortiseError =>
  (error as Error | null)?.name === 'MortiseError';

/** Why it stays; throws again what ends the run. */
export const reasonOf = (error: unknown): Stays => {
  if (error instanceof Stays) return error;
  if (error instanceof NotReplaceable) return new Stays('not-replaceable', error.message);
  if (error instanceof Changed) return new Stays('changed', error.message);
  if (error instanceof Unverified) return new Stays('failed', error.message);
  if (isMortiseError(error)) {
    if (error.retryable || FATAL.has(error.code) || error.code === 'CANCELLED') throw error;
    return new Stays(REFUSED.has(error.code) ? 'refused' : 'failed', error.message, error.code);
  }
  const { code, message } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string' || FATAL_ERRNO.has(code) || error instanceof CliError) throw error;
  return new Stays('failed', message, code);
};
