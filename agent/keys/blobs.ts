// Stored blobs by the KEK that they are under. Invariant: no record with a new blob is stored whose KEK is going or gone.
import type { KeyRecord, KeyVersionRecord } from '../../proto/documents/key-record.ts';
import { decodeWrappedKey, WrappedKeyError } from '../../proto/documents/wrapped-key.ts';
import { AgentError } from '../errors.ts';
import type { TenantKeks } from './keks.ts';

/** The KEK version of a stored blob; undefined where there is no blob or it does not parse. */
export const kekVersionOf = (version: KeyVersionRecord): number | undefined => {
  if (version.wrapped === undefined) return undefined;
  try {
    return decodeWrappedKey(version.wrapped).kekVersion;
  } catch (error) {
    if (error instanceof WrappedKeyError) return undefined; // opens under no KEK, so it keeps none alive
    throw error;
  }
};

/** Refuses a record with a new blob whose KEK is going or gone. */
export const admitBlobs = (keks: TenantKeks, next: KeyRecord, previous: KeyRecord | undefined): void => {
  const stored = new Set(previous?.versions.map((row) => row.wrapped));
  for (const version of next.versions) {
    if (version.wrapped === undefined || stored.has(version.wrapped)) continue;
    const kekVersion = kekVersionOf(version);
    if (kekVersion === undefined || keks.byVersion(next.tenant, kekVersion) === undefined) {
      throw new AgentError('KEY_CONFLICT', { message: 'the tenant KEK was rotated meanwhile; try again' });
    }
  }
};
