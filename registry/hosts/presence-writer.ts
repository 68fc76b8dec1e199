// Writes what hosts say of themselves. Invariant: one transaction at a time, with the newest word of every host that said
// something since the last: a thousand hosts that tell at once cost a few transactions.
import type { HostsStore, PresenceRow } from './store.ts';

const AT_ONCE = 500;

export interface PresenceEvents {
  presenceFailed(event: { host: string; cause: unknown }): void;
}

/** What goes with one write. */
interface Batch {
  readonly rows: Map<string, PresenceRow>;
  readonly written: PromiseWithResolvers<void>;
}

export class PresenceWriter {
  readonly #store: Pick<HostsStore, 'putPresences'>;
  readonly #events: PresenceEvents;
  #next: Batch | undefined;
  #writing = false;

  constructor(parts: { readonly store: Pick<HostsStore, 'putPresences'>; readonly events: PresenceEvents }) {
    this.#store = parts.store;
    this.#events = parts.events;
  }

  /** Resolves once the row, or a newer one of the host, is stored or could not be; never rejects. */
  put(row: PresenceRow): Promise<void> {
    this.#next ??= { rows: new Map(), written: Promise.withResolvers() };
    const { rows, written } = this.#next;
    rows.set(row.host, row);
    if (!this.#writing) void this.#writeAll();
    return written.promise;
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    for (let batch = this.#next; batch !== undefined; batch = this.#next) {
      this.#next = undefined;
      const rows = [...batch.rows.values()];
      for (let at = 0; at < rows.length; at += AT_ONCE) await this.#write(rows.slice(at, at + AT_ONCE));
      batch.written.resolve();
    }
    this.#writing = false;
  }

  async #write(rows: readonly PresenceRow[]): Promise<void> {
    try {
      await this.#store.putPresences(rows);
    } catch (cause) {
      // The host's next word is the next try.
      for (const { host } of rows) this.#events.presenceFailed({ host, cause });
    }
  }
}
