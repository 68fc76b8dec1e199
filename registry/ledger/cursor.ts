// Cursors of queries. Invariant: a cursor continues the very query that it came from, of the very tenant; it holds a place
// in a log and no right.
import { createHash } from 'node:crypto';
import { invalid } from '../errors.ts';
import type { RecordQuery } from './store.ts';

export type Filter = Omit<RecordQuery, 'after' | 'limit'>;
export type Place = NonNullable<RecordQuery['after']>;

const MAX_CURSOR = 1024;

const digestOf = (tenant: string, filter: Filter): string => {
  const members = Object.entries(filter)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256')
    .update(JSON.stringify([tenant, members]))
    .digest('base64url')
    .slice(0, 22);
};

export const cursorOf = (tenant: string, filter: Filter, { origin, index }: Place): string =>
  Buffer.from(JSON.stringify([digestOf(tenant, filter), origin, index])).toString('base64url');

/** Throws INVALID_REQUEST. */
export const placeOf = (tenant: string, filter: Filter, cursor: string): Place => {
  const refused = invalid('page_token', 'not one of this query');
  if (cursor.length > MAX_CURSOR) throw refused;
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    throw refused;
  }
  const [digest, origin, index] = Array.isArray(parsed) ? parsed : [];
  if (digest !== digestOf(tenant, filter) || typeof origin !== 'string' || !Number.isSafeInteger(index)) throw refused;
  return { origin, index };
};
