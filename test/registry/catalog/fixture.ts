// A catalogue over a real store in a folder of its own, with two hosts of a tenant and one of another.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { encodeKeyRecord } from '../../../proto/documents/key-record-parse.ts';
import { encodeWrappedKey } from '../../../proto/documents/wrapped-key.ts';
import { Catalog, type Offer } from '../../../registry/catalog/catalog.ts';
import { Rebuilds } from '../../../registry/catalog/rebuild.ts';
import type { CatalogItem, Kek } from '../../../registry/catalog/rules.ts';
import { openLmdbStore } from '../../../registry/store/lmdb/store.ts';
import { aRecord, aVersion, MADE_AT } from '../../support/key-records.ts';

export const NOW = MADE_AT + 1000;
const storeEvents = { failed: () => undefined, reconnected: () => undefined };

/** The wire's form of an entry, as far as the catalogue minds: bytes that can be taken apart again. */
const encode = (item: CatalogItem): Buffer =>
  item.kind === 'key'
    ? Buffer.concat([Buffer.from('K'), item.record])
    : Buffer.from(`E${JSON.stringify({ ...item.kek, tokenId: item.kek.tokenId.toString('hex') })}`);
export const decode = (entry: Buffer): CatalogItem => {
  if (entry[0] === 'K'.charCodeAt(0)) return { kind: 'key', record: entry.subarray(1) };
  const kek = JSON.parse(entry.toString('utf8', 1));
  return { kind: 'kek', kek: { ...kek, tokenId: Buffer.from(kek.tokenId, 'hex') } };
};

export const keyOffer = (change: Partial<KeyRecord> = {}, host = 'h-1', tenant = 'acme'): Offer => {
  const record = aRecord({ tenant, ...change });
  const item: CatalogItem = { kind: 'key', record: encodeKeyRecord(record) };
  return { tenant, host, item, entry: encode(item), expectedRevision: record.revision - 1 };
};

/** A key that is wrapped by this version of the KEK; `fill` makes the blobs of several keys differ. */
export const wrappedOffer = (kekVersion: number, change: Partial<KeyRecord> = {}, fill = 0): Offer => {
  const wrapped = encodeWrappedKey({ scheme: 'aes-gcm', kekVersion, sealed: Buffer.alloc(60, fill) });
  const { tokenId: _, ...version } = aVersion({ algorithm: 'Ed25519', jose: 'Ed25519', custody: 'wrapped' });
  return keyOffer({ keyId: `under-${kekVersion}`, purpose: 'sign', versions: [{ ...version, wrapped }], ...change });
};

export const kekOffer = (change: Partial<Kek> = {}): Offer => {
  const kek: Kek = { version: 1, tokenId: Buffer.alloc(16, 7), state: 'IDLE', revision: 1, ...change };
  const item: CatalogItem = { kind: 'kek', kek };
  return { tenant: 'acme', host: 'h-1', item, entry: encode(item), expectedRevision: kek.revision - 1 };
};

export const openCatalog = async (context: TestContext) => {
  const path = await mkdtemp(join(tmpdir(), 'mortise-catalog-'));
  const store = openLmdbStore({ path, events: storeEvents });
  context.after(async () => {
    await store.close();
    await rm(path, { recursive: true });
  });
  const host = (name: string, tenants: readonly string[]) => ({
    ...{ host: name, state: 'ACTIVE' as const, tenants, bringsCertificate: false, revision: 1 },
  });
  await store.change({ host: host('h-1', ['acme']) });
  await store.change({ host: host('h-2', ['acme']) });
  await store.change({ host: host('h-9', ['other']) });
  const told: string[] = [];
  const events = {
    offered: ({ host: by, kind, name, outcome }: { host: string; kind: string; name: string; outcome: string }) =>
      void told.push(`${by} ${kind} ${name} ${outcome}`),
    leased: ({ keyId, granted }: { keyId: string; granted: number }) => void told.push(`leased ${keyId} ${granted}`),
    rewound: ({ caller, asked, position }: { caller: string; asked: number; position: number }) =>
      void told.push(`rewound ${caller} ${asked} ${position}`),
  };
  const clock = { now: () => NOW };
  const rebuilds = new Rebuilds({
    ...{ store, clock, decode, encode: (_tenant: string, item: CatalogItem) => encode(item) },
    events: { rebuild: ({ step, by, conflicts }) => void told.push(`rebuild ${step} by ${by} ${conflicts}`) },
    hostsOf: async () => ['h-1', 'h-2'],
  });
  return { store, told, rebuilds, catalog: new Catalog({ store, clock, events, decode }) };
};
