// The one table of metrics: name, kind, labels, meaning. docs/registry.md prints it and a test compares the two. Label
// values are closed sets: no tenant, host or key is ever one.

export interface MetricRow {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
}

export const METRICS = {
  rpcs: {
    name: 'registry_rpcs_total',
    type: 'counter',
    labels: ['method', 'code'],
    help: 'Calls that ended, by RPC and ok or error code, refused ones included.',
  },
  duration: {
    name: 'registry_rpc_duration_seconds',
    type: 'histogram',
    labels: ['method'],
    help: 'Time of a call that is no stream.',
  },
  connections: {
    name: 'registry_connections_open',
    type: 'gauge',
    labels: [],
    help: 'TLS connections that are open.',
  },
  connectionsCut: {
    name: 'registry_connections_cut_total',
    type: 'counter',
    labels: ['reason'],
    help: 'Connections refused or cut: TOO_MANY, TOO_MANY_OF_CLIENT, SILENT, HANDSHAKE, REVOKED.',
  },
  refusals: {
    name: 'registry_refusals_total',
    type: 'counter',
    labels: ['code'],
    help: 'Credentials, tokens and rights that were refused.',
  },
  hostsConnected: {
    name: 'registry_hosts_connected',
    type: 'gauge',
    labels: [],
    help: 'Hosts with a heartbeat on this replica.',
  },
  certificates: {
    name: 'registry_certificates_issued_total',
    type: 'counter',
    labels: ['kind'],
    help: 'Certificates issued, by kind: host, admin or server.',
  },
  policies: {
    name: 'registry_policies_published_total',
    type: 'counter',
    labels: ['outcome'],
    help: 'Policies offered for publication, by outcome: ok or an error code.',
  },
  policyWatchers: {
    name: 'registry_policy_watchers',
    type: 'gauge',
    labels: [],
    help: 'Open watches of policies on this replica.',
  },
  catalogChanges: {
    name: 'registry_catalog_changes_total',
    type: 'counter',
    labels: ['outcome'],
    help: 'Entries offered to the catalogue, by outcome: ok or an error code.',
  },
  useLeases: {
    name: 'registry_use_leases_total',
    type: 'counter',
    labels: [],
    help: 'Slices of hard limits of uses that were granted to hosts.',
  },
  useLeasesForgotten: {
    name: 'registry_use_leases_forgotten_total',
    type: 'counter',
    labels: [],
    help: 'Slices that are no longer kept, because the host has had many newer ones of the key.',
  },
  sessionLeases: {
    name: 'registry_session_leases_total',
    type: 'counter',
    labels: ['outcome'],
    help: "Hosts' shares of session budgets as they were answered: kept, grown, shrunk or none (too few for all hosts).",
  },
  ledgerRecords: {
    name: 'registry_ledger_records_total',
    type: 'counter',
    labels: [],
    help: 'Audit records taken into the ledger.',
  },
  ledgerRefusals: {
    name: 'registry_ledger_refusals_total',
    type: 'counter',
    labels: ['code'],
    help: 'Logs that did not fit the ledger. LEDGER_FORKED, LEDGER_EDITED and LEDGER_REWOUND are incidents.',
  },
  storeFailures: {
    name: 'registry_store_failures_total',
    type: 'counter',
    labels: [],
    help: 'Calls that failed because the store could not be reached or written.',
  },
  healthy: {
    name: 'registry_part_healthy',
    type: 'gauge',
    labels: ['part'],
    help: '1 where the part (store, policies, catalog, ledger) does its work, else 0.',
  },
  startTime: {
    name: 'registry_start_time_seconds',
    type: 'gauge',
    labels: [],
    help: 'When the registry started, seconds since 1970.',
  },
  logDropped: {
    name: 'registry_log_lines_dropped',
    type: 'gauge',
    labels: [],
    help: 'Log lines dropped since the start because the reader of the log was too slow or gone.',
  },
  eventsFailed: {
    name: 'registry_telemetry_errors_total',
    type: 'counter',
    labels: [],
    help: 'Events that telemetry itself could not handle. Always 0 unless the registry has a fault.',
  },
} as const satisfies Record<string, MetricRow>;
