// What becomes of objects that hosts found in the token and that no entry of a rebuilt catalogue names. Invariant: nothing
// is invented. A record that is made anew says what labels and attributes of the objects say and nothing else; it is
// suspended, because nobody knows what its key was allowed to do; and what could not be made is named, with the reason.

import type { Purpose } from '../../proto/documents/algorithms.ts';
import type { KeyRecord, KeyVersionRecord, PublicJwk } from '../../proto/documents/key-record.ts';
import { encodeKeyRecord, KeyRecordError } from '../../proto/documents/key-record-parse.ts';
import { RegistryError } from '../errors.ts';
import { type CatalogItem, type Entry, readItem } from './rules.ts';
import type { EntryKind, EntryName } from './store.ts';

/** As a host found it: what its label and its attributes say. */
export interface FoundObject extends EntryName {
  readonly version: number;
  /** CKA_ID, lower-case hex. */
  readonly tokenId: string;
  readonly jose: string;
  readonly algorithm: string;
  readonly purpose?: Purpose;
  readonly imported: boolean;
  readonly publicJwk?: PublicJwk;
  /** Why no version can be made of it. */
  readonly fault?: string;
}

export type Outcome = 'RECREATED' | 'ADDED' | 'RESERVED' | 'LOST' | 'LEFT';

export interface Finding {
  readonly kind: EntryKind;
  readonly name: string;
  readonly versions: readonly number[];
  readonly outcome: Outcome;
  readonly reason: string;
}

/** Label of a record that was made anew; its value is the rebuild. */
export const RECREATED_LABEL = 'mortise/recreated-by';

/** Whether no host knew anything of an entry that this made: versions are added to records of hosts too. */
export const isMadeOfToken = (entry: Entry, rebuild: string): boolean =>
  entry.revision === 1 || (entry.kind === 'key' && entry.record.labels[RECREATED_LABEL] === rebuild);

interface Placed {
  /** The entry as it is to be; absent: it stays as it is. */
  readonly item?: CatalogItem;
  readonly findings: readonly Finding[];
}

/** Whether the entry names the object. */
export const isNamed = (entry: Entry | undefined, { tokenId }: FoundObject): boolean => {
  if (entry?.kind === 'kek') return entry.kek.tokenId.toString('hex') === tokenId;
  return entry?.kind === 'key' && entry.record.versions.some((row) => row.tokenId === tokenId);
};

const RECREATED =
  'made anew from the token and suspended: grants, limits, labels, states and times of before are not known';
const ADDED = 'added from the token as retired: no host knew the record that names it';
const GONE = 'no host has its record and the token no object: it was destroyed, or wrapped and is lost';

const versionOf = (object: FoundObject, state: 'PRIMARY' | 'RETIRED', now: number): KeyVersionRecord => ({
  version: object.version,
  algorithm: object.algorithm,
  jose: object.jose,
  state,
  custody: 'hsm',
  tokenId: object.tokenId,
  ...(object.publicJwk !== undefined && { publicJwk: object.publicJwk }),
  ...(object.imported && { origin: 'imported' as const }),
  createdAt: now,
});

/** Numbers above `from` and up to the last of `versions`, which rise, that are not among them. */
const gaps = (from: number, versions: readonly number[]): readonly number[] => {
  const present = new Set(versions);
  const last = versions.at(-1) ?? from;
  return Array.from({ length: Math.min(last - from, MAX_GAP) }, (_, at) => from + 1 + at).filter(
    (n) => !present.has(n),
  );
};
const MAX_GAP = 1000;

const finding = (
  kind: EntryKind,
  name: string,
  outcome: Outcome,
  reason: string,
  versions: readonly number[] = [],
) => ({
  ...{ kind, name, versions, outcome, reason },
});

/** Sorts out what cannot be a version, with its reason: faults, and objects of which two claim one version. Each comes once. */
const sift = (name: string, objects: readonly FoundObject[]) => {
  const findings: Finding[] = [];
  const usable: FoundObject[] = [];
  const claims = Map.groupBy(objects, ({ version }) => version);
  for (const object of objects) {
    const { version, fault } = object;
    const twins = claims.get(version)?.length ?? 0;
    const why = fault ?? (twins > 1 ? 'several objects are labelled as this version' : undefined);
    if (why === undefined) usable.push(object);
    else findings.push(finding('key', name, why.startsWith('half a key') ? 'LOST' : 'LEFT', why, [version]));
  }
  return { usable: usable.sort((a, b) => a.version - b.version), findings };
};

const recreated = (at: Place, usable: readonly FoundObject[], newest: number): Placed => {
  const { tenant, name, rebuild, now } = at;
  const versions = usable.map(({ version }) => version);
  const [purpose, ...others] = new Set(usable.map((object) => object.purpose));
  const left = (reason: string): Placed => ({ findings: [finding('key', name, 'LEFT', reason, versions)] });
  if (purpose === undefined || others.length > 0) return left('its versions are not of one purpose');
  const last = usable.at(-1) as FoundObject;
  // The number of the version that could not be made would be given once more.
  if (last.version < newest) return left(`its newest version, ${newest}, could not be made`);
  const record: KeyRecord = {
    ...{ tenant, keyId: name, purpose, state: 'SUSPENDED', limits: {}, grants: [] },
    labels: { [RECREATED_LABEL]: rebuild },
    versions: usable.map((object) => versionOf(object, object === last ? 'PRIMARY' : 'RETIRED', now)),
    ...{ createdAt: now, updatedAt: now, revision: 1 },
  };
  const missing = gaps(0, versions);
  return {
    item: { kind: 'key', record: encodeKeyRecord(record) },
    findings: [
      finding('key', name, 'RECREATED', RECREATED, versions),
      ...(missing.length > 0 ? [finding('key', name, 'LOST', GONE, missing)] : []),
    ],
  };
};

/** Versions behind the newest one that hosts knew. */
const added = (at: Place, usable: readonly FoundObject[], record: KeyRecord): Placed => {
  const { name, now } = at;
  const newest = record.versions.at(-1)?.version ?? 0;
  const leftOver = record.state === 'DESTROYED' ? usable : usable.filter(({ version }) => version <= newest);
  const rest = usable.filter((object) => !leftOver.includes(object));
  const fits = rest.filter(({ purpose }) => purpose === record.purpose);
  const left = (objects: readonly FoundObject[], reason: string): Finding[] =>
    objects.length === 0
      ? []
      : [
          finding(
            'key',
            name,
            'LEFT',
            reason,
            objects.map(({ version }) => version),
          ),
        ];
  const findings = [
    ...left(leftOver, 'the record of the key does not name this object'),
    ...left(
      rest.filter((object) => !fits.includes(object)),
      `the key is for "${record.purpose}"`,
    ),
  ];
  if (fits.length === 0) return { findings };
  const versions = fits.map(({ version }) => version);
  const next: KeyRecord = {
    ...record,
    versions: [...record.versions, ...fits.map((object) => versionOf(object, 'RETIRED', now))],
    updatedAt: now,
    revision: record.revision + 1,
  };
  const missing = gaps(newest, versions);
  return {
    item: { kind: 'key', record: encodeKeyRecord(next) },
    findings: [
      ...findings,
      finding('key', name, 'ADDED', ADDED, versions),
      ...(missing.length > 0 ? [finding('key', name, 'LOST', GONE, missing)] : []),
    ],
  };
};

const kekPlaced = (name: string, objects: readonly FoundObject[], stored: Entry | undefined): Placed => {
  const [object, twin] = objects as readonly [FoundObject, FoundObject?];
  const left = (reason: string): Placed => ({ findings: [finding('kek', name, 'LEFT', reason)] });
  if (object.fault !== undefined) return left(object.fault);
  if (stored !== undefined || twin !== undefined) return left('another key encryption key has this number');
  const kek = { version: object.version, tokenId: Buffer.from(object.tokenId, 'hex'), state: 'IDLE' as const };
  const reason = 'no host knew it: its number stays taken and it is not used; what is wrapped by it is lost';
  return { item: { kind: 'kek', kek: { ...kek, revision: 1 } }, findings: [finding('kek', name, 'RESERVED', reason)] };
};

interface Place extends EntryName {
  readonly tenant: string;
  readonly rebuild: string;
  readonly now: number;
  /** The entry of this name that hosts knew. */
  readonly stored: Entry | undefined;
}

/** What becomes of the objects of one name that no entry names; the same object may be there several times. */
export const placeObjects = (at: Place, objects: readonly FoundObject[]): Placed => {
  const { kind, name, stored } = at;
  // Of an object that one host says a fault of, nothing is made, whatever another says.
  const sorted = [...objects].sort((a, b) => Number(a.fault === undefined) - Number(b.fault === undefined));
  const each = [...new Map(sorted.reverse().map((object) => [object.tokenId, object])).values()];
  const unnamed = each.filter((object) => !isNamed(stored, object));
  if (unnamed.length === 0) return { findings: [] };
  if (kind === 'kek') return kekPlaced(name, unnamed, stored);
  const { usable, findings } = sift(name, unnamed);
  if (usable.length === 0) return { findings };
  const newest = unnamed.reduce((most, { version }) => Math.max(most, version), 0);
  try {
    const placed = stored?.kind === 'key' ? added(at, usable, stored.record) : recreated(at, usable, newest);
    if (placed.item !== undefined) readItem(at.tenant, placed.item);
    return { ...placed, findings: [...findings, ...placed.findings] };
  } catch (thrown) {
    if (!(thrown instanceof KeyRecordError || thrown instanceof RegistryError)) throw thrown;
    const reason = `what hosts told of it makes no record: ${thrown.message}`;
    return {
      findings: [
        ...findings,
        finding(
          kind,
          name,
          'LEFT',
          reason,
          usable.map(({ version }) => version),
        ),
      ],
    };
  }
};
