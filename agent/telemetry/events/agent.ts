// The agent as a whole: start, health, stop.
import type { Telemetry } from '../telemetry.ts';

interface Waiting {
  readonly part: string;
  /** Name of the token that is away. */
  readonly token?: string;
  readonly reason: unknown;
  readonly waitMs: number | undefined;
}

interface CommandEnded {
  readonly command: string;
  readonly durationMs: number;
  readonly problem: string | undefined;
  readonly stderrBytes: number;
}

export const agentEvents = ({ logger, metrics }: Telemetry) => {
  const health = new Map<string, boolean>();
  let startedAt = 0;
  let startMs: number | undefined;
  metrics.gauge('healthy', () => [...health].map(([part, ok]) => ({ value: ok ? 1 : 0, labels: { part } })));
  metrics.gauge('startTime', () => startedAt / 1000);
  metrics.gauge('startDuration', () => (startMs === undefined ? [] : [{ value: startMs / 1000, labels: {} }]));
  return {
    starting: (event: { version: string; node: string; host: string; root: boolean; pid: number }): void => {
      startedAt = Date.now();
      logger.log('info', 'agent is starting', { version: event.version, reason: `Node ${event.node}`, pid: event.pid });
      if (event.root) logger.log('warn', 'agent runs as root, as MORTISE_ALLOW_ROOT allows; not for production');
    },

    configWarning: ({ warning }: { warning: string }): void =>
      logger.log('warn', 'configuration warning', { reason: warning }),

    dumpsAllowed: (): void =>
      logger.log('warn', 'the kernel refused to keep this process out of core dumps', {
        remedy: 'set LimitCORE=0 in the unit',
      }),

    ready: ({
      durationMs,
      path,
      stages,
    }: {
      durationMs: number;
      path: string;
      stages: Record<string, number>;
    }): void => {
      startMs = durationMs;
      logger.log('info', 'agent is READY', { durationMs: Math.round(durationMs), path, stages });
    },

    waiting: ({ part, token, reason, waitMs }: Waiting): void =>
      logger.log('error', 'agent cannot serve yet', {
        part,
        ...(token !== undefined && { token }),
        ...(waitMs !== undefined && { waitMs }),
        error: reason,
        remedy: 'see "The agent waits" in docs/operations.md; agent doctor tells more',
      }),

    /** The command that gives a PIN; what it wrote stays out of the log. */
    pinCommandEnded: ({ command, durationMs, problem, stderrBytes }: CommandEnded): void => {
      const wrote = stderrBytes === 0 ? {} : { reason: `it wrote ${stderrBytes} bytes to standard error` };
      if (problem === undefined) logger.log('debug', 'PIN command gave a PIN', { path: command, durationMs, ...wrote });
      else {
        const reason = `${problem}, with ${stderrBytes} bytes on standard error`;
        logger.log('error', 'PIN command failed', { path: command, durationMs, reason });
      }
    },

    healthChanged: ({ part, healthy, detail }: { part: string; healthy: boolean; detail: string }): void => {
      const known = health.get(part);
      health.set(part, healthy);
      if (known === healthy || (known === undefined && healthy)) return;
      logger.log(healthy ? 'info' : 'error', healthy ? 'part is healthy again' : 'part is not healthy', {
        part,
        reason: detail,
      });
    },

    recordFailed: ({ operation, cause }: { operation: string; cause: unknown }): void =>
      logger.log('error', 'event of the agent itself could not be recorded', { operation, error: cause }),

    startFailed: ({ error }: { error: unknown }): void => logger.log('fatal', 'agent cannot start', { error }),
    reloading: (): void => logger.log('info', 'reloading on SIGHUP'),
    metricsServed: ({ address }: { address: string }): void =>
      logger.log('info', 'metrics are served', { path: address }),
    stopping: ({ signal }: { signal: string }): void => logger.log('info', 'agent is stopping', { signal }),
    stopped: ({ durationMs }: { durationMs: number }): void =>
      logger.log('info', 'agent has stopped', { durationMs: Math.round(durationMs) }),
    forced: ({ reason }: { reason: string }): void => logger.log('fatal', 'agent is ended by force', { reason }),
    uncaught: ({ error }: { error: unknown }): void => logger.log('fatal', 'uncaught error', { error }),
    closeFailed: ({ cause }: { cause: unknown }): void =>
      logger.log('error', 'a part did not close well', { error: cause }),
  };
};
