// Which record comes next, on disk: what the receiver has taken is behind it. Invariant: the file is replaced whole and
// reaches the disk before the next delivery begins, so that a crash repeats records and never leaves one out.
import { open, readFile, rename } from 'node:fs/promises';
import { CliError } from '../exit-codes.ts';

const FORMAT = 'mortise.forward/1';

export interface ForwardState {
  readonly tenant: string;
  readonly destination: string;
  /** Position of the next record. */
  readonly next: number;
  /** Event id of the record before it; tells whether the log is still the one that was read. Empty at the start. */
  readonly lastEventId: string;
}

const isState = (value: unknown): value is ForwardState & { readonly format: string } => {
  const state = value as Partial<Record<keyof ForwardState | 'format', unknown>> | null;
  return (
    typeof state === 'object' &&
    state !== null &&
    state.format === FORMAT &&
    typeof state.tenant === 'string' &&
    typeof state.destination === 'string' &&
    typeof state.lastEventId === 'string' &&
    Number.isSafeInteger(state.next) &&
    (state.next as number) >= 0
  );
};

/** Undefined where there is none yet. */
export const readState = async (path: string): Promise<ForwardState | undefined> => {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CliError('failure', `cannot read the state file ${path}: ${(cause as Error).message}`, cause);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (isState(value)) return value;
  } catch {
    // said below
  }
  throw new CliError('failure', `${path} is not a state file of this command; move it away, or name another`);
};

export const writeState = async (path: string, state: ForwardState): Promise<void> => {
  const beside = `${path}.new`;
  try {
    await using file = await open(beside, 'w', 0o600);
    await file.writeFile(`${JSON.stringify({ format: FORMAT, ...state })}\n`);
    await file.sync();
    await rename(beside, path);
  } catch (cause) {
    throw new CliError('failure', `cannot write the state file ${path}: ${(cause as Error).message}`, cause);
  }
};
