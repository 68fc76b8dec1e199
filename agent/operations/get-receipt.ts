// GetReceipt: proof that a record is in the log of the caller's own tenant. Invariant: without audit.read a caller learns
// of its own records only, and of any other not even whether it is there.
import { parseEventId } from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { invalid } from '../errors.ts';
import type { AuditReadPorts } from './list-audit-records.ts';
import { type Performed, perform } from './perform.ts';
import type { AuditReceiptView } from './ports/audit-log.ts';
import type { Call } from './ports/call.ts';

export interface GetReceiptInput {
  readonly eventId: string;
  readonly waitMs: number;
  readonly countersigned: boolean;
}

const MAX_WAIT_MS = 10_000;
/** Left of the deadline to make the answer in. */
const ANSWER_MS = 200;

const checkEventId = (eventId: string): void => {
  try {
    parseEventId(eventId);
  } catch (cause) {
    if (!(cause instanceof DocumentError)) throw cause;
    throw invalid('event_id', 'an event id is <host>/<epoch>/<sequence>');
  }
};

export const getReceipt = (
  ports: AuditReadPorts,
  call: Call,
  { eventId, waitMs, countersigned }: GetReceiptInput,
): Promise<Performed<AuditReceiptView>> =>
  perform(ports, call, 'get-receipt', async (run) => {
    checkEventId(eventId);
    if (waitMs > MAX_WAIT_MS) throw invalid('wait_ms', `at most ${MAX_WAIT_MS}`);
    run.note({ eventId });
    const { principal, scopes } = call.caller;
    const left = Math.max(0, call.deadline - ports.clock.now() - ANSWER_MS);
    return await ports.auditLog.receipt(run.tenant, {
      eventId,
      countersigned,
      waitMs: Math.min(waitMs, left),
      signal: call.signal,
      mayRead: (name) => scopes.has('audit.read') || name === principal,
    });
  });
