// VerifyAuditLog: the whole log of the caller's own tenant, against a checkpoint that the caller kept where it has one.
// What is found wrong is an answer, not an error.
import { invalid } from '../errors.ts';
import type { AuditReadPorts } from './list-audit-records.ts';
import { type Performed, perform } from './perform.ts';
import type { AuditFinding } from './ports/audit-log.ts';
import type { Call } from './ports/call.ts';

const CHECKPOINT_LIMIT_BYTES = 16 * 1024; // a signed note with a dozen cosignatures is below 4 KiB
const MAX_FINDINGS = 100;

export interface VerifyAuditLogInput {
  /** Empty where the caller has none. */
  readonly trustedCheckpoint: string;
}

export interface VerifyAuditLogOutput {
  readonly intact: boolean;
  readonly size: number;
  readonly root: string;
  readonly findings: readonly AuditFinding[];
  readonly checkpointTime: number | undefined;
}

export const verifyAuditLog = (
  ports: AuditReadPorts,
  call: Call,
  { trustedCheckpoint }: VerifyAuditLogInput,
): Promise<Performed<VerifyAuditLogOutput>> =>
  perform(ports, call, 'verify-audit-log', async (run) => {
    if (Buffer.byteLength(trustedCheckpoint) > CHECKPOINT_LIMIT_BYTES) {
      throw invalid('trusted_checkpoint', `at most ${CHECKPOINT_LIMIT_BYTES} bytes`);
    }
    const result = await ports.auditLog.verify(run.tenant, trustedCheckpoint === '' ? undefined : trustedCheckpoint);
    run.note({ intact: result.intact, size: result.size, findings: result.findings.length });
    return { ...result, findings: result.findings.slice(0, MAX_FINDINGS) };
  });
