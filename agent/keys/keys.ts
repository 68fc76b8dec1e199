// The keys room as one part of the agent: the catalogue, the vault, token objects and the reaper over one store.
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';
import { admitBlobs } from './blobs.ts';
import { Catalog, type CatalogEvents } from './catalog.ts';
import type { Central } from './central.ts';
import { type DataKeyEvents, type DataKeyRules, DataKeys } from './data-keys.ts';
import { FoundObjects } from './found-objects.ts';
import { ImportKeys } from './import-keys.ts';
import { type KekEvents, TenantKeks } from './keks.ts';
import { UseLeases } from './leases.ts';
import { type ObjectEvents, TokenObjects } from './objects.ts';
import { Reaper, type ReaperAudit, type ReaperEvents } from './reaper.ts';
import { Replica, type ReplicaEvents } from './replica.ts';
import { ReplicatedCatalog } from './replicated-catalog.ts';
import { ReplicatedKeks } from './replicated-keks.ts';
import type { SealingEvents, SealingKey } from './sealing-key.ts';
import type { DeriveMaterial } from './seeds.ts';
import { KeyStore, type StoreEvents } from './store.ts';
import type { KeysToken } from './token.ts';
import { type UnwrappedKeyEvents, type UnwrappedKeyRules, UnwrappedKeys } from './unwrapped-keys.ts';
import { UseCounters } from './uses.ts';
import { Vault, type VaultEvents } from './vault.ts';

export interface KeysEvents
  extends StoreEvents,
    SealingEvents,
    CatalogEvents,
    KekEvents,
    ObjectEvents,
    VaultEvents,
    ReaperEvents,
    ReplicaEvents,
    DataKeyEvents,
    UnwrappedKeyEvents {}

export interface Keys {
  readonly catalog: Catalog;
  readonly vault: Vault;
  readonly objects: TokenObjects;
  readonly dataKeys: DataKeys;
  readonly unwrappedKeys: UnwrappedKeys;
  /** Drops every secret that is kept in memory: another policy may allow less. */
  policyChanged(): void;
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
  /** Where another catalogue, of all hosts, decides on changes. */
  readonly shared: { readonly replica: Replica; readonly leases: UseLeases } | undefined;
  /** What the token holds that no record names. */
  readonly found: FoundObjects;
  /** To be started when the token and the audit log are there. */
  readonly reaper: Reaper;
  /** Stops the reaper, gives unused reserved uses back and closes the store. */
  close(): Promise<void>;
}

const refuseToDerive: DeriveMaterial = async (algorithm) => {
  throw new AgentError('HSM_UNSUPPORTED', { message: `${algorithm} cannot be held wrapped` });
};

type Options = Parameters<typeof openKeys>[0];

interface Records {
  readonly keks: TenantKeks;
  readonly catalog: Catalog;
  readonly shared: Keys['shared'];
}

/** Records and KEKs that are decided on here, or by the catalogue of all hosts. */
const openRecords = (options: Options, store: KeyStore, uses: UseCounters): Records => {
  const { token, events, central, kekLabelPrefix: labelPrefix } = options;
  if (central === undefined) {
    const keks = new TenantKeks({ store, token, labelPrefix, events });
    const catalog = new Catalog({ store, uses, events, admit: (next, previous) => admitBlobs(keks, next, previous) });
    return { keks, catalog, shared: undefined };
  }
  const doubt = (tenant: string): void => replica.doubt(tenant);
  const keks = new ReplicatedKeks({ store, token, labelPrefix, events, central, doubt });
  const leases = new UseLeases({ central });
  const catalog = new ReplicatedCatalog({
    store,
    uses,
    leases,
    events,
    central,
    doubt,
    admit: (next, previous) => admitBlobs(keks, next, previous),
    frozen: (tenant) => replica.frozen(tenant),
  });
  const replica: Replica = new Replica({ store, catalog, keks, leases, events });
  catalog.watch((record) => leases.keyChanged(record));
  return { keks, catalog, shared: { replica, leases } };
};

/** Secrets that policy lets stay in memory, emptied by each change of a record. */
const openKept = (options: Options, catalog: Catalog) => {
  const { clock, events } = options;
  const dataKeys = new DataKeys({ clock, rules: options.dataKeyRules ?? (() => undefined), events });
  const rules = options.unwrappedKeyRules ?? (() => undefined);
  const newest = (tenant: string, keyId: string) => catalog.get(tenant, keyId);
  const unwrappedKeys = new UnwrappedKeys({ clock, rules, newest, events });
  catalog.watch((record) => {
    for (const kept of [dataKeys, unwrappedKeys]) kept.keyChanged(record);
  });
  return { dataKeys, unwrappedKeys };
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
  /** The same for private bytes of wrapped keys. */
  readonly unwrappedKeyRules?: (tenant: string) => UnwrappedKeyRules | undefined;
  /** The catalogue of all hosts; absent: this host stands alone. */
  readonly central?: Central;
  /** Absent: no wrapped key whose private bytes are derived from its seed. */
  readonly derive?: DeriveMaterial;
}): Keys => {
  const { token, clock, audit, events } = options;
  const store = new KeyStore({ path: options.path, events });
  const uses = new UseCounters({ store, clock, events });
  const { keks, catalog, shared } = openRecords(options, store, uses);
  const isSettled = (tenant: string): boolean => shared?.replica.isSettled(tenant) ?? true;
  const objects = new TokenObjects({ store, catalog, token, clock, events, isSettled });
  const { dataKeys, unwrappedKeys } = openKept(options, catalog);
  const derive = options.derive ?? refuseToDerive;
  const vault = new Vault({ catalog, keks, token, clock, events, derive, unwrapped: unwrappedKeys });
  const reaper = new Reaper({ catalog, objects, keks, uses, token, audit, clock, events });
  const policyChanged = (): void => {
    for (const kept of [dataKeys, unwrappedKeys]) kept.policyChanged();
  };
  const unlock = (key: SealingKey): void => {
    store.unlock(key);
    for (const part of [keks, uses, catalog, objects, ...(shared ? [shared.replica] : [])]) part.load();
  };
  const health = () => ({ ok: store.isUnlocked, damaged: catalog.damaged + keks.damaged + uses.damaged });
  const importKeys = new ImportKeys({ objects, clock });
  const found = new FoundObjects({ catalog, objects, token, kekLabelPrefix: options.kekLabelPrefix, clock });
  const close = async (): Promise<void> => {
    for (const kept of [dataKeys, unwrappedKeys]) kept.close();
    await reaper.close();
    uses.close();
    await store.close();
  };
  const parts = { catalog, vault, objects, dataKeys, unwrappedKeys, importKeys, reaper, store, shared, found };
  return { ...parts, policyChanged, unlock, health, close };
};
