// The life of the process: which signal means what, and the end that comes whatever hangs. Invariant: the first SIGTERM
// or SIGINT drains; a second one, or the drain's deadline, ends the process with FORCED.

/** Exit codes, as in docs/operations.md. 64 and 78 are EX_USAGE and EX_CONFIG of sysexits.h. */
export const EXIT = { ok: 0, failure: 1, findings: 2, forced: 3, usage: 64, config: 78 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The part of `process` that is used, so that tests need not send signals to themselves. */
export type ProcessLike = Pick<NodeJS.Process, 'on' | 'off' | 'exit'>;

export interface LifecycleEvents {
  stopping(event: { signal: string }): void;
  forced(event: { reason: string }): void;
  uncaught(event: { error: unknown }): void;
}

export interface LifecycleOptions {
  readonly process: ProcessLike;
  readonly drainMs: number;
  readonly events: LifecycleEvents;
  /** SIGHUP. */
  reload(): void;
  /** Writes what the log still holds; called before an exit that comes by force. */
  flush(): void;
  /** Ends what would outlive an exit by force. */
  abandon(): void;
}

export interface Lifecycle extends Disposable {
  /** Resolves with the exit code once something says that the process should end. */
  readonly ended: Promise<ExitCode>;
  /** Asks for the end, as SIGTERM does. */
  stop(reason: string): void;
}

/** The shutdown of an uncaught error gets less time than a drain: the state is unknown, only the log's end matters. */
const CRASH_MS = 2_000;

export const watchProcess = ({ process, drainMs, events, reload, flush, abandon }: LifecycleOptions): Lifecycle => {
  const { promise: ended, resolve } = Promise.withResolvers<ExitCode>();
  let stopping = false;
  const force = (reason: string): never => {
    events.forced({ reason });
    abandon();
    flush();
    return process.exit(EXIT.forced);
  };
  const begin = (code: ExitCode, waitMs: number): void => {
    stopping = true;
    setTimeout(() => force(`not done after ${waitMs} ms`), waitMs).unref();
    resolve(code);
  };
  const stop = (signal: string): void => {
    if (stopping) force(`a second ${signal}`);
    events.stopping({ signal });
    begin(EXIT.ok, drainMs);
  };
  const crash = (error: unknown): void => {
    events.uncaught({ error });
    flush();
    if (!stopping) begin(EXIT.failure, CRASH_MS);
  };
  const onTerm = (): void => stop('SIGTERM');
  const onInt = (): void => stop('SIGINT');
  process.on('SIGTERM', onTerm).on('SIGINT', onInt).on('SIGHUP', reload);
  process.on('uncaughtException', crash).on('unhandledRejection', crash);
  return {
    ended,
    stop,
    [Symbol.dispose]: () => {
      process.off('SIGTERM', onTerm).off('SIGINT', onInt).off('SIGHUP', reload);
      process.off('uncaughtException', crash).off('unhandledRejection', crash);
    },
  };
};
