// A ledger over a real store in a folder of its own, with a host of a tenant, and whatever it reported and recorded.
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { cosignerText, parseCosigner } from '../../../proto/documents/cosignature.ts';
import { type Answer, Ingest } from '../../../registry/ledger/ingest.ts';
import { Ledger } from '../../../registry/ledger/ledger.ts';
import { openLmdbStore } from '../../../registry/store/lmdb/store.ts';
import type { RegistryStore } from '../../../registry/store/store.ts';
import { LedgerHost } from '../../support/ledger-host.ts';

export const NOW = Date.parse('2026-11-24T12:00:00Z');
export const REGISTRY = { kind: 'registry' } as const;
const storeEvents = { failed: () => undefined, reconnected: () => undefined };

export const openStore = async (context: TestContext): Promise<RegistryStore> => {
  const path = await mkdtemp(join(tmpdir(), 'mortise-ledger-'));
  const store = openLmdbStore({ path, events: storeEvents });
  context.after(async () => {
    await store.close();
    await rm(path, { recursive: true });
  });
  return store;
};

const sealing = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const cosigning = generateKeyPairSync('ed25519');
const cosignerName = 'registry.test/mortise/registry';
export const cosignerKey = cosignerText(cosignerName, cosigning.publicKey);
export const cosigner = parseCosigner(cosignerKey);
export const sealingKey = createPublicKey(sealing.privateKey);

/** A replica of the ledger over a store. */
export const ledgerOver = (store: RegistryStore) => {
  const told: string[] = [];
  const recorded: string[] = [];
  const ingest = new Ingest({
    store,
    clock: { now: () => NOW },
    sealingKey: sealing.privateKey,
    cosigner: { name: cosignerName, privateKey: cosigning.privateKey, publicKey: cosigning.publicKey },
    recordRefusal: async ({ tenant, code, index }) => void recorded.push(`${tenant} ${code} ${index}`),
    events: {
      ingested: ({ records }) => void told.push(`ingested ${records}`),
      opened: ({ others }) => void told.push(`opened ${others}`),
      refused: ({ code, index }) => void told.push(`refused ${code} ${index}`),
      unrecorded: ({ cause }) => void told.push(`unrecorded ${cause}`),
    },
  });
  const ledger = new Ledger({ store, macKeys: ingest.macKeys, cosigner: { ...cosigner, text: cosignerKey } });
  return { store, ingest, ledger, told, recorded };
};

export const enrol = (store: RegistryStore, host = 'h-1', tenants: readonly string[] = ['acme']) =>
  store.change({ host: { host, state: 'ACTIVE', tenants, bringsCertificate: false, revision: 1 } });

export const openLedger = async (context: TestContext) => {
  const store = await openStore(context);
  await enrol(store);
  return { ...ledgerOver(store), host: new LedgerHost() };
};

export type Opened = Awaited<ReturnType<typeof openLedger>>;

/** A stream on which the host has handed over its MAC key and opened its log. */
export const streamOf = async ({ ingest }: Pick<Opened, 'ingest'>, host: LedgerHost) => {
  const session = ingest.session(host.host);
  await session.macKey(host.epoch, await host.sealedMacKey(sealingKey));
  return { session, opened: await session.open(host.origin, host.jwk, host.records.length) };
};

/** Hands in the host's whole log with one checkpoint at its end. */
export const handIn = async (opened: Pick<Opened, 'ingest'>, host: LedgerHost): Promise<Answer | undefined> => {
  const { session } = await streamOf(opened, host);
  let answer: Answer | undefined;
  for (let from = 0; from < host.records.length; from += 200) {
    const to = Math.min(from + 200, host.records.length);
    const checkpoints = to === host.records.length ? [await host.checkpoint()] : [];
    answer = await session.batch(host.batch(from, to, checkpoints));
  }
  return answer;
};
