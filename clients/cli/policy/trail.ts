// Where a rehearsal takes its records from: the log of the caller's tenant over the socket, or a file of JSON lines as
// `mortise audit tail --output json` prints them. Invariant: one page, or one line, is in memory.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { AuditRecord, CallOptions, MortiseClient } from '../../typescript/index.ts';
import { CliError } from '../exit-codes.ts';
import { STREAM } from '../files.ts';
import type { Io } from '../io.ts';
import type { TrailRecord } from './trail-question.ts';

export interface Window {
  readonly since: Date | undefined;
  readonly until: Date | undefined;
}

/** A record, and how much of the trail is done with it. */
export interface Step {
  readonly record: TrailRecord;
  readonly done: number;
  readonly size: number | undefined;
}

const PAGE = 1000;
const MAX_LINE = 64 * 1024; // no record has so many characters, with its canonical form beside it
const FIELDS = ['tenant', 'principal', 'key', 'algorithm', 'operation', 'outcome', 'time', 'detail'] as const;

const isBefore = (record: TrailRecord, time: Date | undefined): boolean =>
  time !== undefined && Date.parse(record.time) < time.getTime();
const isIn = (record: TrailRecord, { since, until }: Window): boolean =>
  !isBefore(record, since) && (until === undefined || isBefore(record, until));

/** The first position at or after a time; times of a log do not go backwards but where the clock was set back. */
const positionOf = async (client: MortiseClient, since: Date, size: number, call: CallOptions): Promise<number> => {
  let [low, high] = [0, size];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const [record] = (await client.audit.records({ from: middle, pageSize: 1 }, call)).records;
    if (record !== undefined && isBefore(record, since)) low = middle + 1;
    else high = middle;
  }
  return low;
};

/** The log as long as it is now: reading it adds to it. */
export async function* trailOfAgent(client: MortiseClient, window: Window, call: CallOptions): AsyncGenerator<Step> {
  const { size } = await client.audit.records({ newest: true, pageSize: 1 }, call);
  const start = window.since === undefined ? 0 : await positionOf(client, window.since, size, call);
  for (let from = start; from < size; ) {
    const { records }: { readonly records: readonly AuditRecord[] } = await client.audit.records(
      { from, pageSize: Math.min(PAGE, size - from) },
      call,
    );
    if (records.length === 0) return;
    for (const record of records) {
      from = record.index + 1;
      if (window.until !== undefined && !isBefore(record, window.until)) return;
      if (isIn(record, window)) yield { record, done: from - start, size: size - start };
    }
  }
}

const parseRecord = (line: string, at: string): TrailRecord => {
  const wrong = (why: string): CliError => new CliError('usage', `${at}: ${why}; expected an audit record in JSON`);
  if (line.length > MAX_LINE) throw wrong('the line is too long');
  let value: unknown;
  try {
    value = JSON.parse(line);
    if (typeof (value as TrailRecord | null)?.detail === 'string' && (value as TrailRecord).detail !== '') {
      JSON.parse((value as TrailRecord).detail);
    }
  } catch {
    throw wrong('this is not JSON');
  }
  const record = value as Record<string, unknown> | null;
  if (typeof record !== 'object' || record === null) throw wrong('this is no object');
  for (const name of FIELDS) if (typeof record[name] !== 'string') throw wrong(`it has no "${name}"`);
  if (Number.isNaN(Date.parse(record['time'] as string))) throw wrong('its time is none');
  return record as unknown as TrailRecord;
};

export async function* trailOfFile(io: Io, path: string, window: Window): AsyncGenerator<Step> {
  const name = path === STREAM ? 'standard input' : path;
  try {
    const size = path === STREAM ? undefined : (await stat(path)).size;
    const input = path === STREAM ? io.stdin : createReadStream(path);
    let [number, done] = [0, 0];
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      number += 1;
      done += Buffer.byteLength(line) + 1;
      if (line.trim() === '') continue;
      const record = parseRecord(line, `${name}:${number}`);
      if (isIn(record, window)) yield { record, done, size };
    }
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    throw new CliError('failure', `cannot read ${name}: ${(cause as Error).message}`, cause);
  }
}
