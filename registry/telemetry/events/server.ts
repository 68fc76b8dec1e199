// The socket: connections, calls, refusals.
import type { Telemetry } from '../telemetry.ts';

interface CallFinished {
  readonly method: string;
  readonly code: string;
  readonly streams: boolean;
  readonly durationMs: number;
  readonly correlationId: string;
  readonly client: string;
  readonly error?: unknown;
}

export const serverEvents = ({ logger, metrics, throttle }: Telemetry) => {
  let open = 0;
  metrics.gauge('connections', () => open);
  const connection = (event: { client: string; open: number }): void => {
    open = event.open;
  };
  return {
    listening: ({ address }: { address: string }): void => logger.log('info', 'listening', { address }),

    drained: ({ callsCutOff }: { callsCutOff: boolean }): void =>
      logger.log(callsCutOff ? 'warn' : 'info', callsCutOff ? 'calls were cut off by the end of the drain' : 'drained'),

    connectionOpened: connection,
    connectionClosed: connection,

    connectionCut: ({ reason, client, cause }: { reason: string; client: string; cause?: unknown }): void => {
      metrics.count('connectionsCut', { reason });
      const suppressed = throttle.admit(`cut ${reason}`);
      if (suppressed === undefined) return;
      const level = reason === 'HANDSHAKE' ? 'info' : 'warn';
      logger.log(level, 'connection refused or cut', {
        reason,
        suppressed,
        client,
        ...(cause !== undefined && { error: cause }),
      });
    },

    callFinished: ({ method, code, streams, durationMs, correlationId, client, error }: CallFinished): void => {
      metrics.count('rpcs', { method, code });
      if (!streams) metrics.observe('duration', { method }, durationMs / 1000);
      if (code === 'STORE_UNAVAILABLE') metrics.count('storeFailures', {});
      const level = code === 'INTERNAL' ? 'error' : code === 'STORE_UNAVAILABLE' ? 'warn' : 'debug';
      if (!logger.isLogged(level)) return;
      const fields = {
        operation: method,
        code,
        durationMs: Math.round(durationMs * 1000) / 1000,
        correlationId,
        client,
      };
      logger.log(level, 'call ended', { ...fields, ...(error !== undefined && { error }) });
    },

    refused: (event: { method: string; code: string; client: string; correlationId: string; reason: string }): void => {
      metrics.count('refusals', { code: event.code });
      const suppressed = throttle.admit(`refused ${event.code} ${event.client}`);
      if (suppressed === undefined) return;
      const { method: operation, code, client, correlationId, reason } = event;
      logger.log('warn', 'refused', { operation, code, client, correlationId, reason, suppressed });
    },
  };
};
