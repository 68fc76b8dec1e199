// The store in PostgreSQL, for any number of replicas. Invariant: as of RegistryStore; tenants are kept apart once more by
// the database itself (row-level security), and the role that runs cannot switch that off.

import { Notices } from '../notices.ts';
import { asStoreError } from '../rules.ts';
import type { RegistryStore, StoreEvents } from '../store.ts';
import { catalogStore } from './catalog.ts';
import { Connections, refuseUnfit } from './connections.ts';
import { ledgerStore } from './ledger.ts';
import { Notifications } from './notifications.ts';
import { hostsStore, macKeyStore, policiesStore } from './platform.ts';
import { sessionsStore } from './sessions.ts';

export interface PostgresOptions {
  /** Of the run-time role: no superuser, no owner of the tables. */
  readonly url: string;
  readonly events: StoreEvents;
  readonly connections?: number;
}

/** Everything that anybody may listen for, as if it had just been changed. */
const lookAgain = async (db: Connections, notices: Notices): Promise<void> => {
  const names = await db.asPlatform(async (session) => {
    const { rows } = await session.query<{ topic: 'host' | 'admin' | 'presence' | 'policy'; name: string }>(`
      SELECT 'host' AS topic, host AS name FROM mortise.hosts UNION ALL SELECT 'admin', name FROM mortise.admins
      UNION ALL SELECT 'presence', coalesce(row->>'replica', '') || ' ' || host FROM mortise.presences
      UNION ALL SELECT DISTINCT 'policy', tenant_id FROM mortise.policies`);
    const { rows: tenants } = await session.query<{ tenant: string }>('SELECT tenant FROM mortise.tenants');
    const topics = ['catalog', 'rebuild'] as const;
    return [...rows, ...topics.flatMap((topic) => tenants.map(({ tenant }) => ({ topic, name: tenant })))];
  });
  for (const { topic, name } of names) notices.tell(topic, name);
};

/** Rejects with STORE_UNAVAILABLE, also where the role could pass by row-level security. */
export const openPostgresStore = async (options: PostgresOptions): Promise<RegistryStore> => {
  const { url, events } = options;
  const db = new Connections(options);
  const notices = new Notices();
  const notifications = new Notifications({ url, notices, events, relook: () => lookAgain(db, notices) });
  try {
    await db.asPlatform(refuseUnfit);
    await notifications.open();
  } catch (thrown) {
    await notifications.close();
    await db.close();
    throw asStoreError(thrown);
  }
  return {
    kind: 'postgresql',
    ...hostsStore(db, notices),
    ...policiesStore(db, notices),
    ...macKeyStore(db),
    ...sessionsStore(db),
    forTenant: (tenant, actor) => ({
      ...catalogStore({ db, tenant, actor }),
      ...ledgerStore({ db, tenant, actor }),
    }),
    leaseTenant: async (id) => {
      const text = 'SELECT tenant FROM mortise.lease_tenants WHERE id = $1';
      const { rows } = await db.asPlatform((session) => session.query<{ tenant: string }>(text, [id]));
      return rows[0]?.tenant;
    },
    watchCatalog: (listener) => notices.on('catalog', listener),
    watchRebuilds: (listener) => notices.on('rebuild', listener),
    check: async () => void (await db.asPlatform((session) => session.query('SELECT 1'))),
    close: async () => {
      await notifications.close();
      await db.close();
    },
  };
};
