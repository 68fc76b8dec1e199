// The ledger: records taken, logs opened, logs that do not fit.
import type { Telemetry } from '../telemetry.ts';

export const ledgerEvents = ({ logger, metrics }: Telemetry) => ({
  ingested: ({ origin, records, milliseconds }: { origin: string; records: number; milliseconds: number }): void => {
    metrics.count('ledgerRecords', {}, records);
    logger.log('debug', 'records taken', { origin, records, durationMs: Math.round(milliseconds) });
  },

  opened: ({ origin, others }: { origin: string; others: number }): void =>
    logger.log(others === 0 ? 'info' : 'warn', others === 0 ? 'log opened' : 'a host began a log anew', {
      origin,
      count: others,
    }),

  refused: (event: { origin: string; code: string; index: number; size: number; reason: string }): void => {
    metrics.count('ledgerRefusals', { code: event.code });
    logger.log('error', 'a log does not fit the ledger', event);
  },

  unrecorded: ({ origin, cause }: { origin: string; cause: unknown }): void =>
    logger.log('error', "a refusal is not in the registry's own log", { origin, error: cause }),
});
