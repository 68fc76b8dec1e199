// What every event function writes to.

import type { Throttle } from '../../agent/telemetry/throttle.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';

export interface Telemetry {
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly throttle: Throttle;
}
