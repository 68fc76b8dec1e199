// Tells a registry that rebuilds a tenant's catalogue what this host knows of it, in pages that fit a message.
import type { Client } from '@grpc/grpc-js';
import { type CatalogEntry, CatalogServiceService, EntryKind } from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { unary } from './calls.ts';
import { entryOf } from './catalog-calls.ts';
import type { CatalogSink } from './ports.ts';

const PAGE = 200;
const PAGE_BYTES = 2 * 1024 * 1024;
const PAGE_MS = 60_000; // a page is one transaction of the registry
const MAX_USES = 1000;
const MAX_NAMED = 32;

const sizeOf = ({ entry }: CatalogEntry): number => (entry?.$case === 'keyRecord' ? entry.value.length : 64);

const paged = (entries: readonly CatalogEntry[]): CatalogEntry[][] => {
  const pages: CatalogEntry[][] = [[]];
  let bytes = 0;
  for (const entry of entries) {
    const page = pages.at(-1) as CatalogEntry[];
    bytes += sizeOf(entry);
    if (page.length === 0 || (page.length < PAGE && bytes <= PAGE_BYTES)) page.push(entry);
    else {
      pages.push([entry]);
      bytes = sizeOf(entry);
    }
  }
  return pages;
};

/** Resolves when the registry has everything. Rejects with a Refusal. */
export const tellKnown = async (
  client: Client,
  sink: CatalogSink,
  about: { readonly tenant: string; readonly rebuild: Buffer; readonly signal: AbortSignal },
): Promise<void> => {
  const { tenant, rebuild, signal } = about;
  const { changes, uses } = sink.known(tenant);
  const counts = uses.map((row) => ({ ...row, made: BigInt(row.made), leased: BigInt(row.leased) }));
  const conflicts: string[] = [];
  const tell = async (page: Parameters<typeof requestOf>[1]): Promise<void> => {
    const options = { signal, deadline: Date.now() + PAGE_MS };
    const answer = await unary(
      client,
      CatalogServiceService.offerEntries,
      requestOf({ tenant, rebuild }, page),
      options,
    );
    for (const { kind, name } of answer.conflicts) conflicts.push(`${kind === EntryKind.KEK ? 'kek' : 'key'} ${name}`);
  };
  for (const entries of paged(changes.map((change) => entryOf(tenant, change)))) await tell({ entries });
  for (let at = 0; at < counts.length; at += MAX_USES) await tell({ uses: counts.slice(at, at + MAX_USES) });
  await tell({ complete: true });
  sink.told(tenant, { entries: changes.length, conflicts: conflicts.slice(0, MAX_NAMED) });
};

const requestOf = (
  about: { readonly tenant: string; readonly rebuild: Buffer },
  page: {
    readonly entries?: CatalogEntry[];
    readonly uses?: { keyId: string; version: number; made: bigint; leased: bigint }[];
    readonly complete?: boolean;
  },
) => ({ ...about, entries: page.entries ?? [], uses: page.uses ?? [], complete: page.complete ?? false });
