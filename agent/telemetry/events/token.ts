// The token processes: their starts and ends, calls, queues and breakers, each under the name of its token.
import { levelOf, type Telemetry } from '../telemetry.ts';

interface CallFinished {
  readonly tenant: string;
  readonly request: string;
  readonly outcome: string;
  readonly queuedMs: number;
  readonly serviceMs: number;
  readonly detail?: string;
}

interface Ready {
  readonly pid: number;
  readonly durationMs: number;
  readonly label: string;
  readonly model: string;
  readonly restarts: number;
  readonly lacks: readonly { readonly name: string; readonly why: string }[];
}

interface Exited {
  readonly pid: number;
  readonly code: number | null;
  readonly signal: string | null;
  readonly expected: boolean;
  readonly inFlight: number;
}

const lifeEvents = ({ logger, metrics, throttle }: Telemetry, token: string) => {
  let lost = false;
  return {
    tokenStarted: ({ pid }: { pid: number }): void => logger.log('debug', 'token process started', { token, pid }),

    tokenReady: (event: Ready): void => {
      const { pid, durationMs, label, restarts, lacks } = event;
      if (lost) metrics.count('tokenRestarts', { token });
      lost = false;
      logger.log('info', 'token is ready', { token, pid, durationMs: Math.round(durationMs), label, restarts });
      if (restarts > 0 || lacks.length === 0) return;
      const names = lacks.map(({ name, why }) => `${name}: ${why}`);
      logger.log('info', 'token cannot do all; such keys are wrapped by it or refused', { token, lacks: names });
    },

    tokenExited: ({ pid, code, signal, expected, inFlight }: Exited): void => {
      const how = { ...(code !== null && { exitCode: code }), ...(signal !== null && { signal }) };
      if (expected) logger.log('debug', 'token process ended', { token, pid, ...how });
      else {
        lost = true;
        logger.log('error', 'token process ended unasked', { token, pid, inFlight, ...how });
      }
    },

    tokenHung: ({ pid, request, budgetMs }: { pid: number; request: string; budgetMs: number }): void => {
      metrics.count('tokenHangs', { token });
      logger.log('error', 'token process hangs and is killed', { token, pid, operation: request, waitMs: budgetMs });
    },

    tokenRestarting: ({ attempt, delayMs, reason }: { attempt: number; delayMs: number; reason: string }): void =>
      logger.log('warn', 'token process is started again', { token, attempt, waitMs: delayMs, reason }),

    tokenStartFailed: ({ reason, detail }: { reason: string; detail: string }): void => {
      metrics.count('tokenStartFailures', { token, reason });
      const suppressed = throttle.admit(`token ${token} start ${reason}`);
      if (suppressed === undefined) return;
      logger.log('error', 'token cannot be reached', { token, reason: detail, state: reason, suppressed });
    },

    tokenLoginRefused: ({ reason, detail }: { reason: string; detail: string }): void => {
      metrics.count('tokenStartFailures', { token, reason });
      logger.log('fatal', 'token refused the PIN; it is not tried again until the agent is told to', {
        token,
        reason: detail,
        state: reason,
        remedy: 'put the right PIN in its file, then send SIGHUP or restart the agent',
      });
    },

    tokenOutput: ({ stream, line }: { stream: 'stdout' | 'stderr'; line: string }): void =>
      logger.log('warn', 'token process wrote a line', { token, part: 'token', label: stream, reason: line }),
  };
};

/** What the gauges read: one row for each token. */
interface Now {
  sessions: number;
  /** Undefined where nobody divides the token's sessions. */
  share?: number | undefined;
  queue: number;
  breaker: 'closed' | 'open' | 'half-open';
}
const BREAKER = { closed: 0, 'half-open': 1, open: 2 } as const;

const callEvents = ({ logger, metrics, throttle }: Telemetry, token: string, now: Now) => {
  return {
    tokenSessionFailed: ({ detail }: { detail: string }): void => {
      const suppressed = throttle.admit(`token ${token} session`);
      if (suppressed !== undefined) logger.log('warn', 'token session failed', { token, reason: detail, suppressed });
    },

    tokenCallFinished: ({ tenant, request, outcome, queuedMs, serviceMs, detail }: CallFinished): void => {
      metrics.count('tokenCalls', { token, request, outcome });
      metrics.observe('stage', { stage: 'queue' }, queuedMs / 1000);
      if (serviceMs > 0) metrics.observe('stage', { stage: 'token' }, serviceMs / 1000);
      if (outcome === 'ok') return;
      const level = levelOf(outcome);
      const suppressed = logger.isLogged(level) ? throttle.admit(`token ${token} ${request} ${outcome}`) : undefined;
      if (suppressed === undefined) return;
      logger.log(level, 'token request failed', {
        token,
        tenant,
        operation: request,
        outcome,
        suppressed,
        ...(detail !== undefined && { reason: detail }),
      });
    },

    tokenBreaker: (state: Now['breaker']): void => {
      if (state === 'open') metrics.count('tokenBreakerOpened', { token });
      now.breaker = state;
      const suppressed = throttle.admit(`token ${token} breaker`);
      if (suppressed === undefined || state === 'half-open') return;
      const [level, words] = state === 'open' ? (['warn', 'is opened'] as const) : (['info', 'is closed'] as const);
      logger.log(level, `breaker of the token ${words}`, { token, state, suppressed });
    },

    tokenSessions: (open: number): void => {
      now.sessions = open;
    },

    sessionShare: (event: { share: number; total: number; hosts: number } | undefined): void => {
      now.share = event?.share;
      if (event === undefined) {
        logger.log('info', 'the registry has no budget of sessions for the token', { token });
        return;
      }
      const { share, total, hosts } = event;
      const reason = `${total} are divided among ${hosts} hosts`;
      if (share > 0)
        logger.log('info', "this host's share of the token's sessions", { token, sessions: share, reason });
      else {
        const remedy = 'give the token a larger budget: mortise registry token-sessions set';
        logger.log('error', 'no sessions of the token are left for this host; it is not used', {
          token,
          reason,
          remedy,
        });
      }
    },

    sessionLeaseEnded: ({ fallback }: { fallback: number }): void => {
      metrics.count('tokenLeasesEnded', { token });
      logger.log('warn', 'the lease of sessions is over and the registry does not answer', {
        token,
        sessions: fallback,
      });
    },

    tokenQueue: (waiting: number): void => {
      now.queue = waiting;
    },
  };
};

/** The events of each token, by its name. */
export const tokenEvents = (telemetry: Telemetry) => {
  const rows = new Map<string, Now>();
  const samples = (read: (now: Now) => number) => () =>
    [...rows].map(([token, now]) => ({ value: read(now), labels: { token } }));
  telemetry.metrics.gauge(
    'tokenSessions',
    samples(({ sessions }) => sessions),
  );
  telemetry.metrics.gauge(
    'tokenQueue',
    samples(({ queue }) => queue),
  );
  telemetry.metrics.gauge(
    'tokenBreaker',
    samples(({ breaker }) => BREAKER[breaker]),
  );
  telemetry.metrics.gauge('tokenShare', () =>
    [...rows].flatMap(([token, { share }]) => (share === undefined ? [] : [{ value: share, labels: { token } }])),
  );
  return (token: string) => {
    const now: Now = { sessions: 0, queue: 0, breaker: 'closed' };
    rows.set(token, now);
    telemetry.metrics.count('tokenRestarts', { token }, 0); // so that a rate over it sees its first step
    return { ...lifeEvents(telemetry, token), ...callEvents(telemetry, token, now) };
  };
};
