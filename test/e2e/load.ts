// Callers under load for the tests of whole processes: each does one operation after the other and notes every answer
// that it received, so that the audit trail can be held against it afterwards.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { type AuditRecord, connect, type MortiseClient, MortiseError } from '../../clients/typescript/index.ts';
import type { RunningAgent } from '../support/agent.ts';

export interface Answer {
  readonly correlationId: string;
  readonly operation: string;
  /** "ok" or the error code. */
  readonly outcome: string;
}

export interface LoadOptions {
  readonly client: MortiseClient;
  readonly callers: number;
  /** One operation with this correlation id. */
  readonly operation: string;
  readonly act: (client: MortiseClient, correlationId: string) => Promise<unknown>;
}

export interface Load {
  readonly answers: readonly Answer[];
  /** Answers so far with this outcome; all where absent. */
  count(outcome?: string): number;
  /** Resolves when so many more answers with this outcome have come. */
  more(answers: number, outcome?: string): Promise<void>;
  /** Resolves when every caller has its last answer. */
  stop(): Promise<void>;
}

/**
 * A client of a tenant. One without repeats is for what has to be answered by the first call: where calls of it failed
 * while no agent was there, its channel tries anew only after up to a second, and until then it fails further ones.
 */
export const clientOf = (
  agent: Pick<RunningAgent, 'socket' | 'issuer'>,
  tenant: string,
  options: { readonly principal?: string; readonly scopes?: readonly string[]; readonly retry?: false } = {},
): MortiseClient => {
  const { principal = `app@${tenant}`, scopes, retry } = options;
  return connect({
    socketPath: agent.socket,
    token: () => agent.issuer.issue({ tenant, principal, ...(scopes && { scopes }) }),
    deadlineMs: 20_000,
    ...(retry === false && { retry }),
  });
};

export const codeOf = (error: unknown): string => {
  assert.ok(error instanceof MortiseError, `not an error of the client: ${error}`);
  return error.reason;
};

export const refusedWith =
  (code: string) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof MortiseError, String(error));
    assert.equal(error.reason, code, error.message);
    return true;
  };

export const startLoad = ({ client, callers, operation, act }: LoadOptions): Load => {
  const answers: Answer[] = [];
  const waiting = new Set<() => void>();
  let stopped = false;
  const one = async (): Promise<void> => {
    const correlationId = randomUUID();
    let outcome = 'ok';
    try {
      await act(client, correlationId);
    } catch (error) {
      outcome = codeOf(error);
    }
    answers.push({ correlationId, operation, outcome });
    for (const look of [...waiting]) look();
  };
  const caller = async (): Promise<void> => {
    while (!stopped) await one();
  };
  const running = Promise.all(Array.from({ length: callers }, caller));
  const count = (outcome?: string): number =>
    outcome === undefined ? answers.length : answers.filter((row) => row.outcome === outcome).length;
  return {
    answers,
    count,
    more: (wanted, outcome) => {
      const goal = count(outcome) + wanted;
      return new Promise((resolve) => {
        const look = (): void => {
          if (count(outcome) < goal) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      });
    },
    stop: async () => {
      stopped = true;
      await running;
    },
  };
};

/** Every record of the client's tenant. */
export const allRecords = async (client: MortiseClient): Promise<readonly AuditRecord[]> => {
  const records: AuditRecord[] = [];
  for (;;) {
    const page = await client.audit.records({ from: records.length, pageSize: 1000 });
    records.push(...page.records);
    if (records.length >= page.size || page.records.length === 0) return records;
  }
};

/** Outcomes that the agent gives without a record: it was not there, could not record, or had not begun. */
const UNRECORDED = new Set([
  'AGENT_UNREACHABLE',
  'AUDIT_UNAVAILABLE',
  'SHUTTING_DOWN',
  'DEADLINE_EXCEEDED',
  'CANCELLED',
]);

/** Every answer that a caller ever received has its record, with its outcome. Fails where there was none to look for. */
export const assertRecorded = (answers: readonly Answer[], records: readonly AuditRecord[]): void => {
  const outcomes = new Map<string, Set<string>>();
  for (const { correlationId, operation, outcome } of records) {
    const key = `${correlationId} ${operation}`;
    outcomes.set(key, (outcomes.get(key) ?? new Set()).add(outcome));
  }
  const looked = answers.filter(({ outcome }) => !UNRECORDED.has(outcome));
  assert.ok(looked.length > 0, 'no answer to look for');
  const missing = looked.filter(
    ({ correlationId, operation, outcome }) => !outcomes.get(`${correlationId} ${operation}`)?.has(outcome),
  );
  assert.deepEqual(missing, [], `${missing.length} of ${looked.length} answers have no record`);
};
