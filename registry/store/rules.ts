// The rules that both stores keep in the same way: who may act for a tenant, how a head follows a head, what a log is.
import { createHash } from 'node:crypto';
import type { Actor } from '../actor.ts';
import type { RebuildRow } from '../catalog/store.ts';
import { RegistryError } from '../errors.ts';
import type { AdminRow, HostRow } from '../hosts/store.ts';
import type { LogAppend, LogRow } from '../ledger/store.ts';
import { PLATFORM } from './store.ts';

const HEAD_BYTES = 32;

export const hostMayServe = (row: HostRow | undefined, tenant: string): boolean =>
  row?.state === 'ACTIVE' && (tenant === PLATFORM || row.tenants.includes(tenant));

export const adminMayAct = (row: AdminRow | undefined, tenant: string, kind: 'admin' | 'auditor'): boolean => {
  if (row === undefined || row.revoked) return false;
  if (kind === 'auditor') return row.scopes.includes('audit.read-any');
  return row.tenants.length === 0 || row.tenants.includes(tenant);
};

/** SHA-256(head before || SHA-256(entry)). */
export const nextHead = (before: Buffer, entry: Buffer): Buffer => {
  const start = before.length === 0 ? Buffer.alloc(HEAD_BYTES) : before;
  return createHash('sha256').update(start).update(createHash('sha256').update(entry).digest()).digest();
};

/** A log of this tenant, and written by nobody but its own host or the registry. */
export const refuseForeignLog = (log: LogRow, tenant: string, actor: Actor): void => {
  const own = actor.kind === 'registry' || (actor.kind === 'host' && actor.name === log.host);
  const [host, of] = log.origin.split('/');
  if (!own || host !== log.host || of !== tenant) throw new RegistryError('PERMISSION_DENIED');
};

/** Nothing but what hosts offer changes a catalogue that is being rebuilt. */
export const refuseRebuilding = (row: RebuildRow | undefined): void => {
  if (row !== undefined && row.endedAt === undefined) throw new RegistryError('REBUILDING');
};

/** Auditors and administrators write nothing to catalogue and ledger. */
export const refuseReader = (actor: Actor): void => {
  if (actor.kind !== 'host' && actor.kind !== 'registry') throw new RegistryError('PERMISSION_DENIED');
};

/** Records whose least and greatest time are kept together, and those of so many again. */
export const SPAN = 256;
export const WIDE_SPAN = SPAN * SPAN;
const LEVELS = [SPAN, WIDE_SPAN] as const;

export interface Span {
  /** 1: of SPAN records; 2: of WIDE_SPAN. */
  readonly level: number;
  readonly at: number;
  readonly least: string;
  readonly greatest: string;
}

/** The spans that records are in, with the times of these records. */
export const spansOf = (records: LogAppend['records']): readonly Span[] =>
  LEVELS.flatMap((size, index) => {
    const spans = new Map<number, Span>();
    for (const { row, facts } of records) {
      const at = Math.floor(row.index / size);
      const own = { level: index + 1, at, least: facts.time, greatest: facts.time };
      spans.set(at, widened(spans.get(at), own));
    }
    return [...spans.values()];
  });

export const widened = (known: Span | undefined, { level, at, least, greatest }: Span): Span => ({
  level,
  at,
  least: known !== undefined && known.least < least ? known.least : least,
  greatest: known !== undefined && known.greatest > greatest ? known.greatest : greatest,
});

export const keyIdOf = (key: string): string => key.split('/')[0] as string;

/** Whatever a store's driver threw, as STORE_UNAVAILABLE; what the rooms throw inside a transaction passes. */
export const asStoreError = (thrown: unknown): RegistryError =>
  thrown instanceof RegistryError ? thrown : new RegistryError('STORE_UNAVAILABLE', { cause: thrown });
