// Hosts, administrators, tenants: tokens, certificates, heartbeats.
import type { Telemetry } from '../telemetry.ts';

type Kind = 'host' | 'admin';
const named = (kind: Kind, name: string) => (kind === 'host' ? { host: name } : { client: `admin/${name}` });
const day = (ms: number): string => new Date(ms).toISOString();

export const hostEvents = ({ logger, metrics, throttle }: Telemetry) => ({
  tenantCreated: ({ tenant, admin }: { tenant: string; admin: string }): void =>
    logger.log('info', 'tenant created', { tenant, admin }),

  tokenMade: ({ kind, name, admin, expiresAt }: { kind: Kind; name: string; admin: string; expiresAt: number }): void =>
    logger.log('info', 'enrolment token made', { ...named(kind, name), admin, expires: day(expiresAt) }),

  revoked: ({ kind, name, admin, reason }: { kind: Kind; name: string; admin: string; reason: string }): void =>
    logger.log('warn', 'cut off', { ...named(kind, name), admin, reason }),

  certificateIssued: (event: { kind: Kind; name: string; serial: string; expiresAt: number; why: string }): void => {
    metrics.count('certificates', { kind: event.kind });
    const { kind, name, serial, expiresAt, why } = event;
    logger.log('info', 'certificate issued', { ...named(kind, name), serial, expires: day(expiresAt), reason: why });
  },

  hostConnected: ({ host, agentVersion }: { host: string; agentVersion: string }): void =>
    logger.log('info', 'host connected', { host, version: agentVersion }),

  hostGone: ({ host, reason }: { host: string; reason: string }): void =>
    logger.log('info', 'host gone', { host, reason }),

  presenceFailed: ({ host, cause }: { host: string; cause: unknown }): void => {
    const suppressed = throttle.admit('presence failed');
    if (suppressed === undefined) return;
    logger.log('warn', 'what a host has applied could not be stored', { host, suppressed, error: cause });
  },
});
