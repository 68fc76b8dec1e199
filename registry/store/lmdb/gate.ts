// The gate before a tenant's rows in LMDB: looks at the actor's own row at every access, in the same transaction as the
// change, so that a host that was just revoked, or that never served the tenant, reads and writes nothing.

import type { Actor } from '../../actor.ts';
import { RegistryError } from '../../errors.ts';
import type { AdminRow, HostRow } from '../../hosts/store.ts';
import { adminMayAct, hostMayServe, refuseReader } from '../rules.ts';
import type { Environment } from './environment.ts';

export interface Gate {
  read<T>(work: () => T): T;
  write<T>(work: () => T, options?: { readonly bulk: boolean }): Promise<T>;
}

export const mayAct = (env: Environment, tenant: string, actor: Actor): boolean => {
  switch (actor.kind) {
    case 'registry':
      return true;
    case 'host':
      return hostMayServe(env.get<HostRow>('host', actor.name), tenant);
    case 'admin':
    case 'auditor':
      return adminMayAct(env.get<AdminRow>('admin', actor.name), tenant, actor.kind);
  }
};

export const gateOf = (env: Environment, tenant: string, actor: Actor): Gate => {
  const enter = (): void => {
    if (!mayAct(env, tenant, actor)) throw new RegistryError('PERMISSION_DENIED');
  };
  return {
    read: (work) => {
      enter();
      return work();
    },
    write: (work, options) =>
      env.write(() => {
        enter();
        refuseReader(actor);
        return work();
      }, options),
  };
};
