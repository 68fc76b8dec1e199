// The log: one event, one JSON line. Invariant: only fields of the table below are written, so that a new field is a
// decision and no object with a secret in it can be logged by mistake; a stuck reader of the log never stops the agent.
import { pino } from 'pino';
import { describeError } from './describe-error.ts';

/** Every field that a line may have, besides time, level, message and `error`. docs/telemetry.md prints it. */
export const FIELDS = {
  tenant: 'tenant of the caller, or _platform',
  principal: 'who called',
  uid: 'user id of the peer, by the kernel',
  gid: 'group id of the peer, by the kernel',
  pid: 'process id of the peer, the token process or the agent',
  operation: 'operation name, as in the audit trail',
  outcome: 'ok or an error code',
  code: 'error code of the table in docs/errors.md',
  correlationId: 'finds the call in the audit trail',
  connection: 'number of the connection since the start',
  key: 'key id or key version',
  part: 'policy, keys, token, audit or server',
  state: 'what the part is now',
  reason: 'why, in words',
  remedy: 'what to do',
  path: 'file or socket',
  address: 'host and port of the registry',
  version: 'of the agent, a policy or a key',
  previous: 'version before',
  digest: 'SHA-256 of a policy, lower-case hex',
  scope: 'platform or tenant',
  host: 'host id',
  token: 'name of the token on this host',
  label: 'label of the token',
  library: 'PKCS#11 module',
  slot: 'slot id',
  abilities: 'what the token was proved to do',
  lacks: 'what it was found not to do, and why',
  sessions: 'sessions of the token',
  restarts: 'starts of the token process after the first',
  signal: 'signal received or that ended a process',
  exitCode: 'exit code of a process',
  rv: 'return value of a PKCS#11 function',
  pkcs11: 'PKCS#11 function',
  epoch: 'epoch of the audit log: grows with each start',
  size: 'records in an audit log',
  index: 'position in an audit log',
  records: 'number of records',
  inFlight: 'calls that were open',
  attempt: 'number of the try',
  waitMs: 'milliseconds until the next try',
  durationMs: 'milliseconds that it took',
  stages: 'milliseconds of each stage of the start',
  suppressed: 'like lines left out since the last one',
  variable: 'environment variable',
  limit: 'limit that was reached',
  count: 'how many',
} as const;

export type Fields = { readonly [K in keyof typeof FIELDS]?: FieldValue } & { readonly error?: unknown };
type FieldValue = string | number | boolean | undefined | readonly string[] | Readonly<Record<string, number>>;

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
  readonly host: string;
  /** File descriptor or path; standard output by default. */
  readonly destination?: number | string;
}

export const createLogger = ({ level, host, destination = 1 }: LoggerOptions): Logger => {
  let dropped = 0;
  // Asynchronous, because a synchronous write to a full pipe would stop the event loop for as long as its reader likes.
  const stream = pino.destination({ dest: destination, sync: false, minLength: 0, maxLength: MAX_BACKLOG_BYTES });
  const drop = (): void => {
    dropped += 1;
  };
  // 'error' is EPIPE and the like: the agent goes on without its log, and the metric says so.
  stream.on('drop', drop).on('error', drop);
  const sink = pino(
    {
      level,
      base: { host },
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
