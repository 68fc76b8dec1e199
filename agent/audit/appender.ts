// Group commit: all entries of a turn of the event loop go into one commit. Invariant: an append resolves only after
// its record is as durable as asked, and a commit that fails rejects every entry of its group and changes nothing.
import { DocumentError } from '../../proto/documents/canonical.ts';
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';
import type { Group, LogState } from './state.ts';
import type { AuditStore } from './store.ts';
import { Timestamps } from './timestamps.ts';
import type { AuditEntry, AuditEvents, Durability } from './types.ts';

interface Waiting {
  readonly entry: AuditEntry;
  readonly time: string;
  readonly durability: Durability;
  eventId: string;
  resolve(eventId: string): void;
  reject(error: unknown): void;
}

const GROUP_RECORDS = 512; // bounds how long one commit holds the event loop: some 5 ms
const GROUP_BYTES = 2 ** 20;
const CALLER_FAULT = 'the operation cannot be recorded: ';

export class Appender {
  readonly #store: AuditStore;
  readonly #state: LogState;
  readonly #events: AuditEvents;
  readonly #times: Timestamps;
  readonly #durability: (tenant: string) => Durability;
  readonly #committed: (tenants: readonly string[]) => void;
  readonly #maxWaiting: number;
  readonly #groupBytes: number;
  #queue: Waiting[] = [];
  #due = false;
  #busy = false;
  #idle = Promise.withResolvers<void>();

  constructor(options: {
    readonly store: AuditStore;
    readonly state: LogState;
    readonly events: AuditEvents;
    readonly clock: Clock;
    readonly journalBytes: number;
    readonly maxWaiting: number;
    durability(tenant: string): Durability;
    committed(tenants: readonly string[]): void;
  }) {
    this.#store = options.store;
    this.#state = options.state;
    this.#events = options.events;
    this.#times = new Timestamps({ clock: options.clock });
    this.#durability = (tenant) => options.durability(tenant);
    this.#committed = (tenants) => options.committed(tenants);
    this.#maxWaiting = options.maxWaiting;
    this.#groupBytes = Math.min(GROUP_BYTES, Math.floor(options.journalBytes / 4));
    this.#idle.resolve();
  }

  append(entry: AuditEntry): Promise<string> {
    if (this.#queue.length >= this.#maxWaiting) {
      const message = `${CALLER_FAULT}${this.#queue.length} records wait for the disk already`;
      return Promise.reject(new AgentError('AUDIT_UNAVAILABLE', { message }));
    }
    return new Promise((resolve, reject) => {
      const durability = this.#durability(entry.tenant);
      this.#queue.push({ entry, time: this.#times.next(), durability, eventId: '', resolve, reject });
      this.#schedule();
    });
  }

  /** Resolves when nothing waits. */
  drained(): Promise<void> {
    return this.#idle.promise;
  }

  #schedule(): void {
    if (this.#due) return;
    this.#due = true;
    if (!this.#busy) this.#idle = Promise.withResolvers();
    this.#busy = true;
    setImmediate(() => this.#commit());
  }

  #commit(): void {
    if (!this.#store.hasRoom(this.#groupBytes * 2)) {
      // The disk is behind by half a journal: wait for it, the queue bounds what gathers meanwhile.
      this.#store.flushed().then(
        () => this.#commit(),
        (cause: unknown) => this.#settle(this.#queue.splice(0), cause),
      );
      return;
    }
    const startedAt = performance.now();
    const group = this.#state.stage();
    const good: Waiting[] = [];
    try {
      this.#encode(group, good);
      if (good.length > 0) this.#store.commit(group.finish());
    } catch (cause) {
      group.drop();
      this.#events.failed({ records: good.length, cause });
      this.#settle(good, cause);
      return;
    }
    this.#answer(good);
    if (good.length > 0) {
      const tenants = group.tenants();
      this.#events.committed({
        records: good.length,
        tenants: tenants.length,
        milliseconds: performance.now() - startedAt,
      });
      this.#committed(tenants);
    }
    this.#next();
  }

  /** Takes from the queue what fits one commit; an entry that cannot be a record is refused alone. */
  #encode(group: Group, good: Waiting[]): void {
    let taken = 0;
    for (let bytes = 0; bytes < this.#groupBytes && taken < GROUP_RECORDS; taken += 1) {
      const waiting = this.#queue[taken];
      if (waiting === undefined) break;
      try {
        const { length, eventId } = group.add(waiting.entry, waiting.time);
        bytes += length;
        waiting.eventId = eventId;
        good.push(waiting);
      } catch (cause) {
        if (!(cause instanceof DocumentError)) throw cause;
        const message = `${CALLER_FAULT}${cause.message}`;
        waiting.reject(new AgentError('AUDIT_UNAVAILABLE', { message, cause }));
      }
    }
    this.#queue = this.#queue.slice(taken);
  }

  #answer(group: readonly Waiting[]): void {
    const flushing: Waiting[] = [];
    for (const waiting of group) {
      if (waiting.durability === 'flushed') flushing.push(waiting);
      else waiting.resolve(waiting.eventId);
    }
    if (flushing.length === 0) return;
    this.#store.flushed().then(
      () => {
        for (const waiting of flushing) waiting.resolve(waiting.eventId);
      },
      (cause: unknown) => {
        for (const waiting of flushing) waiting.reject(cause);
      },
    );
  }

  #settle(group: readonly Waiting[], cause: unknown): void {
    const error = cause instanceof AgentError ? cause : new AgentError('AUDIT_UNAVAILABLE', { cause });
    for (const waiting of group) waiting.reject(error);
    this.#next();
  }

  #next(): void {
    this.#due = false;
    this.#events.backlog({ waiting: this.#queue.length });
    if (this.#queue.length > 0) {
      this.#schedule();
      return;
    }
    this.#busy = false;
    this.#idle.resolve();
  }
}
