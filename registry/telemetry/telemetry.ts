// What every event function writes to.
import type { Logger } from '../../agent/telemetry/logger.ts';
import type { Throttle } from '../../agent/telemetry/throttle.ts';
import type { FIELDS } from './log-fields.ts';
import type { Metrics } from './metrics.ts';

export interface Telemetry {
  readonly logger: Logger<typeof FIELDS>;
  readonly metrics: Metrics;
  readonly throttle: Throttle;
}
