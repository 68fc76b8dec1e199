// Who may make which call: one row for each RPC. Invariant: a call without a row does not exist. What a caller may do
// within a call (which tenants) is judged where the tenants are known.

export type Rule =
  /** Without a certificate. */
  | { readonly who: 'anyone' }
  | { readonly who: 'host' }
  | { readonly who: 'admin'; readonly scopes: readonly string[] }
  /** Hosts, and administrators with one of these scopes. */
  | { readonly who: 'host-or-admin'; readonly scopes: readonly string[] }
  /** Whoever has a certificate. */
  | { readonly who: 'known' };

const admin = (...scopes: readonly string[]): Rule => ({ who: 'admin', scopes });
const hostOr = (...scopes: readonly string[]): Rule => ({ who: 'host-or-admin', scopes });
const HOST: Rule = { who: 'host' };

export const RULES: Readonly<Record<string, Rule>> = {
  '/mortise.registry.v1.HostsService/Enrol': { who: 'anyone' },
  '/mortise.registry.v1.HostsService/Renew': { who: 'known' },
  '/mortise.registry.v1.HostsService/Heartbeat': HOST,
  '/mortise.registry.v1.PoliciesService/WatchPolicies': HOST,
  '/mortise.registry.v1.PoliciesService/GetPolicy': hostOr('policy.read', 'policy.publish'),
  '/mortise.registry.v1.PoliciesService/GetPolicyHistory': hostOr('policy.read', 'policy.publish'),
  '/mortise.registry.v1.CatalogService/PutEntry': HOST,
  '/mortise.registry.v1.CatalogService/GetEntry': hostOr('catalog.read'),
  '/mortise.registry.v1.CatalogService/ListEntries': hostOr('catalog.read'),
  '/mortise.registry.v1.CatalogService/WatchCatalog': HOST,
  '/mortise.registry.v1.CatalogService/WaitForHosts': hostOr('hosts.read'),
  '/mortise.registry.v1.CatalogService/LeaseUses': HOST,
  '/mortise.registry.v1.CatalogService/ReturnUses': HOST,
  '/mortise.registry.v1.CatalogService/BeginRebuild': admin('catalog.rebuild'),
  '/mortise.registry.v1.CatalogService/GetRebuild': admin('catalog.rebuild', 'catalog.read'),
  '/mortise.registry.v1.CatalogService/EndRebuild': admin('catalog.rebuild'),
  '/mortise.registry.v1.CatalogService/OfferEntries': HOST,
  '/mortise.registry.v1.SessionsService/LeaseSessions': HOST,
  '/mortise.registry.v1.SessionsService/SetBudget': admin('hosts.manage'),
  '/mortise.registry.v1.SessionsService/ListBudgets': admin('hosts.read', 'hosts.manage'),
  '/mortise.registry.v1.SessionsService/ForgetShare': admin('hosts.manage'),
  '/mortise.registry.v1.LedgerService/Append': HOST,
  '/mortise.registry.v1.LedgerService/QueryRecords': admin('audit.read', 'audit.read-any'),
  '/mortise.registry.v1.LedgerService/ExportRecords': admin('audit.read', 'audit.read-any'),
  '/mortise.registry.v1.LedgerService/VerifyLedger': admin('audit.read', 'audit.read-any'),
  '/mortise.registry.v1.LedgerService/ListLogs': admin('audit.read', 'audit.read-any'),
  '/mortise.registry.v1.LedgerService/ReadLog': admin('audit.read', 'audit.read-any'),
  '/mortise.registry.v1.LedgerService/GetReceipt': hostOr('audit.read', 'audit.read-any'),
  '/mortise.registry.v1.AdminService/CreateTenant': admin('tenants.manage'),
  '/mortise.registry.v1.AdminService/ListTenants': admin('tenants.manage', 'hosts.read'),
  '/mortise.registry.v1.AdminService/CreateHost': admin('hosts.manage'),
  '/mortise.registry.v1.AdminService/ListHosts': admin('hosts.read'),
  '/mortise.registry.v1.AdminService/RevokeHost': admin('hosts.manage'),
  '/mortise.registry.v1.AdminService/CreateAdmin': admin('admins.manage'),
  '/mortise.registry.v1.AdminService/ListAdmins': admin('admins.manage'),
  '/mortise.registry.v1.AdminService/RevokeAdmin': admin('admins.manage'),
  '/mortise.registry.v1.AdminService/PublishPolicy': admin('policy.publish'),
  '/mortise.registry.v1.AdminService/GetRegistryStatus': admin('registry.status'),
};
