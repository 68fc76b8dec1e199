// Every business event of the registry, one function each: it writes log and metric together. The rooms declare what they
// report as …Events interfaces, which these objects fit by structure. Invariant: no event ever throws.
import { guarded } from '../../agent/telemetry/guarded.ts';
import { createThrottle } from '../../agent/telemetry/throttle.ts';
import { catalogEvents } from './events/catalog.ts';
import { hostEvents } from './events/hosts.ts';
import { ledgerEvents } from './events/ledger.ts';
import { policyEvents } from './events/policies.ts';
import { registryEvents } from './events/registry.ts';
import { serverEvents } from './events/server.ts';
import { sessionEvents } from './events/sessions.ts';
import { storeEvents } from './events/store.ts';
import type { Metrics } from './metrics.ts';
import type { Telemetry } from './telemetry.ts';

export const createEvents = ({
  logger,
  metrics,
}: {
  readonly logger: Telemetry['logger'];
  readonly metrics: Metrics;
}) => {
  const telemetry: Telemetry = { logger, metrics, throttle: createThrottle() };
  const failed = (): void => metrics.count('eventsFailed', {});
  metrics.gauge('logDropped', () => logger.dropped());
  return {
    server: guarded(serverEvents(telemetry), failed),
    hosts: guarded(hostEvents(telemetry), failed),
    catalog: guarded(catalogEvents(telemetry), failed),
    ledger: guarded(ledgerEvents(telemetry), failed),
    policies: guarded(policyEvents(telemetry), failed),
    registry: guarded(registryEvents(telemetry), failed),
    sessions: guarded(sessionEvents(telemetry), failed),
    store: guarded(storeEvents(telemetry), failed),
    /** Where the rooms' gauges are read. */
    gauges: {
      hostsConnected: (read: () => number) => metrics.gauge('hostsConnected', read),
      policyWatchers: (read: () => number) => metrics.gauge('policyWatchers', read),
    },
  };
};
export type Events = ReturnType<typeof createEvents>;
