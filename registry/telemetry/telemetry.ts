// What every event function writes to.
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import type { Throttle } from './throttle.ts';

export interface Telemetry {
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly throttle: Throttle;
}
