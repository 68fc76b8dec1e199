// The keys room as one part of the agent: the catalogue, the vault, token objects and the reaper over one store.
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';
import { Catalog, type CatalogEvents } from './catalog.ts';
import { type DataKeyEvents, type DataKeyRules, DataKeys } from './data-keys.ts';
import { ImportKeys } from './import-keys.ts';
import { type KekEvents, TenantKeks } from './keks.ts';
import { type ObjectEvents, TokenObjects } from './objects.ts';
import { Reaper, type ReaperAudit, type ReaperEvents } from './reaper.ts';
import type { SealingEvents, SealingKey } from './sealing-key.ts';
import type { DeriveMaterial } from './seeds.ts';
import { KeyStore, type StoreEvents } from './store.ts';
import type { KeysToken } from './token.ts';
import { UseCounters } from './uses.ts';
import { admitBlobs, Vault, type VaultEvents } from './vault.ts';

export interface KeysEvents
  extends StoreEvents,
    SealingEvents,
    CatalogEvents,
    KekEvents,
    ObjectEvents,
    VaultEvents,
    ReaperEvents,
    DataKeyEvents {}

export interface Keys {
  readonly catalog: Catalog;
  readonly vault: Vault;
  readonly objects: TokenObjects;
  readonly dataKeys: DataKeys;
  readonly importKeys: ImportKeys;
  /** What the key of the store is to be opened by, or made for. */
  readonly store: { readonly wrappedKey: Buffer | undefined; readonly isEmpty: boolean };
  /**
   * Authenticates the stored rows and loads them; until then no key is served. Rows that are not authentic make their
   * own key unusable. Throws STORE_UNAVAILABLE where nothing can be told of any row.
   */
  unlock(key: SealingKey): void;
  /** Whether keys are served, and how many rows were found altered. */
  health(): { readonly ok: boolean; readonly damaged: number };
  /** To be started when the token and the audit log are there. */
  readonly reaper: Reaper;
  /** Stops the reaper, gives unused reserved uses back and closes the store. */
  close(): Promise<void>;
}

const refuseToDerive: DeriveMaterial = async (algorithm) => {
  throw new AgentError('HSM_UNSUPPORTED', { message: `${algorithm} cannot be held wrapped` });
};

/** Opens the room, locked. Throws STORE_UNAVAILABLE where the store cannot be opened; the token is not touched. */
export const openKeys = (options: {
  /** Folder of the LMDB environment; made with mode 0700 where missing. */
  readonly path: string;
  readonly kekLabelPrefix: string;
  readonly clock: Clock;
  readonly token: KeysToken;
  readonly audit: ReaperAudit;
  readonly events: KeysEvents;
  /** Whether and for how long a tenant's content keys may be kept; absent: never. */
  readonly dataKeyRules?: (tenant: string) => DataKeyRules | undefined;
  /** Absent: no wrapped key whose private bytes are derived from its seed. */
  readonly derive?: DeriveMaterial;
}): Keys => {
  const { token, clock, audit, events } = options;
  const store = new KeyStore({ path: options.path, events });
  const keks = new TenantKeks({ store, token, labelPrefix: options.kekLabelPrefix, events });
  const uses = new UseCounters({ store, clock, events });
  const catalog = new Catalog({ store, uses, events, admit: (next, previous) => admitBlobs(keks, next, previous) });
  const objects = new TokenObjects({ store, catalog, token, clock, events });
  const vault = new Vault({ catalog, keks, token, clock, events, derive: options.derive ?? refuseToDerive });
  const reaper = new Reaper({ catalog, objects, keks, uses, token, audit, clock, events });
  const rules = options.dataKeyRules ?? (() => undefined);
  const dataKeys = new DataKeys({ clock, rules, events });
  catalog.watch((record) => dataKeys.keyChanged(record));
  const unlock = (key: SealingKey): void => {
    store.unlock(key);
    for (const part of [keks, uses, catalog, objects]) part.load();
  };
  const health = () => ({ ok: store.isUnlocked, damaged: catalog.damaged + keks.damaged + uses.damaged });
  const importKeys = new ImportKeys({ objects, clock });
  const close = async (): Promise<void> => {
    await reaper.close();
    dataKeys.close();
    uses.close();
    await store.close();
  };
  return { catalog, vault, objects, dataKeys, importKeys, reaper, store, unlock, health, close };
};
