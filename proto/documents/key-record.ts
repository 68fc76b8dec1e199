// The key record: what the catalogue stores and, later, the registry synchronises. Plain JSON, no secret material
// but wrapped blobs. The state table says what each state lets an operation do.
import type { Custody, Purpose } from './algorithms.ts';
import { type OperationName, operation } from './operations.ts';

export type KeyState =
  | 'PRE_ACTIVE'
  | 'ACTIVE'
  | 'SUSPENDED'
  | 'EXPIRED'
  | 'REVOKED'
  | 'PENDING_DESTRUCTION'
  | 'DESTROYED';
export type VersionState = 'PRIMARY' | 'RETIRED' | 'REVOKED' | 'DESTROYED';

/** A public JWK (RFC 7517) without private members. */
export type PublicJwk = Readonly<Record<string, string>>;

export interface KeyVersionRecord {
  readonly version: number;
  readonly algorithm: string;
  /** The JOSE algorithm that this version was made for. */
  readonly jose: string;
  readonly state: VersionState;
  readonly custody: Custody;
  /** CKA_ID in lower-case hex of the object(s) in the token; absent for wrapped custody and after destruction. */
  readonly tokenId?: string;
  /** Base64url of a wrapped-key blob (docs/spec/wrapped-key.md). */
  readonly wrapped?: string;
  readonly publicJwk?: PublicJwk;
  /** Its secret part was made elsewhere and brought in by ImportKey; absent: generated here. */
  readonly origin?: 'imported';
  /** Milliseconds since 1970, UTC; so are all times of a record. */
  readonly createdAt: number;
}

export interface KeyLimits {
  readonly softUses?: number;
  readonly hardUses?: number;
  readonly softExpiry?: number;
  readonly hardExpiry?: number;
}

export interface Grant {
  readonly principal: string;
  readonly operations: readonly OperationName[];
}

export interface KeyRecord {
  readonly tenant: string;
  readonly keyId: string;
  readonly purpose: Purpose;
  /** As stored: EXPIRED and the end of PRE_ACTIVE are judged by time, see `stateAt` in key-states.ts. */
  readonly state: Exclude<KeyState, 'EXPIRED' | 'PRE_ACTIVE'>;
  /** The state that RestoreKey goes back to. */
  readonly stateBefore?: Exclude<KeyState, 'EXPIRED' | 'PRE_ACTIVE'>;
  readonly labels: Readonly<Record<string, string>>;
  readonly limits: KeyLimits;
  readonly grants: readonly Grant[];
  readonly versions: readonly KeyVersionRecord[];
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly activatesAt?: number;
  readonly destroyAt?: number;
  /** From 1, plus one with each change: the value for compare-and-set. */
  readonly revision: number;
}

/** `kid` in JOSE headers: "<tenant>/<key id>/<version>". */
export const kidOf = (tenant: string, keyId: string, version: number): string => `${tenant}/${keyId}/${version}`;

export const KEY_ID_PATTERN = /^[a-z0-9][a-z0-9._-]{0,63}$/;
export const TENANT_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;

const isCrypto = (name: OperationName): boolean => ['apply', 'process'].includes(operation(name).kind);

/**
 * May the principal do this with a key that has these grants? Any grant narrows the cryptographic operations. Reading
 * and managing are narrowed only where a grant names such an operation, so that a key cannot be locked away by accident.
 */
export const grantsAllow = (grants: readonly Grant[], principal: string, name: OperationName): boolean => {
  if (grants.length === 0) return true;
  if (!isCrypto(name) && grants.every((grant) => grant.operations.every(isCrypto))) return true;
  return grants.some((grant) => grant.principal === principal && grant.operations.includes(name));
};
