// Messages to a registry with what a test does not care about left empty.
import type { HeartbeatRequest } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import type { RecordFilter } from '../../proto/gen/mortise/registry/v1/ledger.ts';
import type { WatchPoliciesRequest } from '../../proto/gen/mortise/registry/v1/policies.ts';

export const aHeartbeat = (change: Partial<HeartbeatRequest> = {}): HeartbeatRequest => ({
  agentVersion: '',
  startTime: undefined,
  policies: [],
  catalogs: [],
  backlogs: [],
  parts: [],
  ...change,
});

export const aPolicyWatch = (change: Partial<WatchPoliciesRequest> = {}): WatchPoliciesRequest => ({
  tenants: [],
  known: [],
  ...change,
});

export const aFilter = (change: Partial<RecordFilter> = {}): RecordFilter => ({
  tenant: 'acme',
  fromTime: undefined,
  toTime: undefined,
  key: '',
  principal: '',
  operation: '',
  outcome: '',
  host: '',
  correlationId: '',
  ...change,
});
