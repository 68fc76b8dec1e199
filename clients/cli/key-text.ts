// A key record in text.
import type { Key, KeyVersion } from '../typescript/index.ts';
import { factsText, tableText } from './output.ts';

/** The version that serves new operations; none once the key is destroyed. */
export const primaryOf = (key: Key): KeyVersion | undefined =>
  key.versions.find((version) => version.state === 'PRIMARY');

/** A record as people read it: facts, then a table of versions. */
export const keyText = (key: Key): string => {
  const { softUses, hardUses, softExpiry, hardExpiry } = key.limits;
  const facts = factsText([
    ['key', key.keyId],
    ['tenant', key.tenant],
    ['purpose', key.purpose],
    ['state', key.state],
    [
      'labels',
      Object.entries(key.labels)
        .map((pair) => pair.join('='))
        .join(' '),
    ],
    ['grants', key.grants.map((grant) => `${grant.principal}=${grant.operations.join(',')}`).join(' ')],
    ['uses', hardUses === undefined && key.uses === 0 ? undefined : `${key.uses}${hardUses ? ` of ${hardUses}` : ''}`],
    ['soft limit', softUses],
    ['warns from', softExpiry],
    ['expires', hardExpiry],
    ['active from', key.activationTime],
    ['destroyed at', key.destroyTime],
    ['created', key.createTime],
    ['changed', key.updateTime],
    ['revision', key.revision],
  ]);
  const rows = key.versions.map((row) => [
    row.version,
    row.state,
    row.algorithm,
    row.joseAlgorithm,
    row.custody,
    row.origin,
    row.createTime,
  ]);
  return `${facts}\n${tableText(['VERSION', 'STATE', 'ALGORITHM', 'JOSE', 'CUSTODY', 'ORIGIN', 'CREATED'], rows)}`;
};
