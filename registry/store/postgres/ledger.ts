// The ledger of one tenant in PostgreSQL: records in a table partitioned by tenant.

import type { Actor } from '../../actor.ts';
import type { CheckpointRow, LedgerStore, LogRow, RecordQuery, RecordRow, TreeNode } from '../../ledger/store.ts';
import { keyIdOf, refuseForeignLog, refuseReader, SPAN, WIDE_SPAN } from '../rules.ts';
import type { Connections } from './connections.ts';
import { appendTo, type JsonLog, searchable } from './ledger-append.ts';

const RECORD = 'idx AS index, record, mac, ingested_at AS "ingestedAt"';

const fromJson = (row: JsonLog): LogRow => ({
  ...row,
  frontier: row.frontier.map((node) => Buffer.from(node, 'base64')),
});

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

/** Of records of certain times; a correlation id finds the few that have it without. */
const isByTime = ({ fromTime, toTime, correlationId }: RecordQuery): boolean =>
  (fromTime !== undefined || toTime !== undefined) && correlationId === undefined;

/** Whether an index finds records inside of a wide span. */
const isFound = ({ key, principal, operation, outcome }: RecordQuery): boolean =>
  [key, principal, operation].some((value) => value !== undefined) || (outcome !== undefined && outcome !== 'ok');

/**
 * Walks the wide spans that have such times, in order, and of each the records that an index finds in it, or else its spans
 * that have such times: a page reads no more than it needs.
 */
const byTime = (query: RecordQuery, where: string, values: unknown[]): string => {
  const { fromTime, toTime, host, after } = query;
  const place = (value: string): string => `$${values.push(value)}`;
  const times = [
    ...(fromTime === undefined ? [] : [` AND greatest >= ${place(fromTime)}`]),
    ...(toTime === undefined ? [] : [` AND least < ${place(toTime)}`]),
  ].join('');
  const origins = [
    ...(host === undefined ? [] : [` AND origin > ${place(`${host}/`)} AND origin < ${place(`${host}0`)}`]),
    ...(after === undefined ? [] : [` AND origin >= ${place(after.origin)}`]),
  ].join('');
  const recordsIn = (span: string, size: number): string => `SELECT ${RECORD} FROM mortise.records
    WHERE tenant_id = $1 AND origin = w.origin AND idx >= ${span}.at * ${size} AND idx < (${span}.at + 1) * ${size}${where}
    ORDER BY idx`;
  const bySpan = `SELECT f.* FROM
    (SELECT at FROM mortise.spans WHERE tenant_id = $1 AND origin = w.origin AND level = 1
      AND at >= w.at * ${SPAN} AND at < (w.at + 1) * ${SPAN}${times} ORDER BY at) s
    CROSS JOIN LATERAL (${recordsIn('s', SPAN)}) f`;
  return `SELECT w.origin, r.* FROM
    (SELECT origin, at FROM mortise.spans WHERE tenant_id = $1 AND level = 2${times}${origins} ORDER BY origin, at) w
    CROSS JOIN LATERAL (${isFound(query) ? recordsIn('w', WIDE_SPAN) : bySpan}) r
    ORDER BY w.origin, w.at, r.index LIMIT $2`;
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
        return appendTo(session, tenant, append);
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
