// The one table of metrics: name, kind, labels, meaning. docs/telemetry.md prints it and a test compares the two.
// Label values are closed sets; `tenant` is bounded in metrics.ts.

export interface MetricRow {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
}

export const METRICS = {
  operations: {
    name: 'mortise_operations_total',
    type: 'counter',
    labels: ['tenant', 'operation', 'outcome'],
    help: 'Operations finished, by outcome: ok or an error code.',
  },
  duration: {
    name: 'mortise_operation_duration_seconds',
    type: 'histogram',
    labels: ['operation'],
    help: 'Time of an operation from authentication to its recorded answer.',
  },
  stage: {
    name: 'mortise_stage_duration_seconds',
    type: 'histogram',
    labels: ['stage'],
    help: 'Time in one stage: queue (before a session was free), token (in the token process), audit (until the record is durable).',
  },
  auditSuspended: {
    name: 'mortise_audit_suspended_total',
    type: 'counter',
    labels: ['tenant', 'operation'],
    help: 'Operations that went on unrecorded because policy lets them while the audit log cannot be written.',
  },
  ready: {
    name: 'mortise_part_healthy',
    type: 'gauge',
    labels: ['part'],
    help: '1 where the part (policy, keys, token, audit) does its work, else 0.',
  },
  startTime: {
    name: 'mortise_start_time_seconds',
    type: 'gauge',
    labels: [],
    help: 'When the agent started, seconds since 1970.',
  },
  startDuration: {
    name: 'mortise_start_duration_seconds',
    type: 'gauge',
    labels: [],
    help: 'From the start of the process to the first call that could be answered.',
  },
  logDropped: {
    name: 'mortise_log_lines_dropped',
    type: 'gauge',
    labels: [],
    help: 'Log lines dropped since the start because the reader of the log was too slow or gone.',
  },
  eventsFailed: {
    name: 'mortise_telemetry_errors_total',
    type: 'counter',
    labels: [],
    help: 'Events that telemetry itself could not handle. Always 0 unless the agent has a fault.',
  },
} as const satisfies Record<string, MetricRow>;
