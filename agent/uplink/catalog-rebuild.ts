// Tells a registry that rebuilds a tenant's catalogue what this host knows of it and what the token shows beside that, in
// pages that fit a message.
import type { Client } from '@grpc/grpc-js';
import {
  type CatalogEntry,
  CatalogServiceService,
  EntryKind,
  type TokenObject,
} from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { unary } from './calls.ts';
import { entryOf } from './catalog-calls.ts';
import type { CatalogSink, FoundObject } from './ports.ts';

const PAGE = 200;
const PAGE_BYTES = 2 * 1024 * 1024;
const PAGE_MS = 60_000; // a page is one transaction of the registry
const MAX_USES = 1000;
const MAX_NAMED = 32;
const MAX_WHY = 400;

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
  const { objects, tokenUnread } = await lookIntoToken(sink, tenant, signal);
  for (let at = 0; at < objects.length; at += PAGE) await tell({ objects: objects.slice(at, at + PAGE) });
  await tell({ complete: true, tokenUnread });
  const named = { conflicts: conflicts.slice(0, MAX_NAMED), tokenUnread };
  sink.told(tenant, { entries: changes.length, objects: objects.length, ...named });
};

/** Another host may be able to where this one is not: that it could not is told, and does not keep the rebuild open. */
const lookIntoToken = async (
  sink: CatalogSink,
  tenant: string,
  signal: AbortSignal,
): Promise<{ readonly objects: readonly TokenObject[]; readonly tokenUnread: string }> => {
  try {
    return { objects: (await sink.found(tenant, signal)).map(objectOf), tokenUnread: '' };
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    return { objects: [], tokenUnread: why.slice(0, MAX_WHY) };
  }
};

const objectOf = ({ kind, tokenId, purpose = '', publicJwk, fault = '', ...object }: FoundObject): TokenObject => ({
  ...object,
  kind: kind === 'kek' ? EntryKind.KEK : EntryKind.KEY,
  tokenId: Buffer.from(tokenId, 'hex'),
  purpose,
  publicJwk: publicJwk === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(publicJwk)),
  fault,
});

const requestOf = (
  about: { readonly tenant: string; readonly rebuild: Buffer },
  page: {
    readonly entries?: CatalogEntry[];
    readonly uses?: { keyId: string; version: number; made: bigint; leased: bigint }[];
    readonly objects?: readonly TokenObject[];
    readonly complete?: boolean;
    readonly tokenUnread?: string;
  },
) => ({
  ...about,
  entries: page.entries ?? [],
  uses: page.uses ?? [],
  complete: page.complete ?? false,
  objects: [...(page.objects ?? [])],
  tokenUnread: page.tokenUnread ?? '',
});
