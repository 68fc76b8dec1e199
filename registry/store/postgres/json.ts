// Rows as jsonb takes them. Invariant: no text that a host says of itself makes a statement fail, in which there may be rows
// of other hosts: jsonb takes neither NUL nor half of a surrogate pair.

/** What JSON writes for both, and for a backslash before such letters. */
const MAY_NOT_BE = /\\u(?:0000|d[89a-f])/;

const taken = (_: string, value: unknown): unknown =>
  typeof value === 'string' ? value.replaceAll('\0', '\ufffd').toWellFormed() : value;

export const jsonOf = (row: object): string => {
  const text = JSON.stringify(row);
  return MAY_NOT_BE.test(text) ? JSON.stringify(row, taken) : text;
};
