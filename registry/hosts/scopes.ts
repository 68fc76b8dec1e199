// What administrators may be allowed to do. Invariant: nobody hands out more than he has.
import { invalid, RegistryError } from '../errors.ts';

export const ADMIN_SCOPES = [
  'tenants.manage',
  'hosts.read',
  'hosts.manage',
  'admins.manage',
  'policy.read',
  'policy.publish',
  'catalog.read',
  'catalog.rebuild',
  'audit.read',
  'audit.read-any',
  'registry.status',
] as const;

export type AdminScope = (typeof ADMIN_SCOPES)[number];

/** Scopes and reach of an administrator; an empty list of tenants means all, present and future. */
export interface Rights {
  readonly scopes: readonly string[];
  readonly tenants: readonly string[];
}

export const isPlatform = ({ tenants }: Rights): boolean => tenants.length === 0;

/** May an administrator with these rights act on this tenant? `_platform` is the platform's. */
export const reaches = (rights: Rights, tenant: string): boolean =>
  isPlatform(rights) || rights.tenants.includes(tenant);

export const requireReach = (rights: Rights, tenants: readonly string[]): void => {
  if (!tenants.every((tenant) => reaches(rights, tenant))) throw new RegistryError('PERMISSION_DENIED');
};

export const requirePlatform = (rights: Rights): void => {
  if (!isPlatform(rights)) throw new RegistryError('PERMISSION_DENIED');
};

/** Scopes as asked for, sorted and known, none of which the giver lacks. */
export const grantable = (giver: Rights, asked: Rights): Rights => {
  const scopes = [...new Set(asked.scopes)].sort();
  if (scopes.length === 0) throw invalid('scopes', 'at least one is needed');
  const unknown = scopes.find((scope) => !(ADMIN_SCOPES as readonly string[]).includes(scope));
  if (unknown !== undefined) throw invalid('scopes', `there is no scope ${JSON.stringify(unknown.slice(0, 64))}`);
  if (!scopes.every((scope) => giver.scopes.includes(scope))) throw new RegistryError('PERMISSION_DENIED');
  const tenants = [...new Set(asked.tenants)].sort();
  if (tenants.length === 0) requirePlatform(giver);
  else requireReach(giver, tenants);
  return { scopes, tenants };
};
