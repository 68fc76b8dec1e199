// Wrapped blobs of key records, by the KEK that they are under. Invariant: no blob comes into the catalogue under a KEK
// that is not live there: one that is being made or destroyed, that is destroyed, or that nobody has heard of.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { decodeWrappedKey, WrappedKeyError } from '../../proto/documents/wrapped-key.ts';
import { RegistryError } from '../errors.ts';
import type { Entry } from './rules.ts';
import type { EntryName } from './store.ts';

/** Undefined where it is no blob. */
export const kekVersionOf = (wrapped: string): number | undefined => {
  try {
    return decodeWrappedKey(wrapped).kekVersion;
  } catch (thrown) {
    if (thrown instanceof WrappedKeyError) return undefined;
    throw thrown;
  }
};

const blobsOf = ({ versions }: KeyRecord): string[] => versions.flatMap(({ wrapped }) => wrapped ?? []);

/** Names of the KEKs that an entry's blobs are under. */
export const keksOf = (entry: Entry): EntryName[] => {
  if (entry.kind !== 'key') return [];
  const versions = blobsOf(entry.record).map(kekVersionOf);
  const names = [...new Set(versions)].flatMap((version) => (version === undefined ? [] : [String(version)]));
  return names.map((name) => ({ kind: 'kek', name }));
};

/** Throws KEK_NOT_LIVE, or RECORD_INVALID where it is no blob. Blobs that are stored already may stay. */
export const checkBlobs = (before: Entry | undefined, after: Entry, keks: readonly Entry[]): void => {
  if (after.kind !== 'key') return;
  const stored = new Set(before?.kind === 'key' ? blobsOf(before.record) : []);
  for (const blob of blobsOf(after.record)) {
    if (stored.has(blob)) continue;
    const version = kekVersionOf(blob);
    if (version === undefined) throw new RegistryError('RECORD_INVALID', { message: 'not a wrapped-key blob' });
    const kek = keks.find((entry) => entry.kind === 'kek' && entry.kek.version === version);
    if (kek?.kind === 'kek' && kek.kek.state === 'LIVE') continue;
    throw new RegistryError('KEK_NOT_LIVE', { metadata: { kek: String(version) } });
  }
};
