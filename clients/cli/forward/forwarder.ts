// The loop: records in order, a delivery, then the position on disk, for ever or to the present end. At least once: a
// record is behind the position only when the receiver has taken it. One delivery is under way at a time, and the agent is
// read no faster than the receiver takes.
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditOperations, AuditRecord } from '../../typescript/index.ts';
import { CliError } from '../exit-codes.ts';
import { batches } from './batches.ts';
import { DeliveryError, type Destination } from './destination.ts';
import { type ForwardState, writeState } from './state-file.ts';

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 60_000;
const LONGEST_ASKED_MS = 600_000; // a receiver that asks for more is asked again all the same
const PAGE = 1000; // the most that one ListRecords gives
const ATTEMPTS_ONCE = 5;

export interface ForwardEvents {
  delivered(event: { readonly next: number; readonly count: number }): void;
  waiting(event: { readonly next: number; readonly why: string; readonly waitMs: number }): void;
}

/** A log, a page at a time. */
export type LogPages = Pick<AuditOperations, 'records'>;

export interface ForwardInput {
  readonly audit: LogPages & Pick<AuditOperations, 'tail'>;
  readonly destination: Destination;
  readonly statePath: string;
  readonly state: ForwardState;
  /** To the end that the log has now, and no further; without it, until the signal. */
  readonly once: boolean;
  readonly signal: AbortSignal;
  readonly events: ForwardEvents;
  /** For tests: the wait before the second attempt. */
  readonly firstWaitMs?: number;
}

/** Between half of the doubled time and all of it, so that a fleet does not come back as one. */
const waitBefore = (attempt: number, firstMs: number, askedMs = 0): number => {
  const longest = Math.min(LONGEST_WAIT_MS, firstMs * 2 ** (attempt - 1));
  return Math.max(Math.min(askedMs, LONGEST_ASKED_MS), longest * (0.5 + Math.random() / 2));
};

const refused = (error: DeliveryError, next: number): CliError =>
  new CliError('failure', `the receiver does not take the records from position ${next} on: ${error.message}`, error);

/** The log must still be the one whose records were delivered before. */
export const checkLog = async (audit: LogPages, state: ForwardState): Promise<void> => {
  if (state.next === 0) return;
  const { records } = await audit.records({ from: state.next - 1, pageSize: 1 });
  if (records[0]?.eventId === state.lastEventId) return;
  throw new CliError(
    'failure',
    `the log of ${state.tenant} is not the one that was forwarded up to position ${state.next}: it was begun anew or ` +
      'taken back. Find out why ("mortise audit verify"), then name a new state file',
  );
};

async function* present(audit: LogPages, from: number): AsyncGenerator<AuditRecord> {
  let end = Number.POSITIVE_INFINITY;
  for (let next = from; next < end; ) {
    const { records, size } = await audit.records({ from: next, pageSize: PAGE });
    end = Math.min(end, size); // the log grows by our own reading
    for (const record of records.slice(0, end - next)) yield record;
    if (records.length === 0) return;
    next += records.length;
  }
}

type Delivery = Omit<ForwardInput, 'audit'>;

const deliver = async (input: Delivery, records: readonly AuditRecord[], next: number): Promise<void> => {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await input.destination.deliver(records, input.signal);
    } catch (error) {
      if (!(error instanceof DeliveryError)) throw error;
      if (!error.retryable) throw refused(error, next);
      if (input.once && attempt === ATTEMPTS_ONCE) {
        throw new CliError('retryable', `not delivered from position ${next} on: ${error.message}`, error);
      }
      const waitMs = waitBefore(attempt, input.firstWaitMs ?? FIRST_WAIT_MS, error.retryAfterMs);
      input.events.waiting({ next, why: error.message, waitMs });
      await sleep(waitMs, undefined, { signal: input.signal });
    }
  }
};

/** What the source gives, from the state on; `reached` hears of every delivery. */
const pass = async (
  input: Delivery,
  source: AsyncIterable<AuditRecord>,
  state: ForwardState,
  reached: (state: ForwardState) => void,
): Promise<void> => {
  const { destination, signal } = input;
  let next = state.next;
  for await (const records of batches(source, { most: destination.batch, signal })) {
    await deliver(input, records, next);
    const last = records.at(-1) as AuditRecord;
    next = last.index + 1;
    const behind = { ...state, next, lastEventId: last.eventId };
    await writeState(input.statePath, behind);
    reached(behind);
    input.events.delivered({ next, count: records.length });
  }
};

/** Failures of the agent that pass by themselves: it restarts, it is busy. */
const willPass = (error: unknown): error is Error =>
  error instanceof Error && (error as { readonly retryable?: unknown }).retryable === true;

/** Forwards a log to its present end. A receiver that does not take is CliError `retryable` after a few attempts. */
export const forwardPresent = async (
  input: Omit<ForwardInput, 'audit' | 'once'> & { readonly audit: LogPages },
): Promise<number> => {
  let { next } = input.state;
  await pass({ ...input, once: true }, present(input.audit, next), input.state, (behind) => {
    next = behind.next;
  });
  return next;
};

/** Returns the position behind the last record delivered, when the signal or the end of the log has come. */
export const forward = async (input: ForwardInput): Promise<number> => {
  const { signal, once } = input;
  const firstMs = input.firstWaitMs ?? FIRST_WAIT_MS;
  let state = input.state;
  for (let failures = 0; !signal.aborted; ) {
    try {
      const { audit } = input;
      const source = once ? present(audit, state.next) : audit.tail({ from: state.next, signal });
      await pass(input, source, state, (behind) => {
        state = behind;
        failures = 0;
      });
      if (once) return state.next;
    } catch (error) {
      if (signal.aborted) break;
      if (once || !willPass(error)) throw error;
      failures += 1;
      const waitMs = waitBefore(failures, firstMs);
      input.events.waiting({ next: state.next, why: error.message, waitMs });
      await sleep(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }
  return state.next;
};
