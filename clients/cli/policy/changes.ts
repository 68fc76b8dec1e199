// What differs between two policies, leaf by leaf.
import { tableText } from '../output.ts';

export interface Change {
  readonly path: string;
  readonly before: unknown;
  readonly after: unknown;
}

const isBranch = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Leaves that differ; lists count as leaves, since their order has no meaning that a path could show. */
export const changesOf = (before: unknown, after: unknown, path = ''): readonly Change[] => {
  if (isBranch(before) && isBranch(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
    return names.flatMap((name) => changesOf(before[name], after[name], path === '' ? name : `${path}.${name}`));
  }
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [{ path, before, after }];
};

const SHOWN = 60;
const shown = (value: unknown): string => {
  const text = value === undefined ? '-' : JSON.stringify(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
};

export const changesText = (changes: readonly Change[]): string => {
  const rows = changes.map(({ path, before, after }) => [path, shown(before), shown(after)]);
  return tableText(['WHERE', 'BEFORE', 'AFTER'], rows);
};
