// The log: one event, one JSON line. Invariant: only fields of the table below are written, so that a new field is a
// decision and no object with a secret in it can be logged by mistake; a stuck reader of the log never stops the registry.
import { pino } from 'pino';
import { describeError } from './describe-error.ts';

/** Every field that a line may have, besides time, level, message and `error`. */
export const FIELDS = {
  tenant: 'tenant concerned, or _platform',
  tenants: 'tenants concerned',
  host: 'host id',
  admin: "administrator's name",
  client: 'host/<id>, admin/<name>, or the address of a client without a certificate',
  operation: 'RPC or event of the audit trail',
  outcome: 'ok or an error code',
  code: 'error code of the table in registry/errors.ts',
  correlationId: 'finds the call',
  key: 'key id',
  origin: 'audit log: <host>/<tenant>/<generation>',
  part: 'store, policies, catalog or ledger',
  reason: 'why, in words',
  remedy: 'what to do',
  path: 'file or folder',
  address: 'address listened on',
  version: 'of the registry or of a policy',
  previous: 'version before',
  digest: 'SHA-256 of a policy, lower-case hex',
  serial: 'serial number of a certificate, lower-case hex',
  expires: 'when a certificate or token ends',
  signal: 'signal received',
  size: 'records in a log',
  index: 'position in a log',
  records: 'number of records',
  count: 'how many',
  pid: 'process id',
  durationMs: 'milliseconds that it took',
  suppressed: 'like lines left out since the last one',
} as const;

export type Fields = { readonly [K in keyof typeof FIELDS]?: FieldValue } & { readonly error?: unknown };
type FieldValue = string | number | boolean | undefined | readonly string[];

export const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type Level = (typeof LEVELS)[number];

export interface Logger {
  log(level: Level, message: string, fields?: Fields): void;
  isLogged(level: Level): boolean;
  /** Writes what is still in memory, blocking. For the end of the process. It may overtake a write that is under way. */
  flush(): void;
  /** Lines that were dropped since the start because the reader of the log was too slow or gone. */
  dropped(): number;
}

const MAX_FIELD_LENGTH = 1024;
const MAX_BACKLOG_BYTES = 8 * 1024 * 1024; // lines kept for a slow reader; more are dropped and counted

const bounded = (value: FieldValue): FieldValue => {
  if (typeof value === 'string' && value.length > MAX_FIELD_LENGTH) return `${value.slice(0, MAX_FIELD_LENGTH)}…`;
  if (Array.isArray(value)) return value.slice(0, 64).map((item) => bounded(String(item)) as string);
  return value;
};

/** The fields that may be written, bounded. `error` becomes plain data. */
export const pickFields = (fields: Fields): Record<string, unknown> => {
  const line: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (name === 'error') line['error'] = describeError(value);
    else if (name in FIELDS) line[name] = bounded(value as FieldValue);
  }
  return line;
};

export interface LoggerOptions {
  readonly level: string;
  readonly replica: string;
  /** File descriptor or path; standard output by default. */
  readonly destination?: number | string;
}

export const createLogger = ({ level, replica, destination = 1 }: LoggerOptions): Logger => {
  let dropped = 0;
  // Asynchronous, because a synchronous write to a full pipe would stop the event loop for as long as its reader likes.
  const stream = pino.destination({ dest: destination, sync: false, minLength: 0, maxLength: MAX_BACKLOG_BYTES });
  const drop = (): void => {
    dropped += 1;
  };
  // 'error' is EPIPE and the like: the registry goes on without its log, and the metric says so.
  stream.on('drop', drop).on('error', drop);
  const sink = pino(
    {
      level,
      base: { replica },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
  return {
    log: (lineLevel, message, fields) => {
      if (sink.isLevelEnabled(lineLevel)) sink[lineLevel](fields === undefined ? {} : pickFields(fields), message);
    },
    isLogged: (lineLevel) => sink.isLevelEnabled(lineLevel),
    flush: () => {
      try {
        stream.flushSync();
      } catch {
        drop(); // the reader is gone; there is nowhere left to say it
      }
    },
    dropped: () => dropped,
  };
};
