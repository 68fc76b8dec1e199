// Child of the registry's bench: makes a ledger long by the store's own code, with facts as varied as those of real hosts.
import { createHmac, createPublicKey, createSecretKey, hash, type JsonWebKey, type KeyObject } from 'node:crypto';
import { macInput, RECORD_ROOM, writeAuditRecord } from '../../../proto/documents/audit-record.ts';
import type { LogRow } from '../../../registry/ledger/store.ts';
import { openLmdbStore } from '../../../registry/store/lmdb/store.ts';
import { openPostgresStore } from '../../../registry/store/postgres/store.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { answerQuestions } from '../remote.ts';
import { TENANT } from './light-host.ts';

export interface FillQuestion {
  readonly store: { readonly path: string } | { readonly url: string };
  readonly hosts: number;
  /** What MAC keys are sealed to. */
  readonly sealingJwk: string;
  /** Of each host. */
  readonly records: number;
}

export const LOGS_FROM = Date.parse('2026-01-01T00:00:00Z');
export const APART_MS = 10;
export const PRINCIPALS = 200;
const BATCH = 2048;
const EPOCH = 1;
const DETAIL = '{"uid":1000,"pid":4242,"durationMicros":412}';

export const fillerHost = (at: number): string => `filler-${String(at).padStart(3, '0')}`;
export const correlationIdOf = (host: string, index: number): string => hash('md5', `${host} ${index}`);

const timeOf = (index: number): string => new Date(LOGS_FROM + index * APART_MS).toISOString().replace('Z', '000Z');

/** Records as the host would have written them, with its MACs. */
class Writer {
  readonly host: LedgerHost;
  readonly #key: KeyObject;
  readonly #scratch = Buffer.alloc(RECORD_ROOM);

  constructor(host: string) {
    this.host = new LedgerHost({ host, tenant: TENANT, epoch: EPOCH });
    this.#key = createSecretKey(this.host.macKey);
  }

  record(index: number) {
    const { host } = this.host;
    const facts = {
      time: timeOf(index),
      key: `key-${index % 1000}/1`,
      principal: `svc-${index % PRINCIPALS}`,
      operation: ['encrypt', 'decrypt', 'sign', 'verify', 'mac'][index % 5] as string,
      outcome: index % 100 === 0 ? 'KEY_STATE' : 'ok',
      correlationId: correlationIdOf(host, index),
    };
    const event = `${EPOCH}/${index + 1}`;
    const full = { ...facts, tenant: TENANT, algorithm: 'A256GCMKW', eventId: `${host}/${event}`, detail: DETAIL };
    const record = Buffer.from(this.#scratch.subarray(0, writeAuditRecord(this.#scratch, 0, full).end));
    const mac = createHmac('sha256', this.#key).update(macInput(record, index)).digest();
    return { row: { index, record, mac, ingestedAt: LOGS_FROM }, facts: { ...facts, event } };
  }
}

answerQuestions(async ({ store: where, hosts, records, sealingJwk }: FillQuestion) => {
  const events = { failed: ({ cause }: { cause: unknown }) => console.error(cause), reconnected: () => undefined };
  const store = 'path' in where ? openLmdbStore({ ...where, events }) : await openPostgresStore({ ...where, events });
  const sealingKey = createPublicKey({ key: JSON.parse(sealingJwk) as JsonWebKey, format: 'jwk' });
  const ledger = store.forTenant(TENANT, { kind: 'registry' });
  const fill = async (host: string): Promise<void> => {
    const writer = new Writer(host);
    const { origin } = writer.host;
    await store.insertMacKey(host, EPOCH, await writer.host.sealedMacKey(sealingKey));
    for (let from = 0, revision = 1; from < records; from += BATCH, revision += 1) {
      const count = Math.min(BATCH, records - from);
      const log: LogRow = {
        ...{
          origin,
          host,
          publicJwk: '{}',
          size: from + count,
          frontier: [],
          lastEpoch: EPOCH,
          lastSequence: from + count,
        },
        ...{ checkpoint: '', checkpointSize: 0, refusal: '', revision },
      };
      const append = {
        log,
        records: Array.from({ length: count }, (_, at) => writer.record(from + at)),
        nodes: [],
        checkpoints: [],
      };
      if (!(await ledger.append(append))) throw new Error(`${origin} was changed meanwhile`);
    }
  };
  const names = Array.from({ length: hosts }, (_, at) => fillerHost(at));
  const worker = async (): Promise<void> => {
    for (let host = names.shift(); host !== undefined; host = names.shift()) await fill(host);
  };
  try {
    // Two at once: one is made while the other is written.
    await Promise.all([worker(), worker()]);
  } finally {
    await store.close();
  }
});
