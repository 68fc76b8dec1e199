// Medians, quantiles and spreads of what was measured.

/** From the smallest to the largest. */
export type Spread = readonly [least: number, most: number];

/** The value below which the given part of the values lies; NaN where there is none. */
export const quantile = (values: readonly number[], part: number): number => {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
};

export const median = (values: readonly number[]): number => {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
};

export const spreadOf = (values: readonly number[]): Spread => [Math.min(...values), Math.max(...values)];

/** What is divided by what, round by round: cells of one round ran next to each other, so drift cancels out. */
export const ratios = (numerators: readonly number[], denominators: readonly number[]): number[] =>
  numerators.map((value, round) => value / (denominators[round] ?? Number.NaN));
