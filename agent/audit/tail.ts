// Follows a tenant's log: the records from a position on, then new ones as they are committed. Invariant: in order and
// without a gap, however long the reader takes.
import type { AuditLog, StoredRecord } from './types.ts';

const PAGE = 256;

type Followed = Pick<AuditLog, 'list' | 'size' | 'onAppend'>;

export async function* tailRecords(
  log: Followed,
  tenant: string,
  { from, end }: { readonly from: number; readonly end: AbortSignal },
): AsyncGenerator<StoredRecord[]> {
  let next = Math.max(0, Math.floor(from));
  while (!end.aborted) {
    if (next < log.size(tenant)) {
      const page = await log.list(tenant, { from: next, limit: PAGE });
      next += page.length;
      yield page;
    } else await appended(log, tenant, { size: next, end });
  }
}

/** Resolves when the log is longer than `size`, or at the signal. */
const appended = (
  log: Followed,
  tenant: string,
  { size, end }: { readonly size: number; readonly end: AbortSignal },
): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      stop();
      end.removeEventListener('abort', done);
      resolve();
    };
    const stop = log.onAppend((name, now) => {
      if (name === tenant && now > size) done();
    });
    end.addEventListener('abort', done);
  });
