// Reading and verifying the tenant's audit log.
import { setTimeout as sleep } from 'node:timers/promises';
import { auditRecordOf } from './convert.ts';
import { asMortiseError, MortiseError } from './errors.ts';
import type { Receipt, ReceiptOptions } from './receipts.ts';
import { delayBefore } from './retry.ts';
import type { CallOptions, Transport } from './transport.ts';
import type { AuditRecord, LogVerification } from './types.ts';

/** Options of tail. `deadlineMs` ends the iteration; without it the iteration goes on until it is left or aborted. */
export interface TailOptions extends CallOptions {
  /** First position. Default: only records that are new. */
  readonly from?: number;
}

// One streaming call lasts this long; tail then goes on with the next one.
const STREAM_MS = 60_000;
const RECEIPT_WAIT_MS = 5000;

/** The audit log of the caller's tenant on this host. */
export class AuditOperations {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Records by position, oldest first: from `from`, or the newest ones.
   * @throws {MortiseError} AUDIT_CORRUPT where a record does not verify; its message has the position
   */
  async records(
    query: { readonly from?: number; readonly newest?: boolean; readonly pageSize?: number } = {},
    options: CallOptions = {},
  ): Promise<{ readonly records: readonly AuditRecord[]; readonly size: number }> {
    const request = { from: BigInt(query.from ?? 0), pageSize: query.pageSize ?? 0, newest: query.newest ?? false };
    const answer = await this.#transport.call('listRecords', request, options);
    return { records: answer.records.map(auditRecordOf), size: Number(answer.size) };
  }

  /** Records as they are committed, each exactly once and in order, also over a restart of the agent. */
  async *tail(options: TailOptions = {}): AsyncGenerator<AuditRecord, void, undefined> {
    const end = options.deadlineMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + options.deadlineMs;
    let next = options.from ?? (await this.records({ newest: true, pageSize: 1 }, options)).size;
    for (let failures = 0; Date.now() < end; ) {
      const deadlineMs = Math.min(STREAM_MS, end - Date.now());
      try {
        for await (const message of this.#transport.stream(
          'tailRecords',
          { from: BigInt(next) },
          { ...options, deadlineMs },
        )) {
          failures = 0;
          for (const record of message.records) {
            next = Number(record.index) + 1;
            yield auditRecordOf(record);
          }
        }
      } catch (thrown) {
        const error = asMortiseError(thrown);
        if (error.code === 'DEADLINE_EXCEEDED') continue;
        failures += 1;
        const mayGoOn = error.retryable || (error.code === 'TOKEN_EXPIRED' && failures === 1);
        if (!mayGoOn || failures >= this.#transport.retry.maxAttempts) throw error;
        await this.#pause(failures, error, end, options.signal);
      }
    }
  }

  /** The newest signed checkpoint (C2SP tlog-checkpoint) and the public JWK that verifies it. */
  async checkpoint(options: CallOptions = {}): Promise<{ readonly checkpoint: string; readonly publicJwk: string }> {
    const { checkpoint, publicJwk } = await this.#transport.call('getCheckpoint', {}, options);
    return { checkpoint, publicJwk };
  }

  /**
   * Proof that a record is in the log; `envelope.eventId` of an answer names it. Verify it with `verifyReceipt`.
   * @throws {MortiseError} RECORD_UNKNOWN; RECEIPT_PENDING where no checkpoint covers the record in time
   */
  async receipt(eventId: string, options: CallOptions & ReceiptOptions = {}): Promise<Receipt> {
    const { waitMs = RECEIPT_WAIT_MS, countersigned = false, ...call } = options;
    return await this.#transport.call('getReceipt', { eventId, waitMs, countersigned }, call);
  }

  /** Has the agent verify the whole log: every MAC, the order, the tree and every checkpoint. */
  async verify(options: CallOptions & { readonly trustedCheckpoint?: string } = {}): Promise<LogVerification> {
    const request = { trustedCheckpoint: options.trustedCheckpoint ?? '' };
    const { intact, size, root, findings, checkpointTime } = await this.#transport.call('verifyLog', request, options);
    return {
      intact,
      size: Number(size),
      root,
      findings: findings.map((finding) => ({ ...finding, index: Number(finding.index) })),
      checkpointTime,
    };
  }

  async #pause(failures: number, error: MortiseError, end: number, signal: AbortSignal | undefined): Promise<void> {
    const waitMs = delayBefore(failures, error, this.#transport.retry, Math.random());
    await sleep(Math.min(waitMs, Math.max(0, end - Date.now())), undefined, signal && { signal }).catch(() => {
      throw new MortiseError('CANCELLED', { message: 'the call was aborted' });
    });
  }
}
