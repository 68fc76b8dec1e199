// The registry as a whole: start, health, stop.
import type { Telemetry } from '../telemetry.ts';

export const registryEvents = ({ logger, metrics }: Telemetry) => {
  const health = new Map<string, boolean>();
  let startedAt = 0;
  metrics.gauge('healthy', () => [...health].map(([part, ok]) => ({ value: ok ? 1 : 0, labels: { part } })));
  metrics.gauge('startTime', () => startedAt / 1000);
  return {
    starting: ({ version, node, root, pid }: { version: string; node: string; root: boolean; pid: number }): void => {
      startedAt = Date.now();
      logger.log('info', 'registry is starting', { version, reason: `Node ${node}`, pid });
      if (root) logger.log('warn', 'registry runs as root, as REGISTRY_ALLOW_ROOT allows; not for production');
    },

    configWarning: ({ warning }: { warning: string }): void =>
      logger.log('warn', 'configuration warning', { reason: warning }),

    ready: ({ durationMs, address }: { durationMs: number; address: string }): void =>
      logger.log('info', 'registry is READY', { durationMs: Math.round(durationMs), address }),

    healthChanged: ({ part, healthy, detail }: { part: string; healthy: boolean; detail: string }): void => {
      const known = health.get(part);
      health.set(part, healthy);
      if (known === healthy || (known === undefined && healthy)) return;
      const text = healthy ? 'part is healthy again' : 'part is not healthy';
      logger.log(healthy ? 'info' : 'error', text, { part, reason: detail });
    },

    serverCertificate: ({ expiresAt }: { expiresAt: number }): void => {
      metrics.count('certificates', { kind: 'server' });
      logger.log('info', 'server certificate in use', { expires: new Date(expiresAt).toISOString() });
    },

    reloadFailed: ({ error }: { error: unknown }): void =>
      logger.log('error', 'the certificate files could not be read again; the old ones stay in use', { error }),

    recordFailed: ({ operation, cause }: { operation: string; cause: unknown }): void =>
      logger.log('error', 'a refusal could not be recorded', { operation, error: cause }),

    reloading: (): void => logger.log('info', 'reading certificate files again'),

    metricsServed: ({ address }: { address: string }): void => logger.log('info', 'metrics are served', { address }),

    startFailed: ({ error }: { error: unknown }): void => logger.log('fatal', 'registry cannot start', { error }),

    stopping: ({ signal }: { signal: string }): void => logger.log('info', 'registry is stopping', { signal }),

    forced: ({ reason }: { reason: string }): void => logger.log('fatal', 'ended by force', { reason }),

    uncaught: ({ error }: { error: unknown }): void => logger.log('fatal', 'uncaught error', { error }),

    stopped: ({ durationMs }: { durationMs: number }): void =>
      logger.log('info', 'registry has stopped', { durationMs: Math.round(durationMs) }),
  };
};
