// The registry's own audit logs, one for each tenant that it did something about: records as those of hosts, under the
// host name "registry.<replica>", with checkpoints signed by the countersigning key. Invariants: a record is durable when
// `record` resolves; records of one tenant go in one after the other.
import { createHmac, createPublicKey, createSecretKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import { CompactEncrypt, calculateJwkThumbprint, type JWK } from 'jose';
import type { Clock } from '../../agent/clock.ts';
import { encodeAuditRecord, formatEventId, macInput } from '../../proto/documents/audit-record.ts';
import { signCheckpoint } from '../../proto/documents/checkpoint.ts';
import { cosign } from '../../proto/documents/cosignature.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { RegistryError } from '../errors.ts';
import type { Authority } from '../hosts/authority.ts';
import type { CheckpointRow, LogRow } from '../ledger/store.ts';
import { GrowingTree, leafOf } from '../ledger/tree.ts';
import type { RegistryRecord } from '../server/audit-trail.ts';
import type { RegistryStore } from '../store/store.ts';

const KEY_BYTES = 32;
const RACES = 4;
const MOST_STARTS = 16; // within one second, or of a clock that was put back
const NOBODYS = '-';

export interface OwnLogOptions {
  readonly store: RegistryStore;
  readonly authority: Authority;
  readonly replica: string;
  readonly clock: Clock;
}

/** Names of hosts that begin so are the registry's. */
export const ownHost = (replica: string): string => `registry.${replica}`;

const sortedJwk = (jwk: PublicJwk): string =>
  JSON.stringify(Object.fromEntries(Object.entries(jwk).sort(([a], [b]) => (a < b ? -1 : 1))));

export class OwnLog {
  readonly #options: OwnLogOptions;
  readonly #host: string;
  #epoch: number;
  readonly #publicJwk: PublicJwk;
  readonly #logs = new Map<string, LogRow>();
  readonly #queues = new Map<string, Promise<void>>();
  #macKey: Promise<KeyObject> | undefined;
  #sequence = 0;

  constructor(options: OwnLogOptions) {
    this.#options = options;
    this.#host = ownHost(options.replica);
    this.#epoch = Math.floor(options.clock.now() / 1000);
    this.#publicJwk = createPublicKey(options.authority.cosignerKey).export({ format: 'jwk' }) as PublicJwk;
  }

  /** Rejects with STORE_UNAVAILABLE. */
  record(record: RegistryRecord): Promise<void> {
    const before = this.#queues.get(record.tenant) ?? Promise.resolve();
    const own = before.then(() => this.#append(record));
    const settled = own.catch(() => undefined); // the caller hears of it; the next record is tried all the same
    this.#queues.set(record.tenant, settled);
    void settled.then(() => {
      if (this.#queues.get(record.tenant) === settled) this.#queues.delete(record.tenant);
    });
    return own;
  }

  async #append(record: RegistryRecord): Promise<void> {
    this.#macKey ??= this.#makeMacKey();
    this.#macKey.catch(() => {
      this.#macKey = undefined;
    });
    const macKey = await this.#macKey;
    const store = this.#options.store.forTenant(record.tenant, { kind: 'registry' });
    for (let race = 0; race < RACES; race += 1) {
      const log = this.#logs.get(record.tenant) ?? (await this.#find(record.tenant));
      const append = await this.#appendOf(log, record, macKey);
      if (await store.append(append)) {
        this.#logs.set(record.tenant, append.log);
        return;
      }
      this.#logs.delete(record.tenant);
    }
    throw new RegistryError('STORE_UNAVAILABLE', {
      cause: new Error('another process writes the log of this replica'),
    });
  }

  async #appendOf(log: LogRow, record: RegistryRecord, macKey: KeyObject) {
    const { tenant, principal, operation, outcome, correlationId, detail } = record;
    this.#sequence += 1;
    const id = { host: this.#host, epoch: this.#epoch, sequence: this.#sequence };
    const time = `${new Date(this.#options.clock.now()).toISOString().slice(0, -1)}000Z`;
    const facts = { time, key: NOBODYS, principal, operation, outcome, correlationId };
    const eventId = formatEventId(id);
    const bytes = encodeAuditRecord({ ...facts, tenant, algorithm: NOBODYS, eventId, detail: detailText(detail) });
    const mac = createHmac('sha256', macKey).update(macInput(bytes, log.size)).digest();
    const tree = new GrowingTree(log.size, log.frontier);
    tree.append(leafOf({ record: bytes, mac }));
    const { size, nodes: frontier } = tree.frontier;
    const checkpoint = await this.#checkpoint({ origin: log.origin, size, root: tree.frontier.root() });
    const ingestedAt = this.#options.clock.now();
    const next: LogRow = {
      ...log,
      size,
      frontier: [...frontier],
      lastEpoch: id.epoch,
      lastSequence: id.sequence,
      checkpoint: checkpoint.text,
      checkpointSize: size,
      lastIngestAt: ingestedAt,
      revision: log.revision + 1,
    };
    const row = { index: log.size, record: bytes, mac, ingestedAt };
    const event = `${id.epoch}/${id.sequence}`;
    return { log: next, records: [{ row, facts: { ...facts, event } }], nodes: tree.nodes, checkpoints: [checkpoint] };
  }

  async #checkpoint(checkpoint: { origin: string; size: number; root: Buffer }): Promise<CheckpointRow> {
    const { authority, clock } = this.#options;
    const signed = (data: Buffer): Buffer => sign(null, data, authority.cosignerKey);
    const note = await signCheckpoint(checkpoint, this.#publicJwk, async (data) => signed(data));
    const publicKey = createPublicKey(authority.cosignerKey);
    const seconds = Math.floor(clock.now() / 1000);
    const text = cosign(note, { name: authority.cosignerName, publicKey, seconds, sign: signed });
    return { size: checkpoint.size, text };
  }

  /** The newest log of this replica, or a new one. */
  async #find(tenant: string): Promise<LogRow> {
    const store = this.#options.store.forTenant(tenant, { kind: 'registry' });
    const logs = await store.logs({ host: this.#host, limit: 100 });
    const newest = logs.toSorted((a, b) => generationOf(a) - generationOf(b)).at(-1);
    if (newest !== undefined) return newest;
    return {
      origin: `${this.#host}/${tenant}/${this.#epoch}`,
      host: this.#host,
      publicJwk: sortedJwk(this.#publicJwk),
      size: 0,
      frontier: [],
      lastEpoch: 0,
      lastSequence: -1,
      checkpoint: '',
      checkpointSize: 0,
      refusal: '',
      revision: 0,
    };
  }

  /** A key for this start, stored as hosts' are: sealed to the registry. A second start of one second has the next epoch. */
  async #makeMacKey(): Promise<KeyObject> {
    const { authority, store } = this.#options;
    const bytes = randomBytes(KEY_BYTES);
    try {
      const kid = await calculateJwkThumbprint(authority.sealingJwk as JWK);
      for (let race = 0; race < MOST_STARTS; race += 1) {
        const mortise = `${this.#host}/${this.#epoch}`;
        const header = { alg: 'ECDH-ES+A256KW', enc: 'A256GCM', kid, mortise };
        const jwe = await new CompactEncrypt(bytes)
          .setProtectedHeader(header)
          .encrypt(createPublicKey(authority.sealingKey));
        if ((await store.insertMacKey(this.#host, this.#epoch, jwe)) === jwe) return createSecretKey(bytes);
        this.#epoch += 1;
      }
      throw new RegistryError('STORE_UNAVAILABLE', { cause: new Error('every epoch has a key already') });
    } finally {
      bytes.fill(0);
    }
  }
}

const generationOf = ({ origin }: LogRow): number => Number(origin.split('/')[2]);

const detailText = (detail: RegistryRecord['detail']): string =>
  Object.keys(detail).length === 0 ? '' : JSON.stringify(detail);
