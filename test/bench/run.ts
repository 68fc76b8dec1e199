// What every part of a run is given, and what it gives back.
import type { BarResult } from './bars.ts';

export interface Settings {
  /** Rounds of cells that alternate. */
  readonly rounds: number;
  /** Milliseconds of a cell. */
  readonly cellMs: number;
  readonly quick: boolean;
  /** A line about how far the run is. */
  readonly say: (line: string) => void;
}

export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Sentences under the table. */
  readonly notes: readonly string[];
}

/** What a part of the run gives back. */
export interface Findings {
  readonly bars: readonly BarResult[];
  readonly tables: readonly Table[];
}

export const thousands = (value: number): string => Math.round(value).toLocaleString('en');
export const micros = (ms: number): string => Math.round(ms * 1000).toLocaleString('en');
