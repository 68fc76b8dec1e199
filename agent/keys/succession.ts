// May this record follow that one, whatever lay between? The registry checks each change; this host checks again what it
// already knows: a registry that is taken over must not bring a revoked key back, or put another key in its place.
import type { KeyRecord, KeyVersionRecord } from '../../proto/documents/key-record.ts';

const sorted = (jwk: KeyVersionRecord['publicJwk']) => jwk && Object.entries(jwk).sort(([a], [b]) => (a < b ? -1 : 1));

/** What of a version stays as it is. A blob moves with its KEK; a destroyed version need not say where its material was. */
const identityOf = (row: KeyVersionRecord, withToken: boolean): string => {
  const { version, algorithm, jose, custody, tokenId, publicJwk, origin, createdAt } = row;
  return JSON.stringify([
    version,
    algorithm,
    jose,
    custody,
    withToken && tokenId,
    sorted(publicJwk),
    origin,
    createdAt,
  ]);
};

const versionFault = (before: KeyVersionRecord, after: KeyVersionRecord | undefined): string | undefined => {
  const { version, state } = before;
  if (after === undefined) return `version ${version} is lost`;
  const isLeft = (state === 'REVOKED' && after.state !== 'REVOKED') || state === 'DESTROYED';
  if (isLeft && after.state !== 'DESTROYED') return `version ${version} is ${after.state} after ${state}`;
  const withToken = after.state !== 'DESTROYED' || after.tokenId !== undefined;
  return identityOf(before, withToken) === identityOf(after, withToken) ? undefined : `version ${version} is altered`;
};

const isRevoked = ({ state, stateBefore }: KeyRecord): boolean => state === 'REVOKED' || stateBefore === 'REVOKED';

/** Undefined where it may. */
export const successionFault = (before: KeyRecord, after: KeyRecord): string | undefined => {
  if (before.purpose !== after.purpose || before.createdAt !== after.createdAt) return 'it is another key';
  if (before.state === 'DESTROYED' && after.state !== 'DESTROYED') return `it is ${after.state} after DESTROYED`;
  if (isRevoked(before) && !isRevoked(after) && after.state !== 'DESTROYED')
    return `it is ${after.state} after REVOKED`;
  const newest = before.versions.at(-1)?.version ?? 0;
  for (const row of before.versions) {
    const fault = versionFault(
      row,
      after.versions.find(({ version }) => version === row.version),
    );
    if (fault !== undefined) return fault;
  }
  const known = new Set(before.versions.map(({ version }) => version));
  const old = after.versions.find(({ version }) => version <= newest && !known.has(version));
  return old === undefined ? undefined : `version ${old.version} is new and has an old number`;
};
