// What the keys room needs of the catalogue of all hosts, where there is one.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import type { AgentError } from '../errors.ts';

/** A tenant's KEK as the catalogue has it. `idle`: being made or destroyed, never to be used. */
export interface CentralKek {
  readonly version: number;
  readonly tokenId: string;
  readonly state: 'live' | 'idle' | 'destroyed';
  /** From 1, plus one with each change. */
  readonly revision: number;
}

export interface Lease {
  readonly granted: number;
  /** Uses leased to all hosts so far, this lease included. */
  readonly leased: number;
}

/**
 * Changes are decided there by compare-and-set on the revision. Rejects with KEY_EXISTS, KEY_CONFLICT, KEY_UNKNOWN,
 * KEY_STATE, KEY_LIMIT where it decided against; with REGISTRY_UNAVAILABLE where it was not asked, or did not answer:
 * then `isDoubtful` tells whether the change may have been made all the same.
 */
export interface Central {
  /** Whether a change would be asked for at all; undefined: yes, otherwise why not. */
  unreachable(): string | undefined;
  putRecord(record: KeyRecord, bytes: Buffer): Promise<void>;
  putKek(tenant: string, kek: CentralKek): Promise<void>;
  /** Idempotent by `leaseId`. */
  leaseUses(what: {
    readonly leaseId: Buffer;
    readonly tenant: string;
    readonly keyId: string;
    readonly version: number;
    readonly wanted: number;
  }): Promise<Lease>;
  returnUses(leaseId: Buffer, unused: number): Promise<void>;
}

/** Value of the metadata `outcome`. */
export const DOUBTFUL = 'unknown';

export const isDoubtful = (error: AgentError): boolean => error.metadata['outcome'] === DOUBTFUL;

/** Where a tenant's changes stand. */
export interface Position {
  readonly position: number;
  /** Hash over all changes up to it, lower-case hex. */
  readonly head: string;
  /** Id of the last rebuild of the catalogue that is in force here. */
  readonly rebuild?: string;
}

/** Uses of one version of a key with a hard limit. */
export interface KnownUses {
  readonly keyId: string;
  readonly version: number;
  /** Made here, and those that are left of a slice. */
  readonly made: number;
  /** Leased to all hosts, as last heard. */
  readonly leased: number;
}

/** One change as the catalogue's watch brings it. */
export type Change =
  | { readonly kind: 'key'; readonly bytes: Buffer }
  | { readonly kind: 'kek'; readonly kek: CentralKek };
