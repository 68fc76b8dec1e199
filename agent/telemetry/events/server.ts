// The socket: connections, calls, credentials that were refused.
import { levelOf, type Telemetry } from '../telemetry.ts';

interface Peer {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

interface CallFinished {
  readonly method: string;
  readonly code: string;
  readonly startedAt: number;
  readonly correlationId: string;
  readonly tenant: string | undefined;
  readonly error?: unknown;
}

export const serverEvents = ({ logger, metrics, throttle }: Telemetry) => {
  let open = 0;
  metrics.gauge('connections', () => open);
  const connection = (event: { peer: Peer; open: number }): void => {
    open = event.open;
  };
  return {
    listening: ({ socket }: { socket: string }): void => logger.log('info', 'listening', { path: socket }),

    drained: ({ callsCutOff }: { callsCutOff: boolean }): void =>
      logger.log(callsCutOff ? 'warn' : 'info', callsCutOff ? 'calls were cut off by the end of the drain' : 'drained'),

    connectionOpened: connection,
    connectionClosed: connection,

    connectionCut: ({ reason, peer, cause }: { reason: string; peer: Peer | undefined; cause?: unknown }): void => {
      metrics.count('connectionsCut', { reason });
      const suppressed = throttle.admit(`cut ${reason}`);
      if (suppressed === undefined) return;
      logger.log('warn', 'connection refused or cut', {
        reason,
        suppressed,
        ...(peer && { uid: peer.uid, gid: peer.gid, pid: peer.pid }),
        ...(cause !== undefined && { error: cause }),
      });
    },

    callFinished: ({ method, code, startedAt, correlationId, tenant, error }: CallFinished): void => {
      metrics.count('rpcs', { method, code });
      const level = code === 'ok' ? 'trace' : code === 'INTERNAL' ? 'error' : 'debug';
      if (!logger.isLogged(level)) return;
      const durationMs = Math.round((performance.now() - startedAt) * 1000) / 1000;
      logger.log(level, 'call ended', { operation: method, code, durationMs, correlationId, tenant, error });
    },

    /** A credential was refused; the reason never leaves the agent. */
    refused: ({ code, reason, peer }: { code: string; reason: string; peer: Peer }): void => {
      metrics.count('authenticationFailures', { code });
      const suppressed = throttle.admit(`refused ${code} ${peer.uid}`);
      if (suppressed === undefined) return;
      const level = levelOf(code) === 'debug' ? 'info' : 'warn';
      logger.log(level, 'credentials refused', {
        code,
        reason,
        suppressed,
        uid: peer.uid,
        gid: peer.gid,
        pid: peer.pid,
      });
    },
  };
};
