// Records for the forwarder's tests, and a log to read them from.
import type { AuditOperations, AuditRecord } from '../../../clients/typescript/index.ts';

export const record = (index: number, change: Partial<AuditRecord> = {}): AuditRecord => ({
  index,
  tenant: 'acme',
  principal: 'payments',
  key: 'orders/2',
  algorithm: 'A256GCMKW',
  operation: 'encrypt',
  outcome: 'ok',
  time: '2026-11-24T08:05:09.000042Z',
  correlationId: 'c-1',
  eventId: `host-a/1764000000/${index}`,
  detail: '{"uid":0}',
  canonical: Buffer.alloc(1),
  mac: Buffer.alloc(32, 7),
  ...change,
});

/** A log in memory that grows; tail waits for more. */
export class MemoryLog implements Pick<AuditOperations, 'records' | 'tail'> {
  readonly all: AuditRecord[] = [];
  /** Thrown by the next tail, once. */
  failure: Error | undefined;
  #grown = Promise.withResolvers<void>();

  append(...records: readonly AuditRecord[]): void {
    this.all.push(...records);
    this.#grown.resolve();
    this.#grown = Promise.withResolvers();
  }

  records({ from = 0, pageSize = 100 }: { readonly from?: number; readonly pageSize?: number } = {}) {
    return Promise.resolve({ records: this.all.slice(from, from + pageSize), size: this.all.length });
  }

  async *tail({ from = 0, signal }: { from?: number; signal?: AbortSignal } = {}): AsyncGenerator<AuditRecord, void> {
    const failure = this.failure;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
    const aborted = new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve(), { once: true }));
    for (let next = from; signal?.aborted !== true; ) {
      const grown = this.#grown.promise;
      const found = this.all[next];
      if (found === undefined) await Promise.race([grown, aborted]);
      else {
        next += 1;
        yield found;
      }
    }
  }
}
