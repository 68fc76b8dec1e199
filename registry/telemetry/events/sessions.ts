// Session budgets: what hosts are given of them.
import type { Telemetry } from '../telemetry.ts';

export const sessionEvents = ({ logger, metrics }: Telemetry) => ({
  sessionsLeased: (event: {
    host: string;
    token: string;
    outcome: 'kept' | 'grown' | 'shrunk' | 'none';
    share: number;
    held: number;
    hosts: number;
  }): void => {
    const { host, token, outcome, share, held } = event;
    metrics.count('sessionLeases', { outcome });
    const level = outcome === 'none' ? 'warn' : outcome === 'kept' ? 'debug' : 'info';
    logger.log(level, 'sessions of a token leased', { host, token, outcome, count: share, size: held });
  },

  budgetSet: ({
    token,
    total,
    reserve,
    admin,
  }: {
    token: string;
    total: number;
    reserve: number;
    admin: string;
  }): void => logger.log('info', 'session budget set', { token, admin, count: total, reserve }),
});
