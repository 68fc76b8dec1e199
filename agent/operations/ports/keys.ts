// What the operations need of the key catalogue and of the token objects behind it.
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import type { KeyRecord, PublicJwk } from '../../../proto/documents/key-record.ts';
import type { TokenCall } from './token.ts';

export interface KeysPort {
  /** Throws REGISTRY_UNAVAILABLE where a change of the tenant's keys could not be decided now. */
  requireChangeable(tenant: string): void;
  /** Undefined where the tenant has no such key. Served from memory. */
  get(tenant: string, keyId: string): KeyRecord | undefined;
  /** In order of key id, from the first id after `after`; stops when `accept` has taken `limit`. */
  list(
    tenant: string,
    query: {
      readonly after?: string;
      readonly prefix?: string;
      readonly limit: number;
      accept(key: KeyRecord): boolean;
    },
  ): readonly KeyRecord[];
  /** Durable when it resolves. KEY_EXISTS where the id is taken. */
  insert(record: KeyRecord): Promise<void>;
  /** Durable when it resolves. KEY_CONFLICT unless the stored revision is `next.revision - 1`. */
  replace(next: KeyRecord): Promise<void>;
  /**
   * Counts one use against the hard limit, reserving a durable block first where the present one is used up.
   * KEY_LIMIT where none is left. Resolves with the uses made so far, this one included. Uses are counted by version:
   * rotation starts anew.
   */
  use(record: KeyRecord): Promise<number>;
  /** Uses made of the primary version, an upper bound after a crash. */
  uses(tenant: string, keyId: string): number;
  /** What was done with a version; the times of last use are kept about once a minute, so a crash forgets the newest. */
  usage(
    tenant: string,
    keyId: string,
    version: number,
  ): { readonly made: number; readonly appliedAt?: number; readonly processedAt?: number };
  /** Notes that a version has read something with success. In memory: nothing waits for it. */
  processed(tenant: string, keyId: string, version: number): void;
}

/** Token objects of key versions, made so that a crash at any moment leaves none that nobody knows. */
export interface ObjectsPort {
  /**
   * Notes the object durably, then generates it. Storing a record that names its `tokenId` ends the note; what no
   * record names is destroyed by `discard`, or by the reaper after a crash.
   */
  generate(
    what: {
      readonly tenant: string;
      readonly keyId: string;
      readonly version: number;
      readonly algorithm: string;
      readonly purpose: Purpose;
      readonly jose: string;
    },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk }>;
  /** The same for an object of material that was made elsewhere; see `TokenPort.create`. */
  create(
    what: {
      readonly tenant: string;
      readonly keyId: string;
      readonly version: number;
      readonly algorithm: string;
      readonly purpose: Purpose;
      readonly jose: string;
      readonly material: readonly Buffer[];
    },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk }>;
  /** Destroys an object that no record came to name. Never rejects: where the token cannot do it now, the reaper will. */
  discard(tokenId: string): Promise<void>;
}
