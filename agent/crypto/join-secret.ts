// Joins what a decipher gives out in two parts, and leaves no copy of it behind.

/** The parts are used up: one of them is the result, or both are wiped. */
export const joinSecret = (first: Buffer, last: Buffer): Buffer => {
  if (last.length === 0) return first;
  const joined = Buffer.concat([first, last]);
  first.fill(0);
  last.fill(0);
  return joined;
};
