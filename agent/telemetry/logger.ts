// The log: one event, one JSON line. Invariant: only fields of a program's table are written, so that a new field is a
// decision and no object with a secret in it can be logged by mistake; a stuck reader of the log never stops the program.
import { pino } from 'pino';
import { describeError } from './describe-error.ts';

/** Every field that a line may have, besides time, level, message and `error`, with its meaning. */
export type FieldTable = Readonly<Record<string, string>>;
export type FieldsOf<Table extends FieldTable> = { readonly [Name in keyof Table]?: FieldValue } & {
  readonly error?: unknown;
};
type FieldValue = string | number | boolean | undefined | readonly string[] | Readonly<Record<string, number>>;

export const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type Level = (typeof LEVELS)[number];

export interface Logger<Table extends FieldTable> {
  log(level: Level, message: string, fields?: FieldsOf<Table>): void;
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
export const pickFields = <Table extends FieldTable>(
  table: Table,
  fields: FieldsOf<Table>,
): Record<string, unknown> => {
  const line: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (name === 'error') line['error'] = describeError(value);
    else if (Object.hasOwn(table, name)) line[name] = bounded(value as FieldValue);
  }
  return line;
};

export interface LoggerOptions<Table extends FieldTable> {
  readonly level: string;
  readonly table: Table;
  /** What every line says of the program that wrote it. */
  readonly base: Readonly<Record<string, string>>;
  /** File descriptor or path; standard output by default. */
  readonly destination?: number | string;
}

export const createLogger = <Table extends FieldTable>({
  level,
  table,
  base,
  destination = 1,
}: LoggerOptions<Table>): Logger<Table> => {
  let dropped = 0;
  // Asynchronous, because a synchronous write to a full pipe would stop the event loop for as long as its reader likes.
  const stream = pino.destination({ dest: destination, sync: false, minLength: 0, maxLength: MAX_BACKLOG_BYTES });
  const drop = (): void => {
    dropped += 1;
  };
  // 'error' is EPIPE and the like: the program goes on without its log, and the metric says so.
  stream.on('drop', drop).on('error', drop);
  const sink = pino(
    {
      level,
      base,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
  return {
    log: (lineLevel, message, fields) => {
      if (sink.isLevelEnabled(lineLevel))
        sink[lineLevel](fields === undefined ? {} : pickFields(table, fields), message);
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
