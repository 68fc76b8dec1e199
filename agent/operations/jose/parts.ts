// The two sides of an operation that moves data from one key to another. Whoever can read under the target would gain
// what the source protects, so the caller needs for each key what reading and writing by themselves would need. Moving to
// the newest version of the same key shows nobody anything new: there a grant of the operation itself is enough.
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import type { OperationName } from '../../../proto/documents/operations.ts';
import type { Part, Run } from '../perform.ts';

export interface Sides {
  readonly source: Part;
  readonly target: Part;
}

export const sidesOf = (
  run: Run,
  { read, write, sameKey }: { readonly read: OperationName; readonly write: OperationName; readonly sameKey: boolean },
): Sides => {
  const grants = (name: OperationName): readonly OperationName[] => (sameKey ? [name, run.name] : [name]);
  return { source: { as: read, grants: grants(read), away: true }, target: { as: write, grants: grants(write) } };
};

/** What the answer and the detail of the audit record say about the key that was read with. */
export interface SourceUsed {
  readonly sourceKeyUsed: { readonly keyId: string; readonly version: number };
  readonly sourceAlgorithmUsed: string;
}

export const noteSource = (run: Run, key: KeyRecord, { version, jose }: KeyVersionRecord): SourceUsed => {
  run.note({ source: `${key.keyId}/${version}`, sourceAlgorithm: jose });
  run.processed(key.keyId, version);
  return { sourceKeyUsed: { keyId: key.keyId, version }, sourceAlgorithmUsed: jose };
};
