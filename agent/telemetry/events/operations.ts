// Operations: their outcome, their time, and those that went on unrecorded.
import { levelOf, type Telemetry } from '../telemetry.ts';

export const operationEvents = ({ logger, metrics, throttle }: Telemetry) => ({
  finished: (event: {
    tenant: string;
    operation: string;
    outcome: string;
    startedAt: number;
    error?: unknown;
  }): void => {
    const { tenant, operation, outcome, startedAt, error } = event;
    const durationMs = performance.now() - startedAt;
    metrics.count('operations', { tenant, operation, outcome });
    metrics.observe('duration', { operation }, durationMs / 1000);
    const level = outcome === 'ok' ? 'debug' : levelOf(outcome);
    if (!logger.isLogged(level)) return;
    const suppressed = level === 'debug' ? 0 : throttle.admit(`operation ${outcome}`);
    if (suppressed === undefined) return;
    logger.log(level, outcome === 'ok' ? 'operation done' : 'operation refused or failed', {
      tenant,
      operation,
      outcome,
      durationMs: Math.round(durationMs * 1000) / 1000,
      ...(suppressed > 0 && { suppressed }),
      ...(error !== undefined && { error }),
    });
  },

  wrongResult: ({ tenant, key, algorithm }: { tenant: string; key: string; algorithm: string }): void => {
    metrics.count('wrongResults', { tenant });
    logger.log('error', 'token gave a wrong result, which was kept back', { tenant, key, reason: algorithm });
  },

  auditSuspended: ({ tenant, operation, cause }: { tenant: string; operation: string; cause: unknown }): void => {
    metrics.count('auditSuspended', { tenant, operation });
    const suppressed = throttle.admit('audit suspended');
    if (suppressed === undefined) return;
    logger.log('error', 'operation went on unrecorded, as policy allows', {
      tenant,
      operation,
      suppressed,
      error: cause,
    });
  },

  randomSourceFailed: ({ source, cause }: { source: 'token' | 'operating-system'; cause: unknown }): void => {
    metrics.count('randomDegraded', { source });
    const suppressed = throttle.admit(`random ${source}`);
    if (suppressed === undefined) return;
    logger.log('warn', 'random bytes were made without one source', { reason: source, suppressed, error: cause });
  },
});
