// The store: away, back.
import type { Telemetry } from '../telemetry.ts';

export const storeEvents = ({ logger, throttle }: Telemetry) => ({
  failed: ({ cause }: { cause: unknown }): void => {
    const suppressed = throttle.admit('store failed');
    if (suppressed === undefined) return;
    logger.log('error', 'the store cannot be reached or written', { suppressed, error: cause });
  },

  reconnected: ({ waitMs }: { waitMs: number }): void =>
    logger.log('warn', 'the store tells of changes again; everything is looked at anew', { durationMs: waitMs }),
});
