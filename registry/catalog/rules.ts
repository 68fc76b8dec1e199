// What a catalogue entry may become: the rules of one change, as pure functions. Invariant: a version is never lost or
// altered, and no key or version leaves DESTROYED or REVOKED.
import type { KeyRecord, KeyVersionRecord } from '../../proto/documents/key-record.ts';
import { KeyRecordError, parseKeyRecord } from '../../proto/documents/key-record-parse.ts';
import { RegistryError } from '../errors.ts';
import type { EntryName } from './store.ts';

export interface Kek {
  readonly version: number;
  /** CKA_ID, 16 bytes. */
  readonly tokenId: Buffer;
  readonly state: 'IDLE' | 'LIVE' | 'DESTROYED';
  readonly revision: number;
}

/** An entry as the wire has it. */
export type CatalogItem =
  | { readonly kind: 'key'; readonly record: Buffer }
  | { readonly kind: 'kek'; readonly kek: Kek };

/** An entry that was read and is one. */
export type Entry = { readonly name: EntryName; readonly revision: number } & (
  | { readonly kind: 'key'; readonly record: KeyRecord }
  | { readonly kind: 'kek'; readonly kek: Kek }
);

const MAX_RECORD_BYTES = 3 * 1024 * 1024; // a message of gRPC has 4 MiB
const TOKEN_ID_BYTES = 16;

const refused = (message: string, cause?: unknown): RegistryError =>
  new RegistryError('RECORD_INVALID', { message, ...(cause !== undefined && { cause }) });

const readKek = (kek: Kek): Entry => {
  const { version, tokenId, revision } = kek;
  if (!Number.isSafeInteger(version) || version < 1 || tokenId.length !== TOKEN_ID_BYTES || revision < 1) {
    throw refused('not a reference to a key encryption key');
  }
  return { kind: 'kek', kek, name: { kind: 'kek', name: String(version) }, revision };
};

/** Throws RECORD_INVALID, also where the entry is of another tenant. */
export const readItem = (tenant: string, item: CatalogItem): Entry => {
  if (item.kind === 'kek') return readKek(item.kek);
  if (item.record.length > MAX_RECORD_BYTES) throw new RegistryError('TOO_LARGE');
  try {
    const record = parseKeyRecord(item.record);
    if (record.tenant !== tenant) throw refused('the record is of another tenant');
    return { kind: 'key', record, name: { kind: 'key', name: record.keyId }, revision: record.revision };
  } catch (cause) {
    if (!(cause instanceof KeyRecordError)) throw cause;
    throw refused(cause.message, cause);
  }
};

/** What of a version stays as it is; `wrapped` may change where the key encryption key was rotated. */
const identityOf = ({ version, algorithm, jose, custody, tokenId, publicJwk, origin, createdAt }: KeyVersionRecord) =>
  JSON.stringify([version, algorithm, jose, custody, tokenId, sorted(publicJwk), origin, createdAt]);

const sorted = (jwk: KeyVersionRecord['publicJwk']) => jwk && Object.entries(jwk).sort(([a], [b]) => (a < b ? -1 : 1));

const VERSION_NEXT: Readonly<Record<KeyVersionRecord['state'], readonly KeyVersionRecord['state'][]>> = {
  PRIMARY: ['PRIMARY', 'RETIRED', 'REVOKED', 'DESTROYED'],
  RETIRED: ['PRIMARY', 'RETIRED', 'REVOKED', 'DESTROYED'],
  REVOKED: ['REVOKED', 'DESTROYED'],
  DESTROYED: ['DESTROYED'],
};

const checkVersion = (before: KeyVersionRecord, after: KeyVersionRecord | undefined): void => {
  if (after === undefined) throw refused(`version ${before.version} is lost`);
  if (!VERSION_NEXT[before.state].includes(after.state)) {
    throw refused(`version ${before.version} cannot go from ${before.state} to ${after.state}`);
  }
  // A destroyed version keeps its number, and need not say any more where its key material was.
  const { tokenId: _, ...rest } = before;
  const known = after.state === 'DESTROYED' && after.tokenId === undefined ? rest : before;
  if (identityOf(known) !== identityOf(after)) throw refused(`version ${before.version} is altered`);
};

const checkKeyState = (before: KeyRecord, after: KeyRecord): void => {
  const next: Readonly<Record<KeyRecord['state'], readonly KeyRecord['state'][]>> = {
    ACTIVE: ['ACTIVE', 'SUSPENDED', 'REVOKED', 'PENDING_DESTRUCTION', 'DESTROYED'],
    SUSPENDED: ['ACTIVE', 'SUSPENDED', 'REVOKED', 'PENDING_DESTRUCTION', 'DESTROYED'],
    REVOKED: ['REVOKED', 'PENDING_DESTRUCTION', 'DESTROYED'],
    PENDING_DESTRUCTION: ['PENDING_DESTRUCTION', 'DESTROYED', ...(before.stateBefore ? [before.stateBefore] : [])],
    DESTROYED: ['DESTROYED'],
  };
  if (!next[before.state].includes(after.state))
    throw refused(`the key cannot go from ${before.state} to ${after.state}`);
  // Through PENDING_DESTRUCTION a revoked key would come back as an active one.
  const wasRevoked = before.state === 'REVOKED' || before.stateBefore === 'REVOKED';
  if (wasRevoked && after.state === 'PENDING_DESTRUCTION' && after.stateBefore !== 'REVOKED') {
    throw refused('the key was revoked');
  }
};

const checkKey = (before: KeyRecord, after: KeyRecord): void => {
  if (before.purpose !== after.purpose || before.createdAt !== after.createdAt) throw refused('the key is another one');
  checkKeyState(before, after);
  for (const version of before.versions) {
    checkVersion(
      version,
      after.versions.find((row) => row.version === version.version),
    );
  }
  const newest = before.versions.at(-1)?.version ?? 0;
  const added = after.versions.filter(({ version }) => !before.versions.some((row) => row.version === version));
  if (added.some(({ version }) => version <= newest)) throw refused('a new version has an old number');
};

/** IDLE, LIVE, IDLE, DESTROYED: each a step, and the second IDLE is not used again. */
const checkKek = (before: Kek, after: Kek): void => {
  if (!before.tokenId.equals(after.tokenId)) throw refused('the key encryption key is another one');
  const step = `${before.state}>${after.state}`;
  if (!['IDLE>LIVE', 'LIVE>IDLE', 'IDLE>DESTROYED'].includes(step) || (step === 'IDLE>LIVE' && before.revision > 1)) {
    throw refused(`a key encryption key cannot go from ${before.state} to ${after.state}`);
  }
};

/** Throws RECORD_INVALID where no entry may change so. */
export const checkChange = (before: Entry | undefined, after: Entry): void => {
  if (before === undefined) {
    if (after.kind === 'kek' && after.kek.state !== 'IDLE') throw refused('a key encryption key is IDLE when inserted');
    return;
  }
  if (before.kind === 'key' && after.kind === 'key') checkKey(before.record, after.record);
  else if (before.kind === 'kek' && after.kind === 'kek') checkKek(before.kek, after.kek);
};
