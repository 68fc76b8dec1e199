// Gathers records that come close to each other. Invariant: at most one batch is held besides the one that is being
// delivered, and a record waits a moment at most while nothing is.
import type { AuditRecord } from '../../typescript/index.ts';

const LINGER_MS = 200;

export async function* batches(
  source: AsyncIterable<AuditRecord>,
  {
    most,
    signal,
    lingerMs = LINGER_MS,
  }: { readonly most: number; readonly signal: AbortSignal; readonly lingerMs?: number },
): AsyncGenerator<readonly AuditRecord[]> {
  const records = source[Symbol.asyncIterator]();
  let coming = records.next();
  try {
    for (;;) {
      const first = await coming;
      if (first.done === true) return;
      const batch = [first.value];
      coming = records.next();
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<'late'>((resolve) => {
        timer = setTimeout(resolve, lingerMs, 'late');
      });
      while (batch.length < most) {
        const next = await Promise.race([coming, late]);
        if (next === 'late' || next.done === true) break;
        batch.push(next.value);
        coming = records.next();
      }
      clearTimeout(timer);
      signal.throwIfAborted();
      yield batch;
    }
  } finally {
    coming.catch(() => undefined); // nobody asks for it any more
    await records.return?.().catch(() => undefined);
  }
}
