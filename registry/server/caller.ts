// Who calls, as the services see it, and what he may reach. Invariant: a host reaches its own tenants and nothing else,
// an administrator those of his list, and `_platform` is the platform's alone.
import { RegistryError } from '../errors.ts';

export interface HostCaller {
  readonly kind: 'host';
  readonly name: string;
  readonly serial: string;
  readonly tenants: readonly string[];
}

export interface AdminCaller {
  readonly kind: 'admin';
  readonly name: string;
  readonly serial: string;
  readonly scopes: readonly string[];
  /** Empty for the platform's. */
  readonly tenants: readonly string[];
}

export type Caller = HostCaller | AdminCaller;

/** One call, from the server down. */
export interface Call {
  readonly correlationId: string;
  /** Undefined where the rule of the call lets anyone in. */
  readonly caller: Caller | undefined;
  /** Aborts with the RegistryError that ends the call. */
  readonly signal: AbortSignal;
}

const PLATFORM = '_platform';

export const hostOf = ({ caller }: Call): HostCaller => {
  if (caller?.kind !== 'host') throw new RegistryError('PERMISSION_DENIED');
  return caller;
};

export const adminOf = ({ caller }: Call): AdminCaller => {
  if (caller?.kind !== 'admin') throw new RegistryError('PERMISSION_DENIED');
  return caller;
};

export const reaches = (caller: Caller, tenant: string): boolean =>
  caller.tenants.includes(tenant) || (caller.kind === 'admin' && caller.tenants.length === 0);

/** PERMISSION_DENIED, whether or not the tenant exists. */
export const requireTenant = ({ caller }: Call, tenant: string): void => {
  if (caller === undefined || !reaches(caller, tenant)) throw new RegistryError('PERMISSION_DENIED');
};

/** As `requireTenant`; hosts may also read what is the platform's. */
export const requireReadable = (call: Call, tenant: string): void => {
  if (tenant === PLATFORM && call.caller?.kind === 'host') return;
  requireTenant(call, tenant);
};
