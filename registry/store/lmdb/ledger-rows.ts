// Records of the ledger as they lie in LMDB, and what they are found by.
import { hash } from 'node:crypto';
import type { LogAppend, RecordFacts, RecordQuery, RecordRow } from '../../ledger/store.ts';
import { keyIdOf } from '../rules.ts';

export interface Stored extends RecordRow {
  readonly facts: RecordFacts;
}

/** A record as it lies in the environment: without names of members, which would be a quarter of its bytes. */
export type Packed = readonly [
  record: Buffer,
  mac: Buffer,
  ingestedAt: number,
  event: string,
  time: string,
  key: string,
  principal: string,
  operation: string,
  outcome: string,
  correlationId: string,
];

export const pack = ({ row, facts }: LogAppend['records'][number]): Packed => {
  const { event, time, key, principal, operation, outcome, correlationId } = facts;
  return [row.record, row.mac, row.ingestedAt, event, time, key, principal, operation, outcome, correlationId];
};

export const unpack = (index: number, packed: Packed): Stored => {
  const [record, mac, ingestedAt, event, time, key, principal, operation, outcome, correlationId] = packed;
  return { index, record, mac, ingestedAt, facts: { event, time, key, principal, operation, outcome, correlationId } };
};

export interface Place {
  readonly origin: string;
  readonly index: number;
}

const SHORT = /^[\x20-\x7e]{0,48}$/;

/** Values may be longer than a key of LMDB; most are short, and a hash costs more than a few bytes. */
export const digest = (value: string): string =>
  SHORT.test(value) ? `=${value}` : `#${hash('sha256', value, 'base64url').slice(0, 22)}`;

/** What a record is found by; "ok" is what most records have, so it is not worth a row. */
export const foundBy = ({ key, principal, operation, outcome, correlationId }: RecordFacts) => [
  ...(key === '-' ? [] : [['key', keyIdOf(key)] as const]),
  ...(outcome === 'ok' ? [] : [['outcome', outcome] as const]),
  ['principal', principal] as const,
  ['operation', operation] as const,
  ['correlation', correlationId] as const,
];

/** The narrowest index that the query can use. */
export const indexOf = ({ correlationId, key, outcome, principal, operation }: RecordQuery) => {
  if (correlationId !== undefined) return ['correlation', correlationId] as const;
  if (key !== undefined && key !== '-') return ['key', keyIdOf(key)] as const;
  if (outcome !== undefined && outcome !== 'ok') return ['outcome', outcome] as const;
  if (principal !== undefined) return ['principal', principal] as const;
  if (operation !== undefined) return ['operation', operation] as const;
  return undefined;
};

export const matches = (facts: RecordFacts, query: RecordQuery): boolean => {
  const { fromTime, toTime, key, principal, operation, outcome, correlationId } = query;
  if (fromTime !== undefined && facts.time < fromTime) return false;
  if (toTime !== undefined && facts.time >= toTime) return false;
  if (key !== undefined && facts.key !== key && keyIdOf(facts.key) !== key) return false;
  if (principal !== undefined && facts.principal !== principal) return false;
  if (operation !== undefined && facts.operation !== operation) return false;
  if (outcome !== undefined && facts.outcome !== outcome) return false;
  return correlationId === undefined || facts.correlationId === correlationId;
};

/** "<epoch>/<sequence>" by number. */
export const compareEvents = (a: string, b: string): number => {
  const [epochA = 0, sequenceA = 0] = a.split('/').map(Number);
  const [epochB = 0, sequenceB = 0] = b.split('/').map(Number);
  return epochA - epochB || sequenceA - sequenceB;
};
