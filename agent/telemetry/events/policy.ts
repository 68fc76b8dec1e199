// Policies: what comes into force, what is refused, how old the last verification is.
import type { Telemetry } from '../telemetry.ts';

interface Reloaded {
  readonly inForce: number;
  readonly problems: number;
  readonly changed: boolean;
  readonly oldestVerifiedAt: number | undefined;
}

export const policyEvents = ({ logger, metrics, throttle }: Telemetry) => {
  let last: Reloaded = { inForce: 0, problems: 0, changed: false, oldestVerifiedAt: undefined };
  metrics.gauge('policiesInForce', () => last.inForce);
  metrics.gauge('policyProblems', () => last.problems);
  metrics.gauge('policyAge', () =>
    last.oldestVerifiedAt === undefined ? [] : [{ value: (Date.now() - last.oldestVerifiedAt) / 1000, labels: {} }],
  );
  return {
    adopted: (event: {
      tenant: string;
      version: number;
      digest: string;
      officers: readonly string[];
      previousVersion: number | undefined;
    }): void => {
      metrics.count('policyAdoptions', {});
      const { tenant, version, digest, officers, previousVersion: previous } = event;
      logger.log('info', 'policy came into force', {
        tenant,
        version,
        previous,
        digest,
        principal: officers.join(', '),
      });
    },

    refused: (event: { subject: string; code: string; reason: string; inForceVersion: number | undefined }): void => {
      metrics.count('policyRefusals', { code: event.code });
      const { subject, code, reason, inForceVersion: version } = event;
      logger.log('error', 'policy refused', { scope: subject, code, reason, version });
    },

    anchorPinned: ({ digest, previous }: { digest: string; previous: string | undefined }): void =>
      logger.log('warn', previous === undefined ? 'trust anchor pinned' : 'trust anchor replaced', {
        digest,
        previous,
      }),

    storeFailed: ({ subject, cause }: { subject: string; cause: unknown }): void => {
      metrics.count('storeFailures', { part: 'policy' });
      const suppressed = throttle.admit('policy store');
      if (suppressed === undefined) return;
      logger.log('error', 'policy could not be stored again; it stays in force', {
        scope: subject,
        suppressed,
        error: cause,
      });
    },

    reloaded: (event: Reloaded): void => {
      last = event;
      const { inForce, problems, changed } = event;
      if (changed || problems > 0) logger.log('debug', 'policy folder read', { count: inForce, records: problems });
    },

    recordFailed: ({ cause, queued }: { cause: unknown; queued: number }): void => {
      const suppressed = throttle.admit('policy record');
      if (suppressed === undefined) return;
      logger.log('warn', 'policy event is not in the audit log yet; it waits', {
        count: queued,
        suppressed,
        error: cause,
      });
    },
  };
};
