// GetStatus: every part of the agent, with the policies that hold for the caller's tenant.
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';
import type { AgentState, StatusPort } from './ports/status.ts';

export type StatusPorts = Ports & { readonly status: StatusPort };

export const getStatus = (ports: StatusPorts, call: Call): Promise<Performed<AgentState>> =>
  perform(ports, call, 'get-status', (run) => ports.status.state(run.tenant));
