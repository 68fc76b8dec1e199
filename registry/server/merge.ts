// Several asynchronous sources as one. Invariant: each source's items keep their order, one item of each at most waits to
// be taken, and the first failure ends all of them.

export async function* merge<T>(
  sources: readonly AsyncIterable<T>[],
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  const waiting: { readonly item: T; taken(): void }[] = [];
  let open = sources.length;
  let failure: { readonly thrown: unknown } | undefined;
  let wake: () => void = () => undefined;
  let stopped = false;
  const pump = async (source: AsyncIterable<T>): Promise<void> => {
    try {
      for await (const item of source) {
        if (stopped) return;
        await new Promise<void>((taken) => {
          waiting.push({ item, taken });
          wake();
        });
      }
    } catch (thrown) {
      failure ??= { thrown };
    } finally {
      open -= 1;
      wake();
    }
  };
  const pumps = sources.map(pump);
  const abort = (): void => wake();
  signal.addEventListener('abort', abort, { once: true });
  try {
    for (;;) {
      if (failure !== undefined) throw failure.thrown;
      const next = waiting.shift();
      if (next !== undefined) {
        yield next.item;
        next.taken();
      } else if (open === 0 || signal.aborted) return;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    stopped = true;
    signal.removeEventListener('abort', abort);
    for (const { taken } of waiting) taken();
    void Promise.all(pumps); // they end by the signal, which is the call's
  }
}
