// Policies: published, refused, unknown.
import type { Telemetry } from '../telemetry.ts';

export const policyEvents = ({ logger, metrics, throttle }: Telemetry) => ({
  policyPublished: (event: { tenant: string; version: number; digest: string; admin: string }): void => {
    metrics.count('policies', { outcome: 'ok' });
    logger.log('info', 'policy published', event);
  },

  policyRefused: (event: { tenant: string; code: string; reason: string; admin: string }): void => {
    metrics.count('policies', { outcome: event.code });
    logger.log('warn', 'policy refused', event);
  },

  policiesUnknown: ({ cause }: { cause: unknown }): void => {
    const suppressed = throttle.admit('policies unknown');
    if (suppressed === undefined) return;
    logger.log('error', 'the store does not say which policies are the newest', { suppressed, error: cause });
  },
});
