// The registry's store: what every room needs of it, in one. Invariant: the data of a tenant is reached only through a
// handle for that tenant and an actor, and the store itself looks at the actor's row at every access, so that a check
// that is missing above it crosses no tenant.
import type { Actor } from '../actor.ts';
import type { CatalogStore } from '../catalog/store.ts';
import type { HostsStore } from '../hosts/store.ts';
import type { LedgerStore, MacKeyStore } from '../ledger/store.ts';
import type { PoliciesStore } from '../policies/store.ts';
import type { SessionsStore } from '../sessions/store.ts';

export interface TenantStore extends CatalogStore, LedgerStore {}

export interface RegistryStore extends HostsStore, PoliciesStore, MacKeyStore, SessionsStore {
  readonly kind: 'lmdb' | 'postgresql';
  /** The data of one tenant. Every call on it fails with PERMISSION_DENIED where the actor may not act for the tenant. */
  forTenant(tenant: string, actor: Actor): TenantStore;
  /** The tenant that a lease of uses was granted in. */
  leaseTenant(id: string): Promise<string | undefined>;
  /** Calls the listener with the tenant of every change of the catalogue, on every replica. Answers how to stop. */
  watchCatalog(listener: (tenant: string) => void): () => void;
  /** The same of the tenant of every rebuild that was opened or ended. */
  watchRebuilds(listener: (tenant: string) => void): () => void;
  /** Resolves where the store can be read and written. */
  check(): Promise<void>;
  close(): Promise<void>;
}

export interface StoreEvents {
  /** The store cannot be reached or written; `cause` is its error. */
  failed(event: { cause: unknown }): void;
  /** Changes that other replicas made may have been missed; everything is looked at anew. */
  reconnected(event: { waitMs: number }): void;
}

/** Positions of changes whose bytes are kept; a watch from an older one begins with a snapshot. */
export const CHANGES_KEPT = 4096;
export const PLATFORM = '_platform';
