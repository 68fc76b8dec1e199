// The ledger of one tenant in PostgreSQL: records in a table partitioned by tenant, a batch by one statement.

import type { Actor } from '../../actor.ts';
import type {
  CheckpointRow,
  LedgerStore,
  LogAppend,
  LogRow,
  RecordQuery,
  RecordRow,
  TreeNode,
} from '../../ledger/store.ts';
import { keyIdOf, refuseForeignLog, refuseReader, SPAN, spansOf } from '../rules.ts';
import type { Connections, Session } from './connections.ts';

type JsonLog = Omit<LogRow, 'frontier'> & { readonly frontier: readonly string[] };

const RECORD = 'idx AS index, record, mac, ingested_at AS "ingestedAt"';

const toJson = (log: LogRow): string =>
  JSON.stringify({ ...log, frontier: log.frontier.map((node) => node.toString('base64')) });
const fromJson = (row: JsonLog): LogRow => ({
  ...row,
  frontier: row.frontier.map((node) => Buffer.from(node, 'base64')),
});

const putLog = async (session: Session, tenant: string, log: LogRow): Promise<boolean> => {
  const values = [tenant, log.origin, log.host, log.revision, toJson(log)];
  const text =
    log.revision === 1
      ? 'INSERT INTO mortise.logs VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING'
      : `UPDATE mortise.logs SET host = $3, revision = $4, row = $5
         WHERE tenant_id = $1 AND origin = $2 AND revision = $4::bigint - 1`;
  return (await session.query(text, values)).count === 1;
};

/** Text of PostgreSQL holds no NUL. What is searched is a copy: the record itself keeps its bytes. */
const searchable = (value: string): string => value.replaceAll('\0', '\ufffd');

const putRecords = async (session: Session, tenant: string, { log, records }: LogAppend): Promise<void> => {
  if (records.length === 0) return;
  const rows = records.map(({ row }) => row);
  const facts = records.map((record) => record.facts);
  await session.query(
    `INSERT INTO mortise.records (tenant_id, origin, host, idx, record, mac, ingested_at, event, time, key, key_id,
       principal, operation, outcome, correlation_id)
     SELECT $1, $2, $3, * FROM unnest($4::bigint[], $5::bytea[], $6::bytea[], $7::bigint[], $8::text[], $9::text[],
       $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[])`,
    [
      tenant,
      log.origin,
      log.host,
      rows.map(({ index }) => index),
      rows.map(({ record }) => record),
      rows.map(({ mac }) => mac),
      rows.map(({ ingestedAt }) => ingestedAt),
      facts.map(({ event }) => event),
      facts.map(({ time }) => time),
      facts.map(({ key }) => searchable(key)),
      facts.map(({ key }) => searchable(keyIdOf(key))),
      facts.map(({ principal }) => searchable(principal)),
      facts.map(({ operation }) => searchable(operation)),
      facts.map(({ outcome }) => searchable(outcome)),
      facts.map(({ correlationId }) => searchable(correlationId)),
    ],
  );
};

const putTree = async (
  session: Session,
  tenant: string,
  { log, records, nodes, checkpoints }: LogAppend,
): Promise<void> => {
  const spans = spansOf(records);
  if (spans.length > 0) {
    await session.query(
      `INSERT INTO mortise.spans SELECT $1, $2, * FROM unnest($3::bigint[], $4::text[], $5::text[])
       ON CONFLICT (tenant_id, origin, at) DO UPDATE
         SET least = least(mortise.spans.least, excluded.least), greatest = greatest(mortise.spans.greatest, excluded.greatest)`,
      [
        tenant,
        log.origin,
        spans.map(({ at }) => at),
        spans.map((span) => span.least),
        spans.map((span) => span.greatest),
      ],
    );
  }
  if (nodes.length > 0) {
    await session.query(
      'INSERT INTO mortise.nodes SELECT $1, $2, * FROM unnest($3::int[], $4::bigint[], $5::bytea[])',
      [tenant, log.origin, nodes.map(({ level }) => level), nodes.map(({ index }) => index), nodes.map((n) => n.hash)],
    );
  }
  if (checkpoints.length > 0) {
    await session.query(
      'INSERT INTO mortise.checkpoints SELECT $1, $2, * FROM unnest($3::bigint[], $4::text[]) ON CONFLICT DO NOTHING',
      [tenant, log.origin, checkpoints.map(({ size }) => size), checkpoints.map(({ text }) => text)],
    );
  }
};

/** The conditions of a query, with their values behind `values`. */
const conditions = (query: RecordQuery, values: unknown[]): string => {
  const { fromTime, toTime, key, principal, operation, outcome, correlationId, host, after } = query;
  const parts: string[] = [];
  const add = (condition: (place: string) => string, value: string | undefined): void => {
    if (value === undefined) return;
    values.push(searchable(value));
    parts.push(condition(`$${values.length}`));
  };
  add((at) => `time >= ${at}`, fromTime);
  add((at) => `time < ${at}`, toTime);
  add((at) => `key_id = ${at}`, key === undefined ? undefined : keyIdOf(key));
  add((at) => `key = ${at}`, key?.includes('/') ? key : undefined);
  add((at) => `principal = ${at}`, principal);
  add((at) => `operation = ${at}`, operation);
  add((at) => `outcome = ${at}`, outcome);
  if (outcome !== undefined && outcome !== 'ok') parts.push("outcome <> 'ok'"); // so that the partial index serves
  add((at) => `correlation_id = ${at}`, correlationId);
  // Origins of the host, as a range of the indexes: "0" is what follows "/".
  add((at) => `origin > ${at}`, host === undefined ? undefined : `${host}/`);
  add((at) => `origin < ${at}`, host === undefined ? undefined : `${host}0`);
  if (after !== undefined) {
    values.push(after.origin, after.index);
    parts.push(`(origin, idx) > ($${values.length - 1}, $${values.length}::bigint)`);
  }
  return parts.map((part) => ` AND ${part}`).join('');
};

/** No index finds the records but that of their times. */
const isByTime = ({ fromTime, toTime, key, principal, operation, outcome, correlationId }: RecordQuery): boolean => {
  const isFound = outcome !== undefined && outcome !== 'ok';
  const others = [key, principal, operation, correlationId].some((value) => value !== undefined);
  return (fromTime !== undefined || toTime !== undefined) && !isFound && !others;
};

/** Walks the spans that have such times, in order, and of each its own records: a page reads no more than it needs. */
const byTime = ({ fromTime, toTime, host, after }: RecordQuery, where: string, values: unknown[]): string => {
  const parts: string[] = [];
  const add = (condition: (place: string) => string, value: string | number | undefined): void => {
    if (value === undefined) return;
    values.push(value);
    parts.push(` AND ${condition(`$${values.length}`)}`);
  };
  add((at) => `greatest >= ${at}`, fromTime);
  add((at) => `least < ${at}`, toTime);
  add((at) => `origin > ${at}`, host === undefined ? undefined : `${host}/`);
  add((at) => `origin < ${at}`, host === undefined ? undefined : `${host}0`);
  add((at) => `origin >= ${at}`, after?.origin);
  return `SELECT s.origin, r.* FROM
    (SELECT origin, at FROM mortise.spans WHERE tenant_id = $1${parts.join('')} ORDER BY origin, at) s
    CROSS JOIN LATERAL (SELECT ${RECORD} FROM mortise.records WHERE tenant_id = $1 AND origin = s.origin
      AND idx >= s.at * ${SPAN} AND idx < (s.at + 1) * ${SPAN}${where} ORDER BY idx) r
    ORDER BY s.origin, s.at, r.index LIMIT $2`;
};

export const ledgerStore = (options: {
  readonly db: Connections;
  readonly tenant: string;
  readonly actor: Actor;
}): LedgerStore => {
  const { db, tenant, actor } = options;
  const rows = <T>(text: string, values: readonly unknown[]): Promise<T[]> =>
    db.asTenant(tenant, actor, async (session) => (await session.query<T>(text, values)).rows);
  return {
    log: async (origin) => {
      const text = 'SELECT row FROM mortise.logs WHERE tenant_id = $1 AND origin = $2';
      const [found] = await rows<{ row: JsonLog }>(text, [tenant, origin]);
      return found && fromJson(found.row);
    },
    logs: async ({ host, after = '', limit }) => {
      const text = `SELECT row FROM mortise.logs WHERE tenant_id = $1 AND origin > $2
        AND ($3::text IS NULL OR host = $3) ORDER BY origin LIMIT $4`;
      const found = await rows<{ row: JsonLog }>(text, [tenant, after, host ?? null, limit]);
      return found.map(({ row }) => fromJson(row));
    },
    append: (append) =>
      db.asTenant(tenant, actor, async (session) => {
        refuseReader(actor);
        refuseForeignLog(append.log, tenant, actor);
        if (!(await putLog(session, tenant, append.log))) return false;
        await putRecords(session, tenant, append);
        await putTree(session, tenant, append);
        return true;
      }),
    records: ({ origin, from, limit }) =>
      rows<RecordRow>(
        `SELECT ${RECORD} FROM mortise.records WHERE tenant_id = $1 AND origin = $2 AND idx >= $3 ORDER BY idx LIMIT $4`,
        [tenant, origin, from, limit],
      ),
    query: (query) => {
      const values: unknown[] = [tenant, query.limit];
      const where = conditions(query, values);
      const text = isByTime(query)
        ? byTime(query, where, values)
        : `SELECT origin, ${RECORD} FROM mortise.records WHERE tenant_id = $1${where} ORDER BY origin, idx LIMIT $2`;
      return rows(text, values);
    },
    locate: async ({ host, event }) => {
      const text = `SELECT origin, idx AS index FROM mortise.records
        WHERE tenant_id = $1 AND host = $2 AND event = $3 LIMIT 1`;
      return (await rows<{ origin: string; index: number }>(text, [tenant, host, event]))[0];
    },
    nodes: ({ origin, level, from, limit }) =>
      rows<TreeNode>(
        `SELECT level, idx AS index, hash FROM mortise.nodes
         WHERE tenant_id = $1 AND origin = $2 AND level = $3 AND idx >= $4 ORDER BY idx LIMIT $5`,
        [tenant, origin, level, from, limit],
      ),
    checkpoints: ({ origin, from, limit }) =>
      rows<CheckpointRow>(
        `SELECT size, note AS text FROM mortise.checkpoints
         WHERE tenant_id = $1 AND origin = $2 AND size >= $3 ORDER BY size LIMIT $4`,
        [tenant, origin, from, limit],
      ),
  };
};
