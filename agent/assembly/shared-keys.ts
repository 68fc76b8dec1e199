// The keys room joined to the registry's catalogue: changes go out to be decided, and come in as the registry has them.
import type { Central } from '../keys/central.ts';
import type { FoundObjects } from '../keys/found-objects.ts';
import type { Replica } from '../keys/replica.ts';
import { CatalogCalls, type RegistryCalls } from '../uplink/catalog-calls.ts';
import type { CatalogSink, UplinkEvents } from '../uplink/ports.ts';

export const centralOf = (registry: RegistryCalls, unreachable: () => string | undefined): Central => {
  const calls = new CatalogCalls(registry);
  return {
    unreachable,
    putRecord: ({ tenant, revision }, bytes) => calls.put(tenant, { kind: 'key', bytes }, revision),
    putKek: (tenant, kek) => calls.put(tenant, { kind: 'kek', kek }, kek.revision),
    leaseUses: (what) => calls.leaseUses(what),
    returnUses: (leaseId, unused) => calls.returnUses(leaseId, unused),
  };
};

export const catalogSink = (parts: {
  readonly replica: Replica;
  readonly found: Pick<FoundObjects, 'of'>;
  readonly tenants: () => Iterable<string>;
  readonly events: Pick<UplinkEvents, 'catalogRewound' | 'catalogTold' | 'catalogRebuilt'>;
  /** A position was reached, which the registry is to be told. */
  readonly applied: () => void;
}): CatalogSink => {
  const { replica, found, tenants, events, applied } = parts;
  const report: CatalogSink['rewound'] = (tenant, { registry, reason }) => {
    events.catalogRewound({ tenant, position: replica.position(tenant).position, registry, reason });
  };
  return {
    positions: () =>
      [...tenants()].map((tenant) => {
        const { position, head, rebuild } = replica.position(tenant);
        const at = { tenant, position, head: position === 0 ? Buffer.alloc(32) : Buffer.from(head, 'hex') };
        return rebuild === undefined ? at : { ...at, rebuild };
      }),
    opened: () => replica.opened(),
    apply: (tenant, { at, ...update }) => {
      const position = at && { position: at.position, head: at.head.toString('hex') };
      const before = replica.position(tenant).rebuild;
      const backwards = replica.apply(tenant, { ...update, at: position });
      const { rebuild, position: reached } = replica.position(tenant);
      if (rebuild !== undefined && rebuild !== before) events.catalogRebuilt({ tenant, position: reached, rebuild });
      if (backwards !== undefined) report(tenant, { registry: at?.position ?? 0, reason: backwards });
      applied();
    },
    rewound: (tenant, event) => {
      replica.rewound(tenant);
      report(tenant, event);
    },
    known: (tenant) => replica.known(tenant),
    found: (tenant, signal) => found.of(tenant, signal),
    told: (tenant, event) => events.catalogTold({ tenant, ...event }),
    rebuilt: (tenant, rebuild) => replica.rebuilt(tenant, rebuild),
  };
};
