// Every business event of the registry, one function each: it writes log and metric together. The rooms declare what they
// report as …Events interfaces, which these objects fit by structure. Invariant: no event ever throws.

import { createThrottle } from '../../agent/telemetry/throttle.ts';
import { catalogEvents } from './events/catalog.ts';
import { hostEvents } from './events/hosts.ts';
import { ledgerEvents } from './events/ledger.ts';
import { policyEvents } from './events/policies.ts';
import { registryEvents } from './events/registry.ts';
import { serverEvents } from './events/server.ts';
import { storeEvents } from './events/store.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import type { Telemetry } from './telemetry.ts';

/** The same functions, but a fault in one is counted and goes no further. */
const guarded = <T extends object>(events: T, metrics: Metrics): T => {
  const safe: Record<string, unknown> = {};
  for (const [name, report] of Object.entries(events) as [string, (...event: unknown[]) => void][]) {
    safe[name] = (...event: unknown[]): void => {
      try {
        report(...event);
      } catch {
        metrics.count('eventsFailed', {});
      }
    };
  }
  return safe as T;
};

export const createEvents = ({ logger, metrics }: { readonly logger: Logger; readonly metrics: Metrics }) => {
  const telemetry: Telemetry = { logger, metrics, throttle: createThrottle() };
  metrics.gauge('logDropped', () => logger.dropped());
  return {
    server: guarded(serverEvents(telemetry), metrics),
    hosts: guarded(hostEvents(telemetry), metrics),
    catalog: guarded(catalogEvents(telemetry), metrics),
    ledger: guarded(ledgerEvents(telemetry), metrics),
    policies: guarded(policyEvents(telemetry), metrics),
    registry: guarded(registryEvents(telemetry), metrics),
    store: guarded(storeEvents(telemetry), metrics),
    /** Where the rooms' gauges are read. */
    gauges: {
      hostsConnected: (read: () => number) => metrics.gauge('hostsConnected', read),
      policyWatchers: (read: () => number) => metrics.gauge('policyWatchers', read),
    },
  };
};
export type Events = ReturnType<typeof createEvents>;
