// The audit log: commits, failures, space, checkpoints, damage.
import type { Telemetry } from '../telemetry.ts';

export const auditEvents = ({ logger, metrics, throttle }: Telemetry) => {
  let waiting = 0;
  let space = { usedBytes: 0, limitBytes: 0 };
  metrics.gauge('auditBacklog', () => waiting);
  metrics.gauge('auditUsedBytes', () => space.usedBytes);
  metrics.gauge('auditLimitBytes', () => space.limitBytes);
  return {
    opened: (event: {
      generation: number;
      epoch: number;
      tenants: number;
      records: number;
      created: boolean;
    }): void => {
      const { epoch, tenants, records, created } = event;
      logger.log('info', created ? 'audit log made' : 'audit log opened', { epoch, count: tenants, records });
    },

    committed: ({ records, milliseconds }: { records: number; milliseconds: number }): void => {
      metrics.count('auditRecords', {}, records);
      metrics.observe('stage', { stage: 'audit' }, milliseconds / 1000);
    },

    failed: ({ records, cause }: { records: number; cause: unknown }): void => {
      metrics.count('auditFailures', {}, records);
      const suppressed = throttle.admit('audit failed');
      if (suppressed === undefined) return;
      logger.log('error', 'audit records cannot be written', { records, suppressed, error: cause });
    },

    backlog: (event: { waiting: number }): void => {
      waiting = event.waiting;
    },

    size: (event: { usedBytes: number; limitBytes: number }): void => {
      space = event;
    },

    checkpointSigned: ({ tenant, size }: { tenant: string; size: number }): void => {
      metrics.count('checkpoints', { outcome: 'signed' });
      logger.log('debug', 'audit checkpoint signed', { tenant, size });
    },

    checkpointFailed: ({ tenant, cause }: { tenant: string; cause: unknown }): void => {
      metrics.count('checkpoints', { outcome: 'failed' });
      const suppressed = throttle.admit('checkpoint failed');
      if (suppressed === undefined) return;
      logger.log('warn', 'audit checkpoint could not be signed; it is tried again', {
        tenant,
        suppressed,
        error: cause,
      });
    },

    corrupt: ({ tenant, index, message }: { tenant: string; index: number; message: string }): void => {
      metrics.count('auditCorrupt', { tenant });
      const suppressed = throttle.admit(`corrupt ${tenant}`);
      if (suppressed === undefined) return;
      logger.log('fatal', 'audit log does not verify', {
        tenant,
        index,
        reason: message,
        suppressed,
        remedy: 'keep the data folder as it is; see "The audit log does not verify" in docs/operations.md',
      });
    },
  };
};
