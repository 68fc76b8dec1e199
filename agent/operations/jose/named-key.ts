// Which key, and which of its versions, a JWE or JWS is under: by the `kid` of its header, by the request's `key`, or
// both, which must agree. The header's `alg` chooses nothing: it must equal the version's.
import {
  KEY_ID_PATTERN,
  type KeyRecord,
  type KeyVersionRecord,
  TENANT_PATTERN,
} from '../../../proto/documents/key-record.ts';
import { versionAllows } from '../../../proto/documents/key-states.ts';
import { invalid } from '../../errors.ts';
import type { Part, Run } from '../perform.ts';

export const MAX_TRIED_VERSIONS = 8; // each may cost a private-key operation in the token

/** "<tenant>/<key id>/<version>", or undefined where the kid is not one of ours. */
export const parseKid = (kid: string): { tenant: string; keyId: string; version: number } | undefined => {
  const [tenant = '', keyId = '', version = '', ...more] = kid.split('/', 4);
  if (more.length > 0 || !TENANT_PATTERN.test(tenant) || !KEY_ID_PATTERN.test(keyId)) return undefined;
  return /^[1-9][0-9]{0,8}$/.test(version) ? { tenant, keyId, version: Number(version) } : undefined;
};

export interface NamedKey {
  readonly key: KeyRecord;
  /** The version that the kid names; undefined where no kid of ours does. */
  readonly version: number | undefined;
}

export const namedKey = (
  run: Run,
  input: {
    readonly key: string;
    readonly kid: string | undefined;
    readonly field: 'jwe' | 'jws';
    /** Name of the request's field for `key`. */
    readonly keyField?: string;
    readonly part?: Part;
  },
): NamedKey => {
  const { keyField = 'key', part } = input;
  const named = input.kid === undefined ? undefined : parseKid(input.kid);
  if (named === undefined) {
    if (input.key === '') throw invalid(keyField, `required, because the ${input.field} has no kid of this agent`);
    return { key: run.key(input.key, keyField, part), version: undefined };
  }
  const name = `${named.tenant}/${named.keyId}`;
  const keyId = run.keyId(name, input.field);
  if (input.key !== '' && run.keyId(input.key, keyField) !== keyId) {
    throw invalid(keyField, `the kid of the ${input.field} names another key`);
  }
  return { key: run.key(input.key === '' ? name : input.key, keyField, part), version: named.version };
};

/** Numbers of the versions to try: the named one, or the primary and then the retired ones, newest first. */
export const versionsToTry = ({ key, version }: NamedKey, isMeant: (row: KeyVersionRecord) => boolean): number[] => {
  if (version !== undefined) return [version];
  const rank = (row: KeyVersionRecord): number => (row.state === 'PRIMARY' ? Number.POSITIVE_INFINITY : row.version);
  return key.versions
    .filter((row) => versionAllows(row.state, 'process') && isMeant(row))
    .sort((a, b) => rank(b) - rank(a))
    .slice(0, MAX_TRIED_VERSIONS)
    .map((row) => row.version);
};

/** The token object behind a version whose custody is `hsm`. */
export const tokenIdOf = (version: KeyVersionRecord): string => {
  if (version.tokenId === undefined) throw new TypeError(`version ${version.version} has no object in the token`);
  return version.tokenId;
};
