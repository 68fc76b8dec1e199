// GetAuditCheckpoint: the newest signed checkpoint of the log of the caller's own tenant.
import type { AuditReadPorts } from './list-audit-records.ts';
import { type Performed, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface GetAuditCheckpointOutput {
  readonly checkpoint: string;
  /** JSON. */
  readonly publicJwk: string;
}

export const getAuditCheckpoint = (ports: AuditReadPorts, call: Call): Promise<Performed<GetAuditCheckpointOutput>> =>
  perform(ports, call, 'get-audit-checkpoint', (run) => ports.auditLog.checkpoint(run.tenant));
