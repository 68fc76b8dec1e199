// Invariant: no event ever throws into the code that reports it.

/** The same functions, but a fault in one is told to `failed` and goes no further. */
export const guarded = <T extends object>(events: T, failed: () => void): T => {
  const safe: Record<string, unknown> = {};
  for (const [name, report] of Object.entries(events) as [string, (...event: unknown[]) => void][]) {
    safe[name] = (...event: unknown[]): void => {
      try {
        report(...event);
      } catch {
        failed();
      }
    };
  }
  return safe as T;
};
