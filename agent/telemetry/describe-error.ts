// Errors as plain, bounded data for the log. Invariant: bytes of a request never get in by way of a message: what
// parsers quote of their input is left out.

export interface DescribedError {
  readonly name: string;
  readonly message: string;
  readonly code?: string | number;
  readonly stack?: string;
  readonly cause?: DescribedError;
}

const MAX_DEPTH = 5;
const MAX_MESSAGE = 1024;
const MAX_STACK = 4096;

/** JSON.parse and others quote the text they choked on, which here may be a caller's. */
const safeMessage = (error: Error): string => {
  if (error instanceof SyntaxError) return 'text could not be parsed';
  return error.message.length > MAX_MESSAGE ? `${error.message.slice(0, MAX_MESSAGE)}…` : error.message;
};

/** The stack without its head, which repeats the message. */
const frames = (error: Error): string | undefined => {
  const at = error.stack?.indexOf('\n    at ') ?? -1;
  return at < 0 ? undefined : error.stack?.slice(at + 5, at + 5 + MAX_STACK);
};

const codeOf = (error: Error): string | number | undefined => {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' || typeof code === 'number' ? code : undefined;
};

const CODED = new Set(['AgentError', 'RegistryError']);

/** The stack is kept of errors that are not expected: all but those with a code of ours other than INTERNAL. */
const wantsStack = (error: Error): boolean => !CODED.has(error.name) || codeOf(error) === 'INTERNAL';

export const describeError = (thrown: unknown, depth = 0): DescribedError => {
  if (!(thrown instanceof Error)) return { name: 'NotAnError', message: `a ${typeof thrown} was thrown` };
  const code = codeOf(thrown);
  const stack = wantsStack(thrown) ? frames(thrown) : undefined;
  return {
    name: thrown.name,
    message: safeMessage(thrown),
    ...(code !== undefined && { code }),
    ...(stack !== undefined && { stack }),
    ...(thrown.cause !== undefined && depth < MAX_DEPTH && { cause: describeError(thrown.cause, depth + 1) }),
  };
};
