// Every business event of the agent, one function each: it writes log and metric together. The rooms declare what they
// report as …Events interfaces, which these objects fit by structure. Invariant: no event ever throws.
import { agentEvents } from './events/agent.ts';
import { auditEvents } from './events/audit.ts';
import { keysEvents } from './events/keys.ts';
import { operationEvents } from './events/operations.ts';
import { policyEvents } from './events/policy.ts';
import { serverEvents } from './events/server.ts';
import { tokenEvents } from './events/token.ts';
import { uplinkEvents } from './events/uplink.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import type { Telemetry } from './telemetry.ts';
import { createThrottle } from './throttle.ts';

/** The same functions, but a fault in one is counted and goes no further. */
export const guarded = <T extends object>(events: T, metrics: Metrics): T => {
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
  const ofToken = tokenEvents(telemetry);
  return {
    operations: guarded(operationEvents(telemetry), metrics),
    token: (name: string) => guarded(ofToken(name), metrics),
    audit: guarded(auditEvents(telemetry), metrics),
    policy: guarded(policyEvents(telemetry), metrics),
    keys: guarded(keysEvents(telemetry), metrics),
    server: guarded(serverEvents(telemetry), metrics),
    agent: guarded(agentEvents(telemetry), metrics),
    uplink: guarded(uplinkEvents(telemetry), metrics),
  };
};
export type Events = ReturnType<typeof createEvents>;
