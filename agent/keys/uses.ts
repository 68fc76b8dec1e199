// Counts the uses of key versions, and remembers the last. Invariant: with a hard limit, every use made was reserved on
// the disk before, so a crash can forfeit uses but never give one twice. Counts without a hard limit, and times of last
// use, are kept in memory and written about once a minute and at close; a crash forgets the rest.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';
import { faultText, type KeyStore } from './store.ts';

/** A crash forfeits at most one block: 1/16 of what is left, and never more than this. */
const MAX_BLOCK = 1024;
const BLOCK_PART = 16;
const WRITE_EVERY_MS = 60_000;

export interface UseEvents {
  corruptRecord(event: { tenant: string; keyId: string; problem: string }): void;
}

/** What was done with a version. Times are milliseconds since 1970; absent: not since they are kept. */
export interface VersionUsage {
  /** Encrypt, Sign and Mac. */
  readonly made: number;
  readonly appliedAt?: number;
  /** Decrypt, Verify and VerifyMac that succeeded. */
  readonly processedAt?: number;
}

interface Counter {
  /** On the disk. */
  reserved: number;
  made: number;
  /** 0: never. */
  appliedAt: number;
  processedAt: number;
}

interface Waiter {
  readonly key: string;
  readonly hardUses: number;
  resolve(uses: number): void;
  reject(error: unknown): void;
}

const rowKey = (tenant: string, keyId: string, version: number): string => `${tenant}/${keyId}/${version}`;

const COUNT_BYTES = 8;
/** Count, last application, last processing. A row of a count alone, without times, is read too. */
const ROW_BYTES = 3 * COUNT_BYTES;

const encodeRow = (count: number, { appliedAt, processedAt }: Counter): Buffer => {
  const bytes = Buffer.alloc(ROW_BYTES);
  for (const [at, value] of [count, appliedAt, processedAt].entries()) {
    bytes.writeBigUInt64BE(BigInt(value), at * COUNT_BYTES);
  }
  return bytes;
};

// What a damaged count is read as, so that a hard limit is never exceeded by it.
const USED_UP = Number.MAX_SAFE_INTEGER;

const decodeRow = (bytes: Buffer | undefined): Counter => {
  const known = bytes?.length === COUNT_BYTES || bytes?.length === ROW_BYTES;
  const number = (at: number): number => (bytes === undefined ? 0 : Number(bytes.readBigUInt64BE(at * COUNT_BYTES)));
  const count = known && Number.isSafeInteger(number(0)) ? number(0) : USED_UP;
  const [appliedAt, processedAt] = bytes?.length === ROW_BYTES ? [number(1), number(2)] : [0, 0];
  return { reserved: count, made: count, appliedAt, processedAt };
};

/** How many uses to reserve when `wanted` callers wait and `left` remain. */
export const blockSize = (left: number, wanted: number): number =>
  Math.min(left, Math.max(wanted, 1, Math.min(MAX_BLOCK, Math.floor(left / BLOCK_PART))));

export class UseCounters {
  readonly #store: KeyStore;
  readonly #counters = new Map<string, Counter>();
  readonly #dirty = new Set<string>();
  readonly #waiters: Waiter[] = [];
  readonly #clock: Clock;
  readonly #events: UseEvents;
  readonly #timer: NodeJS.Timeout;
  #flushing = false;
  #damaged = 0;

  constructor({
    store,
    clock,
    events,
  }: { readonly store: KeyStore; readonly clock: Clock; readonly events: UseEvents }) {
    this.#store = store;
    this.#clock = clock;
    this.#events = events;
    this.#timer = setInterval(() => this.#writeSettled(), WRITE_EVERY_MS).unref();
  }

  /** Reads the store; once, before anything else. */
  load(): void {
    for (const { key, value, fault } of this.#store.rows('uses')) {
      const counter = decodeRow(value);
      if (counter.made === USED_UP) {
        this.#damaged += 1;
        const [tenant = '', keyId = ''] = key.split('/');
        const problem = `use count: ${fault === undefined ? 'not a count' : faultText[fault]}`;
        this.#events.corruptRecord({ tenant, keyId, problem: `${problem}; a hard limit counts as reached` });
      }
      this.#counters.set(key, counter);
    }
  }

  /** Counts that were found damaged. */
  get damaged(): number {
    return this.#damaged;
  }

  /** Uses made of a version; after a crash an upper bound where it has a hard limit. */
  made(tenant: string, keyId: string, version: number): number {
    return this.#counters.get(rowKey(tenant, keyId, version))?.made ?? 0;
  }

  usage(tenant: string, keyId: string, version: number): VersionUsage {
    const { made = 0, appliedAt, processedAt } = this.#counters.get(rowKey(tenant, keyId, version)) ?? {};
    return { made, ...(appliedAt && { appliedAt }), ...(processedAt && { processedAt }) };
  }

  /** Notes that a version has just read something. */
  processed(tenant: string, keyId: string, version: number): void {
    const key = rowKey(tenant, keyId, version);
    this.#counter(key).processedAt = this.#clock.now();
    this.#dirty.add(key);
  }

  /** Counts one use of the record's primary version. Resolves with the uses made, this one included. */
  use(record: KeyRecord): Promise<number> {
    const version = primaryVersion(record);
    if (version === undefined) return Promise.reject(new AgentError('KEY_STATE', { message: 'no primary version' }));
    const key = rowKey(record.tenant, record.keyId, version.version);
    const counter = this.#counter(key);
    const { hardUses } = record.limits;
    if (hardUses === undefined) return Promise.resolve(this.#make(key, counter));
    if (counter.made >= hardUses) return Promise.reject(limitReached(hardUses));
    if (counter.made < counter.reserved) return Promise.resolve(this.#make(key, counter));
    return new Promise((resolve, reject) => {
      this.#waiters.push({ key, hardUses, resolve, reject });
      if (this.#flushing) return;
      this.#flushing = true;
      // All callers of this turn of the event loop share one transaction.
      setImmediate(() => this.#reserve());
    });
  }

  /** Forgets the counts of a destroyed key. */
  forget(record: KeyRecord): void {
    const keys = record.versions.map((row) => rowKey(record.tenant, record.keyId, row.version));
    const known = keys.filter((key) => this.#counters.has(key));
    if (known.length === 0) return;
    this.#store.write((writer) => {
      for (const key of known) writer.remove('uses', key);
    });
    for (const key of known) {
      this.#counters.delete(key);
      this.#dirty.delete(key);
    }
  }

  /** Gives reserved uses back that were not made, and writes the rest. */
  close(): void {
    clearInterval(this.#timer);
    this.#reserve();
    for (const [key, counter] of this.#counters) if (counter.reserved !== counter.made) this.#dirty.add(key);
    try {
      this.#writeDirty((counter) => counter.made);
    } catch {
      // The store has reported it. What was reserved stays reserved: uses are forfeited, never given twice.
    }
  }

  #counter(key: string): Counter {
    let counter = this.#counters.get(key);
    if (counter === undefined) {
      counter = { reserved: 0, made: 0, appliedAt: 0, processedAt: 0 };
      this.#counters.set(key, counter);
    }
    return counter;
  }

  #make(key: string, counter: Counter): number {
    counter.made = Math.min(counter.made + 1, USED_UP);
    counter.appliedAt = this.#clock.now();
    this.#dirty.add(key);
    return counter.made;
  }

  #reserve(): void {
    this.#flushing = false;
    const waiters = this.#waiters.splice(0);
    if (waiters.length === 0) return;
    const blocks = new Map<string, number>();
    for (const [key, group] of Map.groupBy(waiters, (waiter) => waiter.key)) {
      const counter = this.#counter(key);
      const base = Math.max(counter.reserved, counter.made);
      // UpdateKey may have changed the limit between two callers; the lower one holds for the block.
      const left = Math.min(...group.map((waiter) => waiter.hardUses)) - base;
      if (left > 0) blocks.set(key, base + blockSize(left, group.length));
    }
    try {
      if (blocks.size > 0) {
        this.#store.write((writer) => {
          for (const [key, reserved] of blocks) writer.put('uses', key, encodeRow(reserved, this.#counter(key)));
        });
      }
    } catch (error) {
      for (const waiter of waiters) waiter.reject(error);
      return;
    }
    for (const [key, reserved] of blocks) this.#counter(key).reserved = reserved;
    for (const waiter of waiters) this.#settle(waiter);
  }

  #settle({ key, hardUses, resolve, reject }: Waiter): void {
    const counter = this.#counter(key);
    if (counter.made >= Math.min(hardUses, counter.reserved)) {
      reject(limitReached(hardUses));
      return;
    }
    resolve(this.#make(key, counter));
  }

  /** Writes counts that are past what the disk has. Never lowers one: reserved uses may still be made. */
  #writeSettled(): void {
    try {
      this.#writeDirty((counter) => Math.max(counter.reserved, counter.made));
    } catch {
      // The store has reported it; the counts stay dirty and are written with the next turn.
    }
  }

  #writeDirty(countOf: (counter: Counter) => number): void {
    const rows = [...this.#dirty].map((key) => [key, this.#counter(key)] as const);
    if (rows.length === 0) return;
    this.#store.write((writer) => {
      for (const [key, counter] of rows) writer.put('uses', key, encodeRow(countOf(counter), counter));
    });
    for (const [, counter] of rows) counter.reserved = countOf(counter);
    this.#dirty.clear();
  }
}

const limitReached = (hardUses: number): AgentError =>
  new AgentError('KEY_LIMIT', {
    message: `the key has reached its hard limit of ${hardUses} uses; rotate it`,
    metadata: { hardUses: String(hardUses) },
  });
