// The token process: its starts and ends, its calls, its queue.
import { levelOf, type Telemetry } from '../telemetry.ts';

interface CallFinished {
  readonly tenant: string;
  readonly request: string;
  readonly outcome: string;
  readonly queuedMs: number;
  readonly serviceMs: number;
  readonly detail?: string;
}

interface Exited {
  readonly pid: number;
  readonly code: number | null;
  readonly signal: string | null;
  readonly expected: boolean;
  readonly inFlight: number;
}

const lifeEvents = ({ logger, metrics, throttle }: Telemetry) => {
  let lost = false;
  return {
    tokenStarted: ({ pid }: { pid: number }): void => logger.log('debug', 'token process started', { pid }),

    tokenReady: (event: { pid: number; durationMs: number; label: string; model: string; restarts: number }): void => {
      const { pid, durationMs, label, restarts } = event;
      if (lost) metrics.count('tokenRestarts', {});
      lost = false;
      logger.log('info', 'token is ready', { pid, durationMs: Math.round(durationMs), label, restarts });
    },

    tokenExited: ({ pid, code, signal, expected, inFlight }: Exited): void => {
      const how = { ...(code !== null && { exitCode: code }), ...(signal !== null && { signal }) };
      if (expected) logger.log('debug', 'token process ended', { pid, ...how });
      else {
        lost = true;
        logger.log('error', 'token process ended unasked', { pid, inFlight, ...how });
      }
    },

    tokenHung: ({ pid, request, budgetMs }: { pid: number; request: string; budgetMs: number }): void => {
      metrics.count('tokenHangs', {});
      logger.log('error', 'token process hangs and is killed', { pid, operation: request, waitMs: budgetMs });
    },

    tokenRestarting: ({ attempt, delayMs, reason }: { attempt: number; delayMs: number; reason: string }): void =>
      logger.log('warn', 'token process is started again', { attempt, waitMs: delayMs, reason }),

    tokenStartFailed: ({ reason, detail }: { reason: string; detail: string }): void => {
      metrics.count('tokenStartFailures', { reason });
      const suppressed = throttle.admit(`token start ${reason}`);
      if (suppressed === undefined) return;
      logger.log('error', 'token cannot be reached', { reason: detail, state: reason, suppressed });
    },

    tokenLoginRefused: ({ reason, detail }: { reason: string; detail: string }): void => {
      metrics.count('tokenStartFailures', { reason });
      logger.log('fatal', 'token refused the PIN; it is not tried again until the agent is told to', {
        reason: detail,
        state: reason,
        remedy: 'put the right PIN in its file, then send SIGHUP or restart the agent',
      });
    },

    tokenOutput: ({ stream, line }: { stream: 'stdout' | 'stderr'; line: string }): void =>
      logger.log('warn', 'token process wrote a line', { part: 'token', label: stream, reason: line }),
  };
};

const callEvents = ({ logger, metrics, throttle }: Telemetry) => {
  let sessions = 0;
  let queue = 0;
  metrics.gauge('tokenSessions', () => sessions);
  metrics.gauge('tokenQueue', () => queue);
  return {
    tokenSessionFailed: ({ detail }: { detail: string }): void => {
      const suppressed = throttle.admit('token session');
      if (suppressed !== undefined) logger.log('warn', 'token session failed', { reason: detail, suppressed });
    },

    tokenCallFinished: ({ tenant, request, outcome, queuedMs, serviceMs, detail }: CallFinished): void => {
      metrics.count('tokenCalls', { request, outcome });
      metrics.observe('stage', { stage: 'queue' }, queuedMs / 1000);
      if (serviceMs > 0) metrics.observe('stage', { stage: 'token' }, serviceMs / 1000);
      if (outcome === 'ok') return;
      const level = levelOf(outcome);
      const suppressed = logger.isLogged(level) ? throttle.admit(`token ${request} ${outcome}`) : undefined;
      if (suppressed === undefined) return;
      logger.log(level, 'token request failed', {
        tenant,
        operation: request,
        outcome,
        suppressed,
        ...(detail !== undefined && { reason: detail }),
      });
    },

    tokenSessions: (open: number): void => {
      sessions = open;
    },

    tokenQueue: (waiting: number): void => {
      queue = waiting;
    },
  };
};

export const tokenEvents = (telemetry: Telemetry) => ({ ...lifeEvents(telemetry), ...callEvents(telemetry) });
