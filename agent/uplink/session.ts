// One connection to the registry from its welcome to its end: the heartbeat, and beside it the streams, each opened again
// while the heartbeat lives. Invariant: after `close` has resolved nothing of the session touches the agent any more.
import type { Client } from '@grpc/grpc-js';
import type { HeartbeatWelcome } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { pause } from './backoff.ts';
import { Heartbeat, type HeartbeatOptions } from './heartbeat.ts';
import type { UplinkEvents } from './ports.ts';
import { asRefusal, type Refusal } from './refusal.ts';

/** A stream of the session; it resolves or rejects when it ends, and at the signal. */
export interface Feed {
  readonly name: string;
  run(client: Client, signal: AbortSignal): Promise<void>;
}

/** No other stream will do better: the session is to end. */
const FATAL: ReadonlySet<string> = new Set(['HOST_REVOKED', 'UNAUTHENTICATED']);

export class Session {
  readonly client: Client;
  readonly welcomed: Promise<HeartbeatWelcome>;
  /** Resolves with why it ended; never rejects. */
  readonly ended: Promise<Refusal>;
  readonly #heartbeat: Heartbeat;
  readonly #events: Pick<UplinkEvents, 'streamFailed'>;
  readonly #closing = new AbortController();
  #streams: Promise<unknown> = Promise.resolve();

  constructor(options: HeartbeatOptions & { readonly events: Pick<UplinkEvents, 'streamFailed'> }) {
    this.client = options.client;
    this.#events = options.events;
    this.#heartbeat = new Heartbeat(options);
    this.welcomed = this.#heartbeat.welcomed;
    this.ended = this.#heartbeat.ended.finally(() => this.#closing.abort());
  }

  /** Opens the streams; once, when the session is welcomed. */
  begin(feeds: readonly Feed[]): void {
    this.#streams = Promise.all(feeds.map((feed) => this.#keep(feed)));
  }

  changed(): void {
    this.#heartbeat.changed();
  }

  /** Ends it without waiting. */
  cancel(): void {
    this.#heartbeat.close();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#heartbeat.close();
    await this.#streams;
    this.client.close();
  }

  async #keep({ name, run }: Feed): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      const startedAt = performance.now();
      try {
        await run(this.client, signal);
      } catch (thrown) {
        if (signal.aborted) return;
        const { code, message: reason } = asRefusal(thrown);
        this.#events.streamFailed({ stream: name, code, reason });
        if (FATAL.has(code)) this.#heartbeat.close();
      }
      if (performance.now() - startedAt > STABLE_MS) attempt = 0;
      await pause(attempt, signal);
    }
  }
}

const STABLE_MS = 30_000;
