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
import { guarded } from './guarded.ts';
import type { Metrics } from './metrics.ts';
import type { Telemetry } from './telemetry.ts';
import { createThrottle } from './throttle.ts';

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
  const ofToken = tokenEvents(telemetry);
  return {
    operations: guarded(operationEvents(telemetry), failed),
    token: (name: string) => guarded(ofToken(name), failed),
    audit: guarded(auditEvents(telemetry), failed),
    policy: guarded(policyEvents(telemetry), failed),
    keys: guarded(keysEvents(telemetry), failed),
    server: guarded(serverEvents(telemetry), failed),
    agent: guarded(agentEvents(telemetry), failed),
    uplink: guarded(uplinkEvents(telemetry), failed),
  };
};
export type Events = ReturnType<typeof createEvents>;
