// What every event function writes to, and the level that fits an error code.
import type { FIELDS } from './log-fields.ts';
import type { Level, Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import type { Throttle } from './throttle.ts';

export interface Telemetry {
  readonly logger: Logger<typeof FIELDS>;
  readonly metrics: Metrics;
  readonly throttle: Throttle;
}

/** The level at which the failure of a call is logged: faults of callers are in the audit trail, ours must be seen. */
export const levelOf = (code: string): Level => {
  if (code === 'INTERNAL' || code === 'AUDIT_CORRUPT') return 'error';
  return /^(HSM|AUDIT|STORE|REGISTRY)_/.test(code) || code === 'POLICY_STALE' ? 'warn' : 'debug';
};
