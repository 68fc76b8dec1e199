// The loop over the logs of a tenant in the registry: log after log to its present end, then again. Every log has a state
// file of its own in the folder, so one that does not go on keeps nothing of the others back. At least once, as for one log.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CliError } from '../exit-codes.ts';
import type { Session } from '../registry/session.ts';
import type { Destination } from './destination.ts';
import { checkLog, type ForwardEvents, forwardPresent } from './forwarder.ts';
import { ledgerLog, logsOf } from './ledger-logs.ts';
import { readState } from './state-file.ts';

const ROUND_MS = 1000; // between two looks at the ledger where nothing is new
const LONGEST_WAIT_MS = 60_000;

export interface LedgerForwardInput {
  /** A session that can be used now; one that failed is dropped. */
  readonly sessions: { get(): Promise<Session>; drop(): void };
  readonly tenant: string;
  readonly destination: Destination;
  /** Folder of the state files. */
  readonly stateDir: string;
  readonly once: boolean;
  readonly signal: AbortSignal;
  readonly events: Omit<ForwardEvents, 'delivered'> & {
    delivered(event: { readonly origin: string; readonly next: number; readonly count: number }): void;
    /** A log that is not the one that was forwarded, or that the ledger cannot give out; the others go on. */
    stuck(event: { readonly origin: string; readonly why: string }): void;
  };
  /** For tests. */
  readonly roundMs?: number;
}

/** "<host>/<tenant>/<generation>" as a file name; none of the parts has the sign in it. */
const fileOf = (origin: string): string => `${origin.replaceAll('/', '~')}.json`;

const forwardLog = async (input: LedgerForwardInput, session: Session, origin: string, size: number): Promise<void> => {
  const { tenant, destination, stateDir, signal, events } = input;
  const statePath = join(stateDir, fileOf(origin));
  const known = await readState(statePath);
  const state = known ?? { tenant, destination: destination.name, next: 0, lastEventId: '' };
  if (state.tenant !== tenant || state.destination !== destination.name) {
    throw new CliError('usage', `${statePath} is of ${state.tenant} to ${state.destination}; take another folder`);
  }
  if (state.next === size) return;
  const audit = ledgerLog(session, tenant, origin);
  await checkLog(audit, state);
  await forwardPresent({
    audit,
    destination,
    statePath,
    state,
    signal,
    events: { waiting: events.waiting, delivered: (event) => events.delivered({ origin, ...event }) },
  });
};

/** One look at every log. What stops one log does not stop the others; what stops all of them rejects. */
const round = async (input: LedgerForwardInput, stuck: Map<string, string>): Promise<void> => {
  const session = await input.sessions.get();
  for (const { origin, size } of await logsOf(session, input.tenant)) {
    if (input.signal.aborted) return;
    try {
      await forwardLog(input, session, origin, size);
      stuck.delete(origin);
    } catch (error) {
      if (!(error instanceof CliError) || error.exit !== 'failure') throw error;
      if (stuck.get(origin) !== error.message) input.events.stuck({ origin, why: error.message });
      stuck.set(origin, error.message);
    }
  }
};

/** Until the signal, or with `once` to the present end of every log. Rejects where a log is stuck at that end. */
export const forwardLedger = async (input: LedgerForwardInput): Promise<void> => {
  const { signal, once, roundMs = ROUND_MS } = input;
  await mkdir(input.stateDir, { recursive: true, mode: 0o700 });
  const stuck = new Map<string, string>();
  for (let failures = 0; !signal.aborted; ) {
    let waitMs = roundMs;
    try {
      await round(input, stuck);
      failures = 0;
      const [why] = stuck.values();
      if (once && why !== undefined) throw new CliError('failure', why);
      if (once) return;
    } catch (error) {
      if (signal.aborted) return;
      if (once || !(error instanceof CliError) || error.exit !== 'retryable') throw error;
      input.sessions.drop();
      failures += 1;
      waitMs = Math.min(LONGEST_WAIT_MS, roundMs * 2 ** failures) * (0.5 + Math.random() / 2);
      input.events.waiting({ next: 0, why: error.message, waitMs });
    }
    await sleep(waitMs, undefined, { signal }).catch(() => undefined);
  }
};
