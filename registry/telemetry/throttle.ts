// Keeps one kind of line from flooding the log: a few in a window, then the number of those left out.

export interface Throttle {
  /** Undefined: leave this one out. Otherwise how many of its kind were left out since the last. */
  admit(kind: string): number | undefined;
}

const PER_WINDOW = 5;
const WINDOW_MS = 10_000;
const MAX_KINDS = 512; // kinds are codes and operations: closed sets well below this

export const createThrottle = (now: () => number = () => performance.now()): Throttle => {
  const kinds = new Map<string, { since: number; admitted: number; suppressed: number }>();
  return {
    admit: (kind) => {
      const time = now();
      let row = kinds.get(kind);
      if (row === undefined) {
        if (kinds.size >= MAX_KINDS) kinds.clear();
        row = { since: time, admitted: 0, suppressed: 0 };
        kinds.set(kind, row);
      }
      if (time - row.since >= WINDOW_MS) Object.assign(row, { since: time, admitted: 0 });
      if (row.admitted >= PER_WINDOW) {
        row.suppressed += 1;
        return undefined;
      }
      row.admitted += 1;
      const { suppressed } = row;
      row.suppressed = 0;
      return suppressed;
    },
  };
};
