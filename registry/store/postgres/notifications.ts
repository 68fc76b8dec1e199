// Hears by LISTEN what any replica has changed. Invariant: what is said while the connection is away is not lost: when it
// is back, every listener is told to look again, at everything.
import { Client } from 'pg';
import type { Notices, Topic } from '../notices.ts';
import type { StoreEvents } from '../store.ts';
import { connectionOptions, type Session } from './connections.ts';

const CHANNEL = 'mortise';
const RETRY_MS = 250;
const PROBE_MS = 5_000; // a connection that is cut silently is found within this and the time of a statement

/** Inside of the transaction that changes something: heard when it is committed, and only then. */
export const notify = (session: Session, topic: Topic, name: string): Promise<void> =>
  notifyAll(session, topic, [name]);

export const notifyAll = async (session: Session, topic: Topic, names: readonly string[]): Promise<void> => {
  const text = 'SELECT pg_notify($1, told) FROM unnest($2::text[]) AS told';
  await session.query(text, [CHANNEL, names.map((name) => `${topic} ${name}`)]);
};

export class Notifications {
  readonly #options: {
    readonly url: string;
    readonly notices: Notices;
    readonly events: StoreEvents;
    /** Tells all listeners everything. */
    relook(): Promise<void>;
  };
  #client: Client | undefined;
  #timer: NodeJS.Timeout | undefined;
  #lostAt: number | undefined;
  #closed = false;
  #work: Promise<void> = Promise.resolve();

  constructor(options: {
    readonly url: string;
    readonly notices: Notices;
    readonly events: StoreEvents;
    relook(): Promise<void>;
  }) {
    this.#options = options;
  }

  /** Resolves once it listens. */
  async open(): Promise<void> {
    const client = new Client({ ...connectionOptions(this.#options.url), keepAlive: true });
    client.on('notification', ({ payload = '' }) => {
      const space = payload.indexOf(' ');
      this.#options.notices.tell(payload.slice(0, space) as Topic, payload.slice(space + 1));
    });
    client.on('error', (cause) => this.#lost(client, cause));
    client.on('end', () => this.#lost(client, new Error('the connection ended')));
    this.#client = client;
    await client.connect();
    await client.query(`LISTEN ${CHANNEL}`);
    this.#later(PROBE_MS, () => this.#probe(client));
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#client?.end().catch((cause: unknown) => this.#options.events.failed({ cause }));
    await this.#work;
  }

  #later(ms: number, work: () => Promise<void>): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#work = work();
    }, ms).unref();
  }

  async #probe(client: Client): Promise<void> {
    try {
      await client.query('SELECT 1');
      if (client === this.#client) this.#later(PROBE_MS, () => this.#probe(client));
    } catch (cause) {
      this.#lost(client, cause);
    }
  }

  #lost(client: Client, cause: unknown): void {
    if (this.#closed || client !== this.#client) return;
    this.#client = undefined;
    this.#lostAt ??= Date.now();
    this.#options.events.failed({ cause });
    client.end().catch(() => undefined); // it is lost already; this frees what is left of it
    this.#later(RETRY_MS, () => this.#reopen());
  }

  async #reopen(): Promise<void> {
    try {
      await this.open();
      await this.#options.relook();
      this.#options.events.reconnected({ waitMs: Date.now() - (this.#lostAt ?? Date.now()) });
      this.#lostAt = undefined;
    } catch (cause) {
      const client = this.#client;
      if (client !== undefined) this.#lost(client, cause);
      else this.#later(RETRY_MS, () => this.#reopen());
    }
  }
}
