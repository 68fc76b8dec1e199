// What was seen of one module: for each algorithm and purpose where the private key lived while it did its work, or why
// there was none. Written by the conformance suite, read by the matrix.
import assert from 'node:assert/strict';
import { ALGORITHMS, type Custody, type Purpose } from '../../proto/documents/algorithms.ts';
import { WRAP_SCHEMES } from '../../proto/documents/wrap-schemes.ts';

export interface Outcome {
  readonly algorithm: string;
  readonly purpose: Purpose;
  /** `refused`: CreateKey said HSM_UNSUPPORTED, and why. */
  readonly seen: Custody | 'refused';
  readonly why?: string;
}

export interface ModuleOutcome {
  readonly module: string;
  /** False where no agent starts on it: then `hsm` is what the token process proved by itself. */
  readonly starts: boolean;
  /** The scheme by which keys are wrapped. */
  readonly wraps: string;
  readonly outcomes: readonly Outcome[];
}

export interface Use {
  readonly algorithm: string;
  readonly purpose: Purpose;
}

/** The scheme in what the agent says of its token; throws where it names none. */
export const wrappingOf = (text: string): string => {
  const { title } = WRAP_SCHEMES.find((row) => text.includes(`wraps keys by ${row.title}`)) ?? {};
  assert.ok(title !== undefined, `no scheme is named: ${text}`);
  return title;
};

/** Every use that the table of algorithms has. */
export const USES: readonly Use[] = ALGORITHMS.filter((row) => row.status !== 'forbidden').flatMap((row) =>
  (Object.keys(row.jose) as Purpose[]).map((purpose) => ({ algorithm: row.id, purpose })),
);
