// What differs between two policies, bounded for the detail of an audit record (at most 4 KiB in all).
import type { Policy } from '../../proto/documents/policy-types.ts';

export interface Change {
  readonly path: string;
  /** Absent where the value is new. */
  readonly from?: string;
  /** Absent where the value is gone. */
  readonly to?: string;
}

const MAX_CHANGES = 16;
const MAX_VALUE_CHARACTERS = 64;
const MAX_PATH_CHARACTERS = 64;
const MAX_BYTES = 3072; // leaves room for what else stands in the detail

const isScalar = (value: unknown): boolean => typeof value !== 'object' || value === null;

/** Leaves by path. A list of scalars is compared by its entries, so that order and position do not matter. */
const leaves = (value: unknown, path: string, into: Map<string, string>): void => {
  if (isScalar(value)) into.set(path, JSON.stringify(value));
  else if (Array.isArray(value) && value.every(isScalar)) {
    for (const entry of value) into.set(`${path}[${entry}]`, JSON.stringify(entry));
  } else {
    for (const [name, entry] of Object.entries(value as object))
      leaves(entry, Array.isArray(value) ? `${path}[${name}]` : path === '' ? name : `${path}.${name}`, into);
  }
};

const leavesOf = (policy: Policy | undefined): Map<string, string> => {
  const into = new Map<string, string>();
  if (policy !== undefined) leaves(policy, '', into);
  return into;
};

const cut = (text: string, length: number): string => (text.length <= length ? text : `${text.slice(0, length - 1)}…`);

/** The first changes in order of path, and how many there are in all. */
export const changesBetween = (
  before: Policy | undefined,
  after: Policy,
): { readonly count: number; readonly changes: readonly Change[] } => {
  const [old, next] = [leavesOf(before), leavesOf(after)];
  const paths = [...new Set([...old.keys(), ...next.keys()])].filter((path) => old.get(path) !== next.get(path)).sort();
  const changes: Change[] = [];
  let room = MAX_BYTES;
  for (const path of paths.slice(0, MAX_CHANGES)) {
    const [from, to] = [old.get(path), next.get(path)];
    const change = {
      path: cut(path, MAX_PATH_CHARACTERS),
      ...(from !== undefined && { from: cut(from, MAX_VALUE_CHARACTERS) }),
      ...(to !== undefined && { to: cut(to, MAX_VALUE_CHARACTERS) }),
    };
    room -= Buffer.byteLength(JSON.stringify(change)) + 1;
    if (room < 0) break;
    changes.push(change);
  }
  return { count: paths.length, changes };
};
