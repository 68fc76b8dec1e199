// Leases of uses. Invariant: what is granted of a version's hard limit, less what was given back, is never above it: a
// lease is taken for good when it is granted, whatever becomes of the host. A lease that is no longer kept (store.ts) is taken for
// good too: its count stays.

import type { Clock } from '../../agent/clock.ts';
import { primaryVersion, stateAllows, stateAt } from '../../proto/documents/key-states.ts';
import { RegistryError } from '../errors.ts';
import type { Entry } from './rules.ts';
import type { CatalogStore, EntryRow, GrantedLease, LeaseRow } from './store.ts';

/** So much of what is left may one lease have, that hosts which ask later get some too. */
const SHARE = 16;

export interface LeaseRequest {
  /** 32 lower-case hex digits. */
  readonly id: string;
  readonly host: string;
  readonly keyId: string;
  readonly version: number;
  readonly wanted: number;
}

const isSame = (lease: LeaseRow, { host, keyId, version, wanted }: LeaseRequest): boolean =>
  lease.host === host && lease.keyId === keyId && lease.version === version && lease.wanted === wanted;

export const lease = async (options: {
  readonly store: CatalogStore;
  readonly request: LeaseRequest;
  readonly clock: Clock;
  readEntry(row: EntryRow): Entry;
}): Promise<GrantedLease> => {
  const { store, request, clock, readEntry } = options;
  const { id, host, keyId, version, wanted } = request;
  const row = await store.lease({ id, keyId, version }, (leased, key) => {
    const entry = key && readEntry(key);
    if (entry?.kind !== 'key') throw new RegistryError('KEY_UNKNOWN');
    const { record } = entry;
    // The count expires a key only once it is above the limit, which leases do not let happen.
    if (!stateAllows(stateAt(record, clock.now()), 'encrypt')) throw new RegistryError('KEY_STATE');
    if (primaryVersion(record)?.version !== version) throw new RegistryError('KEY_STATE');
    const { hardUses } = record.limits;
    if (hardUses === undefined) return { host, wanted, granted: wanted, hardUses: 0 };
    const left = hardUses - leased;
    if (left < 1) throw new RegistryError('KEY_LIMIT');
    return { host, wanted, granted: Math.min(wanted, Math.max(1, Math.floor(left / SHARE))), hardUses };
  });
  if (!isSame(row, request)) throw new RegistryError('LEASE_UNKNOWN');
  return row;
};

export const endLease = (
  store: CatalogStore,
  { id, host, unused }: { readonly id: string; readonly host: string; readonly unused: number },
): Promise<void> =>
  store.endLease(id, (row) => {
    if (row === undefined || row.host !== host) throw new RegistryError('LEASE_UNKNOWN');
    if (row.unused === unused) return undefined;
    if (row.unused !== undefined || unused > row.granted) {
      throw new RegistryError('INVALID_REQUEST', { message: 'more than the lease has, or it has ended already' });
    }
    return unused;
  });
