// The registry as this agent sees it: connected or not, the certificate, what it refuses.
import type { Telemetry } from '../telemetry.ts';

export const uplinkEvents = ({ logger, metrics, throttle }: Telemetry) => {
  let connected: boolean | undefined; // undefined: an agent without a registry
  let expireAt: number | undefined;
  let waiting: () => number = () => 0;
  metrics.gauge('registryConnected', () => (connected === undefined ? [] : [{ value: connected ? 1 : 0, labels: {} }]));
  metrics.gauge('registryCertificateExpiry', () =>
    expireAt === undefined ? [] : [{ value: expireAt / 1000, labels: {} }],
  );
  metrics.gauge('ledgerBacklog', () => (connected === undefined ? [] : [{ value: waiting(), labels: {} }]));
  return {
    /** An agent with a registry begins; `backlog` tells how many records wait to be handed in. */
    enabled: ({ addresses, backlog }: { addresses: readonly string[]; backlog: () => number }): void => {
      connected = false;
      waiting = backlog;
      logger.log('info', 'agent takes policy and keys from a registry', { address: addresses.join(', ') });
    },

    certificate: (event: { expireAt: number }): void => {
      expireAt = event.expireAt;
    },

    connected: (event: { address: string; replica: string; milliseconds: number }): void => {
      connected = true;
      metrics.count('registryConnections', { outcome: 'ok' });
      const { address, replica: name, milliseconds: durationMs } = event;
      logger.log('info', 'connected to the registry', { address, reason: `replica ${name}`, durationMs });
    },

    disconnected: (event: { address: string; code: string; reason: string; waitMs: number }): void => {
      connected = false;
      metrics.count('registryConnections', { outcome: 'lost' });
      const suppressed = throttle.admit('registry disconnected');
      if (suppressed === undefined) return;
      logger.log('warn', 'not connected to the registry; operations go on, changes of keys are refused', {
        ...event,
        suppressed,
      });
    },

    revoked: ({ reason }: { reason: string }): void =>
      logger.log('fatal', 'the registry has revoked this host', {
        reason,
        remedy: 'the policy in force runs out; an administrator may reinstate the host',
      }),

    renewed: (event: { expireAt: number }): void => {
      expireAt = event.expireAt;
      logger.log('info', 'certificate for the registry renewed', { reason: until(event.expireAt) });
    },

    renewFailed: ({ cause, expireAt: ends }: { cause: unknown; expireAt: number }): void => {
      const suppressed = throttle.admit('renewal failed');
      if (suppressed === undefined) return;
      logger.log('error', 'certificate for the registry could not be renewed; it is tried again', {
        reason: until(ends),
        suppressed,
        error: cause,
      });
    },

    clockDiffers: ({ seconds }: { seconds: number }): void =>
      logger.log('warn', 'the clock of this host differs from that of the registry', {
        reason: `by ${seconds} seconds`,
        remedy: 'set the clock of this host (NTP)',
      }),

    streamFailed: (event: { stream: string; code: string; reason: string }): void => {
      const suppressed = throttle.admit(`stream ${event.stream} ${event.code}`);
      if (suppressed === undefined) return;
      const { stream: part, code, reason } = event;
      logger.log('warn', 'stream of the registry failed and is opened again', { part, code, reason, suppressed });
    },

    ledgerRefused: (event: { tenant: string; code: string; index: number; reason: string }): void => {
      metrics.count('ledgerRefusals', { code: event.code });
      logger.log('fatal', 'the registry refuses the audit log of a tenant', {
        ...event,
        remedy: 'keep the data folder as it is; see "The registry refuses a log" in docs/operations.md',
      });
    },

    ledgerRewound: (event: { tenant: string; acknowledged: number; size: number }): void => {
      metrics.count('registryRewinds', { part: 'ledger' });
      const { tenant, acknowledged, size } = event;
      logger.log('fatal', 'the registry has lost records that it had acknowledged; they are handed in again', {
        tenant,
        size,
        previous: acknowledged,
      });
    },

    ledgerAcknowledged: (): void => undefined,

    catalogRewound: (event: { tenant: string; position: number; registry: number; reason: string }): void => {
      metrics.count('registryRewinds', { part: 'catalog' });
      const { tenant, position, registry, reason } = event;
      logger.log(
        'fatal',
        'the key catalogue of the registry does not follow from that of this host, whose keys stay as they are',
        {
          tenant,
          size: registry,
          previous: position,
          reason,
          remedy: 'see "The registry was taken back" in docs/operations.md',
        },
      );
    },

    catalogTold: (event: {
      tenant: string;
      entries: number;
      conflicts: readonly string[];
      tokenUnread: string;
    }): void => {
      const { tenant, entries: count, conflicts, tokenUnread } = event;
      if (tokenUnread !== '') {
        logger.log('error', 'the registry rebuilds its key catalogue, and this host could not look into the token', {
          ...{ tenant, reason: tokenUnread },
        });
      }
      const level = conflicts.length > 0 ? 'error' : 'warn';
      const reason = conflicts.length > 0 ? { reason: `other hosts know otherwise: ${conflicts.join(', ')}` } : {};
      logger.log(level, 'the registry rebuilds its key catalogue and was told what this host knows', {
        ...{ tenant, count, ...reason },
      });
    },

    catalogRebuilt: ({ tenant, position }: { tenant: string; position: number; rebuild: string }): void =>
      logger.log('warn', 'the rebuilt key catalogue has all that this host knows and is in force', {
        tenant,
        size: position,
      }),
  };
};

const until = (time: number): string => `until ${new Date(time).toISOString()}`;
