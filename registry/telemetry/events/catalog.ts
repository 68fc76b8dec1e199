// The catalogue: entries offered, leases, catalogues taken back.
import type { Telemetry } from '../telemetry.ts';

export const catalogEvents = ({ logger, metrics }: Telemetry) => ({
  offered: (event: { tenant: string; host: string; kind: string; name: string; outcome: string }): void => {
    metrics.count('catalogChanges', { outcome: event.outcome });
    const { tenant, host, kind, name, outcome } = event;
    const level = outcome === 'ok' ? 'info' : 'debug';
    logger.log(level, 'catalogue entry offered', { tenant, host, key: kind === 'key' ? name : `kek ${name}`, outcome });
  },

  leased: (event: { tenant: string; host: string; keyId: string; granted: number; forgotten: number }): void => {
    const { tenant, host, keyId, granted, forgotten } = event;
    metrics.count('useLeases', {});
    if (forgotten > 0) metrics.count('useLeasesForgotten', {}, forgotten);
    logger.log('debug', 'uses leased', { tenant, host, key: keyId, count: granted });
  },

  rebuild: (event: { tenant: string; step: 'opened' | 'told' | 'ended'; by: string; conflicts: number }): void => {
    const { tenant, step, by, conflicts } = event;
    const words = {
      opened: 'the rebuild of a catalogue was opened',
      told: 'a host has told what it knows of a catalogue',
      ended: 'the rebuild of a catalogue was ended',
    };
    logger.log(conflicts > 0 ? 'error' : 'warn', words[step], { tenant, client: by, count: conflicts });
  },

  rewound: (event: { tenant: string; caller: string; asked: number; position: number }): void => {
    const { tenant, caller, asked, position } = event;
    logger.log('error', 'a host knows another catalogue: this one, or its own, was taken back', {
      tenant,
      client: caller,
      index: asked,
      size: position,
      remedy: 'see "Restored from a backup" in docs/registry.md',
    });
  },
});
