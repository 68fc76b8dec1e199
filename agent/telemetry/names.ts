// The one table of metrics: name, kind, labels, meaning. docs/telemetry.md prints it and a test compares the two.
// Label values are closed sets; `tenant` is bounded in metrics.ts, `token` is a
// name of the configuration.

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
  wrongResults: {
    name: 'mortise_wrong_results_total',
    type: 'counter',
    labels: ['tenant'],
    help: 'Signatures that did not verify and were kept back; only where policy has them checked.',
  },
  healthy: {
    name: 'mortise_part_healthy',
    type: 'gauge',
    labels: ['part'],
    help: '1 where the part (policy, keys, token, audit) does its work, else 0.',
  },
  rpcs: {
    name: 'mortise_rpcs_total',
    type: 'counter',
    labels: ['method', 'code'],
    help: 'Calls that ended, by RPC and ok or error code, refused ones included.',
  },
  connections: {
    name: 'mortise_connections_open',
    type: 'gauge',
    labels: [],
    help: 'Connections to the socket that are open.',
  },
  connectionsCut: {
    name: 'mortise_connections_cut_total',
    type: 'counter',
    labels: ['reason'],
    help: 'Connections that the agent refused or cut: TOO_MANY, TOO_MANY_OF_UID, SILENT, SLOW_READER, NO_PEER.',
  },
  authenticationFailures: {
    name: 'mortise_authentication_failures_total',
    type: 'counter',
    labels: ['code'],
    help: 'Credentials that were refused.',
  },
  tokenCalls: {
    name: 'mortise_token_calls_total',
    type: 'counter',
    labels: ['token', 'request', 'outcome'],
    help: 'Requests to the token process, by outcome: ok or an error code.',
  },
  tokenSessions: {
    name: 'mortise_token_sessions_open',
    type: 'gauge',
    labels: ['token'],
    help: 'Open sessions of the token.',
  },
  tokenShare: {
    name: 'mortise_token_session_share',
    type: 'gauge',
    labels: ['token'],
    help: 'Sessions that the registry lets this host open, that of the login included; not there for a token without a budget.',
  },
  tokenLeasesEnded: {
    name: 'mortise_token_session_leases_ended_total',
    type: 'counter',
    labels: ['token'],
    help: 'Times the lease of sessions ended because the registry did not answer.',
  },
  tokenQueue: {
    name: 'mortise_token_queue_length',
    type: 'gauge',
    labels: ['token'],
    help: 'Requests that wait for a session.',
  },
  tokenRestarts: {
    name: 'mortise_token_restarts_total',
    type: 'counter',
    labels: ['token'],
    help: 'Times the token process came back after it had ended unasked.',
  },
  tokenHangs: {
    name: 'mortise_token_hangs_total',
    type: 'counter',
    labels: ['token'],
    help: 'Times the token process was killed because a request did not come back in its budget.',
  },
  tokenStartFailures: {
    name: 'mortise_token_start_failures_total',
    type: 'counter',
    labels: ['token', 'reason'],
    help: 'Starts of the token process that failed, by reason; pin-refused and pin-locked need a person.',
  },
  tokenBreaker: {
    name: 'mortise_token_breaker_state',
    type: 'gauge',
    labels: ['token'],
    help: 'Whether calls reach the token: 0 closed, they do; 1 half-open, one is let through; 2 open, they are refused at once.',
  },
  tokenBreakerOpened: {
    name: 'mortise_token_breaker_opened_total',
    type: 'counter',
    labels: ['token'],
    help: 'Times the breaker opened because one call after the other failed in the token.',
  },
  randomDegraded: {
    name: 'mortise_random_degraded_total',
    type: 'counter',
    labels: ['source'],
    help: 'Refills of the random pool that went without one source: token or operating-system.',
  },
  auditRecords: {
    name: 'mortise_audit_records_total',
    type: 'counter',
    labels: [],
    help: 'Audit records committed.',
  },
  auditFailures: {
    name: 'mortise_audit_failures_total',
    type: 'counter',
    labels: [],
    help: 'Audit records that could not be written; their operations were refused.',
  },
  auditBacklog: {
    name: 'mortise_audit_backlog',
    type: 'gauge',
    labels: [],
    help: 'Audit records that wait to be durable.',
  },
  auditUsedBytes: {
    name: 'mortise_audit_store_used_bytes',
    type: 'gauge',
    labels: [],
    help: 'Size of the audit store.',
  },
  auditLimitBytes: {
    name: 'mortise_audit_store_limit_bytes',
    type: 'gauge',
    labels: [],
    help: 'Size at which the audit store takes no more records: the map size or what the disk leaves, whichever is less.',
  },
  auditCorrupt: {
    name: 'mortise_audit_corrupt_total',
    type: 'counter',
    labels: ['tenant'],
    help: 'Findings of an audit log that does not verify. Any value above 0 is an incident.',
  },
  checkpoints: {
    name: 'mortise_audit_checkpoints_total',
    type: 'counter',
    labels: ['outcome'],
    help: 'Checkpoints of audit logs: signed or failed.',
  },
  policyAge: {
    name: 'mortise_policy_age_seconds',
    type: 'gauge',
    labels: [],
    help: 'Time since the policy in force that was verified longest ago was last verified against its file.',
  },
  policiesInForce: {
    name: 'mortise_policies_in_force',
    type: 'gauge',
    labels: [],
    help: 'Signed policies in force: the platform policy and those of tenants.',
  },
  policyProblems: {
    name: 'mortise_policy_problems',
    type: 'gauge',
    labels: [],
    help: 'Policy files and parts that are refused or missing now.',
  },
  policyRefusals: {
    name: 'mortise_policy_refusals_total',
    type: 'counter',
    labels: ['code'],
    help: 'Policies, trust anchors and stored copies that were refused.',
  },
  policyAdoptions: {
    name: 'mortise_policy_adoptions_total',
    type: 'counter',
    labels: [],
    help: 'Policies that came into force.',
  },
  keyChanges: {
    name: 'mortise_key_changes_total',
    type: 'counter',
    labels: ['change'],
    help: 'Changes of keys: created, rotated, state, destroyed, shared, kek-created, kek-rotated, kek-destroyed.',
  },
  keyReplications: {
    name: 'mortise_key_replications_total',
    type: 'counter',
    labels: [],
    help: 'Changes of keys and KEKs that came from the registry, own ones included.',
  },
  keyFaults: {
    name: 'mortise_key_faults_total',
    type: 'counter',
    labels: ['fault'],
    help: 'Faults of key records, KEKs, wrapped blobs and token objects, by kind.',
  },
  dataKeys: {
    name: 'mortise_data_key_lookups_total',
    type: 'counter',
    labels: ['use', 'result'],
    help: 'Content keys looked for in memory, by use (encrypt, decrypt) and result (hit, miss); only where policy keeps them.',
  },
  unwrappedKeys: {
    name: 'mortise_unwrapped_key_lookups_total',
    type: 'counter',
    labels: ['result'],
    help: 'Private bytes of wrapped keys looked for in memory, by result (hit, miss); only where policy keeps them.',
  },
  storeFailures: {
    name: 'mortise_store_failures_total',
    type: 'counter',
    labels: ['part'],
    help: 'Writes to a local store (keys, policy) that failed.',
  },
  registryConnected: {
    name: 'mortise_registry_connected',
    type: 'gauge',
    labels: [],
    help: '1 while the agent is connected to its registry, else 0. Absent without a registry.',
  },
  registryConnections: {
    name: 'mortise_registry_connections_total',
    type: 'counter',
    labels: ['outcome'],
    help: 'Connections to the registry: ok, or lost (those that did not come about too).',
  },
  registryCertificateExpiry: {
    name: 'mortise_registry_certificate_expiry_seconds',
    type: 'gauge',
    labels: [],
    help: 'When the certificate for the registry ends, seconds since 1970.',
  },
  ledgerBacklog: {
    name: 'mortise_ledger_backlog_records',
    type: 'gauge',
    labels: [],
    help: 'Audit records that the registry has not acknowledged. Absent without a registry.',
  },
  ledgerRefusals: {
    name: 'mortise_ledger_refusals_total',
    type: 'counter',
    labels: ['code'],
    help: 'Audit logs that the registry refused, by its code. Any value above 0 is an incident.',
  },
  registryRewinds: {
    name: 'mortise_registry_rewinds_total',
    type: 'counter',
    labels: ['part'],
    help: 'Times the registry was found taken back to an older state, by part: ledger or catalog.',
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
