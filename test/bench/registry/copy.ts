// A plain COPY of the same columns into the same table, by a superuser whom row-level security does not bind: the fastest
// that the database can take records in, without verification, log state or tree.
import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { LedgerHost } from '../../support/ledger-host.ts';
import { sharedNow, TENANT } from './light-host.ts';

const TEXT = `COPY mortise.records (tenant_id, origin, idx, record, mac, ingested_at, host, event, time, key, key_id, principal,
  operation, outcome, correlation_id) FROM STDIN`;
const CHUNK_LINES = 500;

/** What the driver shows to a statement that it does not know itself. */
interface CopyConnection {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

const linesOf = (log: LedgerHost): string[] => {
  const { origin, host, epoch } = log;
  const now = Date.now();
  return log.records.map(({ record, mac }, index) => {
    const sequence = index + 1;
    const fields = [
      ...[TENANT, origin, index, `\\\\x${record.toString('hex')}`, `\\\\x${mac.toString('hex')}`, now, host],
      ...[`${epoch}/${sequence}`, `2026-11-24T00:00:00.${String(index % 1_000_000).padStart(6, '0')}Z`],
      ...[`key-${index % 1000}/1`, `key-${index % 1000}`, `svc-${index % 200}`, 'encrypt', 'ok', randomUUID()],
    ];
    return `${fields.join('\t')}\n`;
  });
};

const copy = (client: Client, chunks: readonly Buffer[]): Promise<void> =>
  new Promise((resolve, reject) => {
    const nothing = (): void => undefined;
    let failure: Error | undefined;
    const statement = {
      submit: (connection: CopyConnection) => connection.query(TEXT),
      handleCopyInResponse: (connection: CopyConnection) => {
        for (const chunk of chunks) connection.sendCopyFromChunk(chunk);
        connection.endCopyFrom();
      },
      handleError: (error: Error) => {
        failure = error;
        reject(error);
      },
      handleReadyForQuery: () => {
        if (failure === undefined) resolve();
      },
      ...{ handleRowDescription: nothing, handleCommandComplete: nothing, handleEmptyQuery: nothing },
      ...{ handlePortalSuspended: nothing, handleDataRow: nothing, handleCopyData: nothing },
    };
    client.query(statement as never);
  });

/** Answers in how many milliseconds so many records of one more host were there. */
export const measureCopy = async (url: string, records: number): Promise<number> => {
  const log = new LedgerHost({ host: `copied-${randomUUID()}`, tenant: TENANT }).fill(records);
  const lines = linesOf(log);
  const chunks: Buffer[] = [];
  for (let from = 0; from < lines.length; from += CHUNK_LINES) {
    chunks.push(Buffer.from(lines.slice(from, from + CHUNK_LINES).join('')));
  }
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const from = sharedNow();
    await copy(client, chunks);
    return sharedNow() - from;
  } finally {
    await client.end();
  }
};
