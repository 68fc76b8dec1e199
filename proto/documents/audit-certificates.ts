// The certificates of tokens that were stated over a range of audit records: each start of an agent records what its
// operator said of them. Invariant: it is told as it was recorded; what is not in the range is not guessed.
import { type AuditRecord, parseEventId } from './audit-record.ts';

export const START_OPERATION = 'agent-start';

export interface StatedCertificate {
  readonly host: string;
  /** Name of the token on the host. */
  readonly token: string;
  /** As recorded: identifier, standard and level, status, last day. */
  readonly statement: string;
  /** Time of the first start in the range that says so. */
  readonly from: string;
  /** Of the first start after it that says otherwise, else of the host's last record in the range. */
  readonly to: string;
  /** Why an auditor would ask, or empty. */
  readonly warning: string;
}

const MAX_ROWS = 1000;
const STATEMENT = /, (\w+), until (\d{4}-\d\d-\d\d)$/;

/** Judged as of the end of the time for which it was stated. */
const warningOf = (statement: string, to: string): string => {
  const [, status, until] = STATEMENT.exec(statement) ?? [];
  if (status === undefined || until === undefined) return 'the statement is not of a form that is known';
  if (status !== 'active') return `it is ${status}`;
  return until <= to.slice(0, 10) ? `it expired on ${until}` : '';
};

const statedIn = (detail: string): ReadonlyMap<string, string> => {
  try {
    const { certificates = {} } = JSON.parse(detail) as { certificates?: Record<string, unknown> };
    const rows = Object.entries(certificates).filter((row): row is [string, string] => typeof row[1] === 'string');
    return new Map(rows.map(([token, statement]) => [token, statement.slice(0, 256)]));
  } catch {
    return new Map(); // of another version, or cut off: nothing is known
  }
};

interface Row extends Omit<StatedCertificate, 'to' | 'warning'> {
  to: string;
}

/** Takes the records of one log after the other, each in order. */
export class StatedCertificates {
  readonly #rows: Row[] = [];
  readonly #open = new Map<string, Row[]>();

  add(record: Pick<AuditRecord, 'operation' | 'time' | 'eventId' | 'detail'>): void {
    const { host } = parseEventId(record.eventId);
    const open = this.#open.get(host) ?? [];
    for (const row of open) row.to = record.time;
    if (record.operation !== START_OPERATION) return;
    const stated = statedIn(record.detail);
    const going = open.filter(({ token, statement }) => stated.get(token) === statement);
    for (const [token, statement] of stated) {
      if (going.some((row) => row.token === token) || this.#rows.length >= MAX_ROWS) continue;
      const row = { host, token, statement, from: record.time, to: record.time };
      going.push(row);
      this.#rows.push(row);
    }
    this.#open.set(host, going);
  }

  /** By host and token, in order of time. */
  report(): readonly StatedCertificate[] {
    return [...this.#rows]
      .sort((a, b) => (`${a.host} ${a.token} ${a.from}` < `${b.host} ${b.token} ${b.from}` ? -1 : 1))
      .map((row) => ({ ...row, warning: warningOf(row.statement, row.to) }));
  }
}
