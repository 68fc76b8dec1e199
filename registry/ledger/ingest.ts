// Takes what hosts hand in. Invariant: a record is acknowledged only when it is durable and verified, and a log that does
// not fit changes nothing of what is stored: it is refused, recorded and alarmed.
import type { KeyObject } from 'node:crypto';
import { sign } from 'node:crypto';
import type { Clock } from '../../agent/clock.ts';
import { isAuditTenant } from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { verifierKey } from '../../proto/documents/checkpoint.ts';
import { cosign } from '../../proto/documents/cosignature.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import type { Actor } from '../actor.ts';
import { invalid, RegistryError } from '../errors.ts';
import { MacKeys } from './mac-keys.ts';
import { LogRefusal } from './refusal.ts';
import type { LedgerStore, LogRow, MacKeyStore } from './store.ts';
import { type Batch, type VerifiedBatch, verifyBatch } from './verify-batch.ts';

/** Called as things happen; never throw. */
export interface LedgerEvents {
  ingested(event: { origin: string; records: number; milliseconds: number }): void;
  /** A log of a new name: the host's first one of the tenant, or one that was begun anew. */
  opened(event: { origin: string; others: number }): void;
  refused(event: { origin: string; code: string; index: number; size: number; reason: string }): void;
  /** A refusal could not be written to the registry's own log. */
  unrecorded(event: { origin: string; cause: unknown }): void;
}

export interface IngestOptions {
  readonly store: MacKeyStore & { forTenant(tenant: string, actor: Actor): LedgerStore };
  readonly clock: Clock;
  readonly events: LedgerEvents;
  /** What MAC keys are sealed to. */
  readonly sealingKey: KeyObject;
  readonly cosigner: { readonly name: string; readonly privateKey: KeyObject; readonly publicKey: KeyObject };
  /** The registry's own log: of the tenant and of `_platform`. */
  recordRefusal(refusal: {
    readonly tenant: string;
    readonly host: string;
    readonly origin: string;
    readonly code: string;
    readonly index: number;
    readonly reason: string;
  }): Promise<void>;
}

/** The answer to an opening or a batch. */
export type Answer =
  | { readonly kind: 'acknowledged'; readonly origin: string; readonly size: number; readonly checkpoint: string }
  | {
      readonly kind: 'refused';
      readonly origin: string;
      readonly code: string;
      readonly index: number;
      readonly size: number;
      readonly message: string;
    };

const ORIGIN = /^([^/]+)\/([^/]+)\/(0|[1-9]\d{0,9})$/;
const MAX_RECORDS = 4096;
const MAX_CHECKPOINTS = 16;
const MAX_BYTES = 1024 * 1024;
const RACES = 8; // another stream of the same host; each time somebody's batch was taken

const acknowledged = ({ origin, size, checkpoint }: LogRow): Answer => ({
  kind: 'acknowledged',
  origin,
  size,
  checkpoint,
});

const refuseOversize = ({ records, checkpoints, from }: Batch): void => {
  const bytes = records.reduce((sum, { record, mac }) => sum + record.length + mac.length, 0);
  if (records.length > MAX_RECORDS || checkpoints.length > MAX_CHECKPOINTS || bytes > MAX_BYTES) {
    throw new RegistryError('TOO_LARGE');
  }
  if (!Number.isSafeInteger(from) || from < 0) throw invalid('batch.from', 'not a position');
};

export class Ingest {
  readonly #options: IngestOptions;
  readonly macKeys: MacKeys;

  constructor(options: IngestOptions) {
    this.#options = options;
    this.macKeys = new MacKeys(options);
  }

  /** A stream of one host. */
  session(host: string): IngestSession {
    return new IngestSession(host, this.#options, this.macKeys);
  }
}

export class IngestSession {
  readonly #host: string;
  readonly #options: IngestOptions;
  readonly #macKeys: MacKeys;
  readonly #logs = new Map<string, LogRow | 'refused'>();

  constructor(host: string, options: IngestOptions, macKeys: MacKeys) {
    this.#host = host;
    this.#options = options;
    this.#macKeys = macKeys;
  }

  /** Throws INVALID_REQUEST where it cannot be unsealed; another key for an epoch ends every log of the stream. */
  async macKey(epoch: number, jwe: string): Promise<readonly Answer[]> {
    try {
      await this.#macKeys.take(this.#host, epoch, jwe);
      return [];
    } catch (thrown) {
      if (!(thrown instanceof LogRefusal)) throw thrown;
      const open = [...this.#logs].filter(([, log]) => log !== 'refused').map(([origin]) => origin);
      return await Promise.all(open.map((origin) => this.#refuse(origin, thrown)));
    }
  }

  /** Where the log goes on. */
  async open(origin: string, publicJwk: string, size: number): Promise<Answer> {
    return this.#answered(origin, async (store) => {
      const log = (await store.log(origin)) ?? (await this.#begin(store, origin, publicJwk));
      this.#logs.set(origin, log);
      if (log.publicJwk !== canonicalJwk(publicJwk)) {
        throw new LogRefusal('LEDGER_FORKED', log.size, 'the log is signed by another key than the pinned one');
      }
      if (size < log.size) {
        throw new LogRefusal('LEDGER_REWOUND', size, `the host has ${size} records, the ledger ${log.size}`);
      }
      return acknowledged(log);
    });
  }

  async batch(batch: Batch): Promise<Answer | undefined> {
    const { origin } = batch;
    const open = this.#logs.get(origin);
    if (open === 'refused') return undefined; // its host was told; what was under way behind that is passed over
    if (open === undefined) throw invalid('batch.origin', 'not a log that was opened on this stream');
    refuseOversize(batch);
    return this.#answered(origin, (store) => this.#take(store, batch, open));
  }

  async #take(store: LedgerStore, batch: Batch, open: LogRow): Promise<Answer> {
    const { clock, events } = this.#options;
    const started = performance.now();
    let log = open;
    for (let race = 0; race < RACES; race += 1) {
      const now = clock.now();
      const macKeyOf = (epoch: number) => this.#macKeys.of(this.#host, epoch);
      let verified: VerifiedBatch;
      try {
        verified = await verifyBatch({ store, log, batch, macKeyOf, now });
      } catch (thrown) {
        // Judged against what the log no longer is? Another stream of the host may have brought it further.
        const stored = thrown instanceof LogRefusal ? await store.log(batch.origin) : undefined;
        if (stored === undefined || stored.revision === log.revision) throw thrown;
        log = stored;
        continue;
      }
      const append = this.#appendOf(log, verified, now);
      if (append === undefined) return acknowledged(log);
      if (await store.append(append)) {
        this.#logs.set(batch.origin, append.log);
        const milliseconds = performance.now() - started;
        events.ingested({ origin: batch.origin, records: append.records.length, milliseconds });
        return acknowledged(append.log);
      }
      log = (await store.log(batch.origin)) ?? log;
    }
    throw new RegistryError('OVERLOADED');
  }

  #appendOf(log: LogRow, { records, nodes, checkpoints, log: grown }: VerifiedBatch, now: number) {
    const due = checkpoints.filter(({ checkpoint }) => checkpoint.size > log.checkpointSize);
    if (records.length === 0 && due.length === 0) return undefined;
    const rows = due.map(({ checkpoint, text }) => ({ size: checkpoint.size, text: this.#cosign(text, now) }));
    const newest = rows.at(-1);
    const next: LogRow = {
      ...log,
      ...grown,
      ...(newest && { checkpoint: newest.text, checkpointSize: newest.size }),
      ...(records.length > 0 && { lastIngestAt: now, refusal: '' }),
      revision: log.revision + 1,
    };
    return { log: next, records, nodes, checkpoints: rows };
  }

  #cosign(note: string, now: number): string {
    const { name, privateKey, publicKey } = this.#options.cosigner;
    const seconds = Math.floor(now / 1000);
    return cosign(note, { name, publicKey, seconds, sign: (data) => sign(null, data, privateKey) });
  }

  async #begin(store: LedgerStore, origin: string, publicJwk: string): Promise<LogRow> {
    const jwk = canonicalJwk(publicJwk);
    const log: LogRow = {
      ...{ origin, host: this.#host, publicJwk: jwk, size: 0, frontier: [], lastEpoch: 0, lastSequence: -1 },
      ...{ checkpoint: '', checkpointSize: 0, refusal: '', revision: 1 },
    };
    try {
      verifierKey(origin, JSON.parse(jwk) as PublicJwk);
    } catch (cause) {
      if (!(cause instanceof DocumentError)) throw cause;
      throw new LogRefusal('CHECKPOINT_INVALID', 0, cause.message);
    }
    const others = await store.logs({ host: this.#host, limit: 100 });
    if (!(await store.append({ log, records: [], nodes: [], checkpoints: [] }))) {
      return (await store.log(origin)) ?? log;
    }
    this.#options.events.opened({ origin, others: others.length });
    return log;
  }

  /** Does the work on the tenant's store; what does not fit becomes a refusal. */
  async #answered(origin: string, work: (store: LedgerStore) => Promise<Answer>): Promise<Answer> {
    try {
      const [, host, tenant = ''] = ORIGIN.exec(origin) ?? [];
      if (host !== this.#host || !isAuditTenant(tenant)) {
        throw new LogRefusal('PERMISSION_DENIED', 0, 'not a log of this host');
      }
      return await work(this.#options.store.forTenant(tenant, { kind: 'host', name: this.#host }));
    } catch (thrown) {
      if (thrown instanceof LogRefusal) return await this.#refuse(origin, thrown);
      if (!(thrown instanceof RegistryError) || thrown.code !== 'PERMISSION_DENIED') throw thrown;
      return await this.#refuse(origin, new LogRefusal('PERMISSION_DENIED', 0, 'not a tenant of this host'));
    }
  }

  async #refuse(origin: string, { code, index, message }: LogRefusal): Promise<Answer> {
    const open = this.#logs.get(origin);
    const log = open === 'refused' ? undefined : open;
    this.#logs.set(origin, 'refused');
    const { events } = this.#options;
    events.refused({ origin, code, index, size: log?.size ?? 0, reason: message });
    try {
      if (log !== undefined) await this.#note(log, `${code} ${message}`);
      const tenant = log === undefined ? '_platform' : (origin.split('/')[1] as string);
      await this.#options.recordRefusal({ tenant, host: this.#host, origin, code, index, reason: message });
    } catch (cause) {
      events.unrecorded({ origin, cause });
    }
    return { kind: 'refused', origin, code, index, size: log?.size ?? 0, message };
  }

  /** Beside the log, so that whoever lists logs sees it. */
  async #note(log: LogRow, refusal: string): Promise<void> {
    const tenant = log.origin.split('/')[1] as string;
    const store = this.#options.store.forTenant(tenant, { kind: 'registry' });
    const now = (await store.log(log.origin)) ?? log;
    const next = { ...now, refusal: refusal.slice(0, 300), revision: now.revision + 1 };
    await store.append({ log: next, records: [], nodes: [], checkpoints: [] });
  }
}

/** Members in order, so that a key has one spelling. */
const canonicalJwk = (text: string): string => {
  try {
    const jwk: unknown = JSON.parse(text);
    if (typeof jwk === 'object' && jwk !== null) {
      return JSON.stringify(Object.fromEntries(Object.entries(jwk).sort(([a], [b]) => (a < b ? -1 : 1))));
    }
  } catch {
    // below: a text that is not JSON is refused like one that is no object
  }
  throw invalid('open.public_jwk', 'not a JSON object');
};
