// Adds to a log in PostgreSQL. Invariant: all of a batch is one statement, prepared once on each connection, which does
// nothing where the log is not in the state that the batch was verified against.
import type { LogAppend, LogRow } from '../../ledger/store.ts';
import { keyIdOf, spansOf } from '../rules.ts';
import { byteaArray, int8Array, textArray } from './arrays.ts';
import type { Session } from './connections.ts';

export type JsonLog = Omit<LogRow, 'frontier'> & { readonly frontier: readonly string[] };

const toJson = (log: LogRow): string =>
  JSON.stringify({ ...log, frontier: log.frontier.map((node) => node.toString('base64')) });

/** Text of PostgreSQL holds no NUL. What is searched is a copy: the record itself keeps its bytes. */
export const searchable = (value: string): string => value.replaceAll('\0', '\ufffd');

const BEGIN_LOG = `INSERT INTO mortise.logs (tenant_id, origin, host, revision, row)
  VALUES ($1, $2, $3, $4::bigint, $5::jsonb) ON CONFLICT DO NOTHING RETURNING 1`;
const CHANGE_LOG = `UPDATE mortise.logs SET host = $3, revision = $4::bigint, row = $5::jsonb
  WHERE tenant_id = $1 AND origin = $2 AND revision = $4::bigint - 1 RETURNING 1`;

/** Positions without gaps come as the first of them. */
const RECORDS = `INSERT INTO mortise.records (tenant_id, origin, host, idx, ingested_at, record, mac, event, time, key,
    key_id, principal, operation, outcome, correlation_id)
  SELECT $1, $2, $3, $6::bigint + r.n - 1, $7::bigint, r.record, r.mac, r.event, r.time, r.key, r.key_id, r.principal,
    r.operation, r.outcome, r.correlation_id
  FROM log, unnest($8::bytea[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
    $15::text[], $16::text[], $17::text[]) WITH ORDINALITY
    AS r (record, mac, event, time, key, key_id, principal, operation, outcome, correlation_id, n)`;

const SPANS = `INSERT INTO mortise.spans (tenant_id, origin, level, at, least, greatest)
  SELECT $1, $2, s.* FROM log, unnest($26::bigint[], $18::bigint[], $19::text[], $20::text[]) AS s
  ON CONFLICT (tenant_id, origin, level, at) DO UPDATE SET least = least(mortise.spans.least, excluded.least),
    greatest = greatest(mortise.spans.greatest, excluded.greatest)`;

const NODES = `INSERT INTO mortise.nodes (tenant_id, origin, level, idx, hash)
  SELECT $1, $2, n.* FROM log, unnest($21::bigint[], $22::bigint[], $23::bytea[]) AS n`;

const CHECKPOINTS = `INSERT INTO mortise.checkpoints (tenant_id, origin, size, note)
  SELECT $1, $2, c.* FROM log, unnest($24::bigint[], $25::text[]) AS c ON CONFLICT DO NOTHING`;

const statement = (log: string): string => `WITH log AS (${log}), records AS (${RECORDS}), spans AS (${SPANS}),
  nodes AS (${NODES}), checkpoints AS (${CHECKPOINTS}) SELECT count(*) AS count FROM log`;

const BEGIN = { name: 'begin-log', text: statement(BEGIN_LOG) };
const CHANGE = { name: 'append-log', text: statement(CHANGE_LOG) };

/** False where the log was changed meanwhile. */
export const appendTo = async (session: Session, tenant: string, append: LogAppend): Promise<boolean> => {
  const { log, records, nodes, checkpoints } = append;
  const rows = records.map(({ row }) => row);
  const facts = records.map((record) => record.facts);
  const spans = spansOf(records);
  const { name, text } = log.revision === 1 ? BEGIN : CHANGE;
  const values = [
    ...[tenant, log.origin, log.host, log.revision, toJson(log), rows[0]?.index ?? 0, rows[0]?.ingestedAt ?? 0],
    byteaArray(rows.map(({ record }) => record)),
    byteaArray(rows.map(({ mac }) => mac)),
    textArray(facts.map(({ event }) => event)),
    textArray(facts.map(({ time }) => time)),
    textArray(facts.map(({ key }) => searchable(key))),
    textArray(facts.map(({ key }) => searchable(keyIdOf(key)))),
    textArray(facts.map(({ principal }) => searchable(principal))),
    textArray(facts.map(({ operation }) => searchable(operation))),
    textArray(facts.map(({ outcome }) => searchable(outcome))),
    textArray(facts.map(({ correlationId }) => searchable(correlationId))),
    int8Array(spans.map(({ at }) => at)),
    textArray(spans.map(({ least }) => least)),
    textArray(spans.map(({ greatest }) => greatest)),
    int8Array(nodes.map(({ level }) => level)),
    int8Array(nodes.map(({ index }) => index)),
    byteaArray(nodes.map(({ hash }) => hash)),
    int8Array(checkpoints.map(({ size }) => size)),
    textArray(checkpoints.map((checkpoint) => checkpoint.text)),
    int8Array(spans.map(({ level }) => level)),
  ];
  const { rows: answer } = await session.query<{ count: number }>(text, values, { name });
  return answer[0]?.count === 1;
};
