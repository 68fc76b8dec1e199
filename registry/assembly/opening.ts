// Opens the store that the configuration names. Invariant: the database's URL lives no longer than the opening.
import { join } from 'node:path';
import { readSecret } from '../../agent/config/secret-file.ts';
import type { Config } from '../config/config.ts';
import type { RegistryStore, StoreEvents } from '../store/store.ts';

export const openStore = async ({ store }: Config, events: StoreEvents): Promise<RegistryStore> => {
  if (store.databaseUrlFile === undefined) {
    const { openLmdbStore } = await import('../store/lmdb/store.ts');
    return openLmdbStore({ path: join(store.dataDir, 'store'), mapSizeBytes: store.mapSizeBytes, events });
  }
  const secret = await readSecret(store.databaseUrlFile);
  try {
    const { openPostgresStore } = await import('../store/postgres/store.ts');
    return await openPostgresStore({ url: secret.toString(), events });
  } finally {
    secret.fill(0);
  }
};
