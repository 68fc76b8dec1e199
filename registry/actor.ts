// For whom the data of a tenant is read or changed; the store judges by it whether that may be.

/**
 * `host`: one that is ACTIVE, in its tenants and in `_platform`. `admin`: one that is not revoked, in his tenants; the
 * platform's in all. `auditor`: an administrator by his scope audit.read-any, in any tenant, to read. `registry`: the
 * registry's own work.
 */
export type Actor =
  | { readonly kind: 'host' | 'admin' | 'auditor'; readonly name: string }
  | { readonly kind: 'registry' };
