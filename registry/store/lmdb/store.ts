// The embedded store: one LMDB environment, for one replica. Invariant: as of RegistryStore.

import { Notices } from '../notices.ts';
import type { RegistryStore, StoreEvents } from '../store.ts';
import { catalogStore } from './catalog.ts';
import { Environment } from './environment.ts';
import { gateOf } from './gate.ts';
import { ledgerStore } from './ledger.ts';
import { hostsStore, macKeyStore, policiesStore } from './platform.ts';
import { sessionsStore } from './sessions.ts';

/** Throws STORE_UNAVAILABLE. */
export const openLmdbStore = (options: {
  /** Folder of the environment; made with mode 0700 where it does not exist. */
  readonly path: string;
  /** Largest size of the data file. */
  readonly mapSizeBytes?: number;
  readonly events: StoreEvents;
}): RegistryStore => {
  const env = new Environment(options);
  const notices = new Notices();
  return {
    kind: 'lmdb',
    ...hostsStore(env, notices),
    ...policiesStore(env, notices),
    ...macKeyStore(env),
    ...sessionsStore(env),
    forTenant: (tenant, actor) => {
      const gate = gateOf(env, tenant, actor);
      return { ...catalogStore({ env, tenant, gate, notices }), ...ledgerStore({ env, tenant, actor, gate }) };
    },
    leaseTenant: async (id) => env.get('lease-tenant', id),
    watchCatalog: (listener) => notices.on('catalog', listener),
    watchRebuilds: (listener) => notices.on('rebuild', listener),
    check: () => env.write(() => env.put(['probe'], null)),
    close: () => env.close(),
  };
};
