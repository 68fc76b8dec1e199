// A key record as bytes: JSON with a schema name. The parser takes any bytes, is bounded, and refuses what is unknown,
// missing or contradictory, so that a record in memory always keeps the invariants of the state table.
import { algorithm, type Custody, type Purpose } from './algorithms.ts';
import {
  copyGrants,
  grantsFault,
  isTime,
  labelsFault,
  limitsFault,
  MAX_GRANTS,
  MAX_LABELS,
  MAX_VERSIONS,
} from './key-attributes.ts';
import {
  KEY_ID_PATTERN,
  type KeyLimits,
  type KeyRecord,
  type KeyVersionRecord,
  type PublicJwk,
  TENANT_PATTERN,
  type VersionState,
} from './key-record.ts';
import { MAX_WRAPPED_TEXT } from './wrapped-key.ts';

export const KEY_RECORD_SCHEMA = 'mortise.key/v1';
/** 1000 versions of up to 12 KiB (post-quantum public keys and wrapped private ones), 64 grants and 32 labels fit well. */
export const MAX_KEY_RECORD_BYTES = 16 * 1024 * 1024;

/** Why bytes are not a key record. `path` names the member; nothing of its value is told. */
export class KeyRecordError extends Error {
  readonly path: string;

  constructor(path: string, problem: string) {
    super(`key record: ${path === '' ? '' : `${path}: `}${problem}`);
    this.name = 'KeyRecordError';
    this.path = path;
  }
}

type Json = Readonly<Record<string, unknown>>;
const STORED_STATES = ['ACTIVE', 'SUSPENDED', 'REVOKED', 'PENDING_DESTRUCTION', 'DESTROYED'] as const;
const VERSION_STATES: readonly VersionState[] = ['PRIMARY', 'RETIRED', 'REVOKED', 'DESTROYED'];
const PURPOSES: readonly Purpose[] = ['encrypt', 'sign', 'mac'];
const CUSTODIES: readonly Custody[] = ['hsm', 'wrapped', 'split'];
const TOKEN_ID_PATTERN = /^(?:[0-9a-f]{2}){1,64}$/;
const WRAPPED_PATTERN = /^[A-Za-z0-9_-]+$/;
/** Public members only (RFC 7517, RFC 7518 section 6, RFC 8037, RFC 9964): a private one in a record is a fault. */
const JWK_MEMBERS: ReadonlySet<string> = new Set(['kty', 'crv', 'x', 'y', 'n', 'e', 'alg', 'pub']);
const MAX_JWK_MEMBER = 4096; // the halves of ML-DSA-87-ES384 take 3584 characters

const object = (value: unknown, path: string, members: readonly string[]): Json => {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new KeyRecordError(path, 'not an object');
  for (const name of Object.keys(value)) {
    if (!members.includes(name)) throw new KeyRecordError(path, 'a member that is not known');
  }
  return value as Json;
};

const list = (value: unknown, path: string, max: number): readonly unknown[] => {
  if (!Array.isArray(value) || value.length > max) throw new KeyRecordError(path, `not a list of at most ${max}`);
  return value;
};

const text = (value: unknown, path: string, pattern?: RegExp): string => {
  if (typeof value !== 'string' || pattern?.test(value) === false) throw new KeyRecordError(path, 'not such a text');
  return value;
};

const oneOf = <T extends string>(value: unknown, path: string, values: readonly T[]): T => {
  const found = values.find((row) => row === value);
  if (found === undefined) throw new KeyRecordError(path, 'not a known value');
  return found;
};

const time = (value: unknown, path: string): number => {
  if (typeof value !== 'number' || !isTime(value)) throw new KeyRecordError(path, 'not a time');
  return value;
};

const strings = (value: unknown, path: string, maxMembers: number): Readonly<Record<string, string>> => {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new KeyRecordError(path, 'not an object');
  const entries = Object.entries(value);
  if (entries.length > maxMembers) throw new KeyRecordError(path, 'too many members');
  for (const [, member] of entries) if (typeof member !== 'string') throw new KeyRecordError(path, 'not a text');
  return Object.fromEntries(entries); // defines own members, also one called "__proto__"
};

const parseJwk = (value: unknown, path: string): PublicJwk => {
  const jwk = strings(value, path, JWK_MEMBERS.size);
  for (const [name, member] of Object.entries(jwk)) {
    if (!JWK_MEMBERS.has(name) || member.length > MAX_JWK_MEMBER) throw new KeyRecordError(path, 'not a public JWK');
  }
  return jwk;
};

const VERSION_MEMBERS = 'version algorithm jose state custody tokenId wrapped publicJwk origin createdAt'.split(' ');

const parseVersion = (value: unknown, path: string, purpose: Purpose): KeyVersionRecord => {
  const json = object(value, path, VERSION_MEMBERS);
  const version = json['version'];
  if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < 1 || version > 0xffffffff) {
    throw new KeyRecordError(`${path}.version`, 'not a version number');
  }
  const id = text(json['algorithm'], `${path}.algorithm`);
  const jose = text(json['jose'], `${path}.jose`);
  if (algorithm(id)?.jose[purpose]?.includes(jose) !== true) {
    throw new KeyRecordError(`${path}.algorithm`, 'not an algorithm of the table for this purpose');
  }
  const { tokenId, wrapped, publicJwk, origin } = json;
  if (typeof wrapped === 'string' && wrapped.length > MAX_WRAPPED_TEXT) {
    throw new KeyRecordError(`${path}.wrapped`, 'too long');
  }
  return {
    version,
    algorithm: id,
    jose,
    state: oneOf(json['state'], `${path}.state`, VERSION_STATES),
    custody: oneOf(json['custody'], `${path}.custody`, CUSTODIES),
    ...(tokenId !== undefined && { tokenId: text(tokenId, `${path}.tokenId`, TOKEN_ID_PATTERN) }),
    ...(wrapped !== undefined && { wrapped: text(wrapped, `${path}.wrapped`, WRAPPED_PATTERN) }),
    ...(publicJwk !== undefined && { publicJwk: parseJwk(publicJwk, `${path}.publicJwk`) }),
    ...(origin !== undefined && { origin: oneOf(origin, `${path}.origin`, ['imported']) }),
    createdAt: time(json['createdAt'], `${path}.createdAt`),
  };
};

const parseLimits = (value: unknown): KeyLimits => {
  const limits = object(value, 'limits', ['softUses', 'hardUses', 'softExpiry', 'hardExpiry']);
  for (const member of Object.values(limits)) {
    if (typeof member !== 'number') throw new KeyRecordError('limits', 'not a number');
  }
  const fault = limitsFault(limits);
  if (fault !== undefined) throw new KeyRecordError(`limits.${fault}`, 'not a count from 1 or a time');
  return { ...limits };
};

const parseLabels = (value: unknown): Readonly<Record<string, string>> => {
  const labels = strings(value, 'labels', MAX_LABELS);
  if (labelsFault(labels) !== undefined) throw new KeyRecordError('labels', 'not such labels');
  return labels;
};

const parseGrants = (value: unknown): KeyRecord['grants'] => {
  const grants = list(value, 'grants', MAX_GRANTS).map((row) => {
    const json = object(row, 'grants', ['principal', 'operations']);
    const operations = list(json['operations'], 'grants', 64).map((name) => text(name, 'grants'));
    return { principal: text(json['principal'], 'grants'), operations };
  });
  if (grantsFault(grants) !== undefined) throw new KeyRecordError('grants', 'not such grants');
  return copyGrants(grants);
};

/** What the state of a key says about its versions and times. */
const checkConsistency = (record: KeyRecord): void => {
  const { state, versions } = record;
  if (versions.length === 0) throw new KeyRecordError('versions', 'none');
  versions.forEach((row, index) => {
    const path = `versions[${index}]`;
    const before = versions[index - 1];
    if (before !== undefined && before.version >= row.version) throw new KeyRecordError(path, 'out of order');
    if (row.state === 'DESTROYED') {
      if (row.wrapped !== undefined) throw new KeyRecordError(path, 'destroyed, but has a wrapped blob');
      return;
    }
    const [needsToken, needsBlob] = [row.custody !== 'wrapped', row.custody !== 'hsm'];
    if (needsToken !== (row.tokenId !== undefined) || needsBlob !== (row.wrapped !== undefined)) {
      throw new KeyRecordError(path, 'custody and key material disagree');
    }
  });
  const primaries = versions.filter((row) => row.state === 'PRIMARY').length;
  if (primaries !== (state === 'DESTROYED' ? 0 : 1))
    throw new KeyRecordError('versions', 'not exactly one primary version');
  if (state === 'DESTROYED' && versions.some((row) => row.state !== 'DESTROYED')) {
    throw new KeyRecordError('versions', 'a live version of a destroyed key');
  }
  const pending = state === 'PENDING_DESTRUCTION';
  if (pending !== (record.stateBefore !== undefined)) throw new KeyRecordError('stateBefore', 'does not fit the state');
  if (pending && record.destroyAt === undefined) throw new KeyRecordError('destroyAt', 'missing');
};

const RECORD_MEMBERS =
  'schema tenant keyId purpose state stateBefore labels limits grants versions createdAt updatedAt activatesAt destroyAt revision'.split(
    ' ',
  );

const parseJson = (bytes: Uint8Array): unknown => {
  if (bytes.length > MAX_KEY_RECORD_BYTES) throw new KeyRecordError('', 'too large');
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw new KeyRecordError('', 'not JSON in UTF-8'); // the cause would quote the bytes
  }
};

/** Parses a stored record, or throws KeyRecordError. */
export const parseKeyRecord = (bytes: Uint8Array): KeyRecord => {
  const json = object(parseJson(bytes), '', RECORD_MEMBERS);
  if (json['schema'] !== KEY_RECORD_SCHEMA) throw new KeyRecordError('schema', 'not known');
  const purpose = oneOf(json['purpose'], 'purpose', PURPOSES);
  const { stateBefore, activatesAt, destroyAt, revision } = json;
  if (typeof revision !== 'number' || !Number.isSafeInteger(revision) || revision < 1) {
    throw new KeyRecordError('revision', 'not a revision');
  }
  const record: KeyRecord = {
    tenant: text(json['tenant'], 'tenant', TENANT_PATTERN),
    keyId: text(json['keyId'], 'keyId', KEY_ID_PATTERN),
    purpose,
    state: oneOf(json['state'], 'state', STORED_STATES),
    ...(stateBefore !== undefined && {
      stateBefore: oneOf(stateBefore, 'stateBefore', ['ACTIVE', 'SUSPENDED', 'REVOKED']),
    }),
    labels: parseLabels(json['labels']),
    limits: parseLimits(json['limits']),
    grants: parseGrants(json['grants']),
    versions: list(json['versions'], 'versions', MAX_VERSIONS).map((row, index) =>
      parseVersion(row, `versions[${index}]`, purpose),
    ),
    createdAt: time(json['createdAt'], 'createdAt'),
    updatedAt: time(json['updatedAt'], 'updatedAt'),
    ...(activatesAt !== undefined && { activatesAt: time(activatesAt, 'activatesAt') }),
    ...(destroyAt !== undefined && { destroyAt: time(destroyAt, 'destroyAt') }),
    revision,
  };
  checkConsistency(record);
  return record;
};

/** The bytes of a record; what `parseKeyRecord` would refuse is refused here, before it is stored. */
export const encodeKeyRecord = (record: KeyRecord): Buffer => {
  const bytes = Buffer.from(JSON.stringify({ schema: KEY_RECORD_SCHEMA, ...record }));
  parseKeyRecord(bytes);
  return bytes;
};
