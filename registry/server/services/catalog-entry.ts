// An entry of the catalogue as the wire has it, taken apart.
import { CatalogEntry, KekState } from '../../../proto/gen/mortise/registry/v1/catalog.ts';
import { invalid, RegistryError } from '../../errors.ts';
import type { CatalogItem } from './catalog-ports.ts';

export const safe = (value: bigint, field: string): number => {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(field, 'too large');
  return Number(value);
};

const STATES = ['IDLE', 'LIVE', 'DESTROYED'] as const;

/** Throws RECORD_INVALID where it is no entry. */
export const itemOf = ({ entry }: CatalogEntry): CatalogItem => {
  if (entry?.$case === 'keyRecord') return { kind: 'key', record: Buffer.from(entry.value) };
  const state = STATES.find((name) => entry?.$case === 'kek' && KekState[name] === entry.value.state);
  if (entry?.$case !== 'kek' || state === undefined) throw new RegistryError('RECORD_INVALID');
  const { version, tokenId, revision } = entry.value;
  return { kind: 'kek', kek: { version, tokenId: Buffer.from(tokenId), state, revision: safe(revision, 'revision') } };
};

/** Stored bytes, taken apart: what the catalogue's room asks for. */
export const decodeEntry = (bytes: Buffer): CatalogItem => itemOf(CatalogEntry.decode(bytes));

/** The bytes that are stored and that heads are over. */
export const encodeEntry = (tenant: string, item: CatalogItem): Buffer => {
  const entry: CatalogEntry['entry'] =
    item.kind === 'key'
      ? { $case: 'keyRecord', value: item.record }
      : { $case: 'kek', value: { ...item.kek, state: KekState[item.kek.state], revision: BigInt(item.kek.revision) } };
  return Buffer.from(CatalogEntry.encode({ tenant, entry }).finish());
};
