// The agent's side of the registry: one session at a time, opened again and again, with the host's certificate renewed
// before it ends. Invariant: whatever becomes of the registry, nothing here rejects into the agent or holds it up; a new
// session is welcomed before the old one is closed.
import type { Client } from '@grpc/grpc-js';
import { pause, waitAfter, waitBefore } from './backoff.ts';
import { type Method, unary } from './calls.ts';
import { type Address, addressText, dial, secureContext } from './channel.ts';
import { type Identity, type IdentityFiles, readIdentity, rememberTenants } from './identity.ts';
import { handIn } from './ledger-feed.ts';
import { followPolicies } from './policy-feed.ts';
import type { HostState, LedgerSource, PoliciesSink, UplinkEvents, UplinkState } from './ports.ts';
import { asRefusal, Refusal } from './refusal.ts';
import { Renewal } from './renewal.ts';
import { type Feed, Session } from './session.ts';

export interface UplinkOptions {
  /** Replicas of one registry; the next is tried where one does not answer. */
  readonly addresses: readonly Address[];
  readonly files: IdentityFiles;
  readonly requireHybrid: boolean;
  readonly version: string;
  readonly startedAt: number;
  readonly events: UplinkEvents;
  readonly policies: PoliciesSink;
  readonly ledger: LedgerSource;
  /** Streams beside those of policies and ledger. */
  readonly feeds?: readonly Feed[];
  /** Everything that the registry is told of this host. */
  readonly state: () => HostState;
  /** The registry has named the tenants that this host may serve. */
  readonly assigned: (tenants: readonly string[]) => void;
  /** Connected or not, revoked or not. */
  readonly changed: () => void;
}

const CLOCK_SECONDS = 60;
const REPLACE_ATTEMPT = 5; // 4 to 8 seconds between attempts to replace a session that still lives

/** What ends a session, or asks for another beside it. */
type Turn = { readonly ended: Refusal } | { readonly replace: true };

export class Uplink {
  readonly #options: UplinkOptions;
  readonly #renewal: Renewal;
  readonly #closing = new AbortController();
  #session: Session | undefined;
  #running: Promise<void> | undefined;
  #identity: Identity | undefined;
  #turn = Promise.withResolvers<Turn>();
  #address = 0;
  #why = 'not connected yet';
  #revoked = false;

  constructor(options: UplinkOptions) {
    this.#options = options;
    this.#renewal = new Renewal({
      files: options.files,
      events: options.events,
      signal: this.#closing.signal,
      present: () => this.#identity && this.#session && { identity: this.#identity, client: this.#session.client },
      replaced: () => this.#turn.resolve({ replace: true }),
    });
  }

  start(): void {
    this.#running ??= this.#run();
  }

  state(): UplinkState {
    return {
      connected: this.#session !== undefined,
      revoked: this.#revoked,
      detail: this.#session === undefined ? this.#why : `connected to ${addressText(this.#present)}`,
      certificateExpireAt: this.#identity?.expireAt,
    };
  }

  get sealingJwk(): string | undefined {
    return this.#identity?.sealingJwk;
  }

  get cosigner(): string | undefined {
    return this.#identity?.cosigner;
  }

  /** Something that the heartbeat tells has changed. */
  changed(): void {
    this.#session?.changed();
  }

  /** One call by the session of now. Rejects with a Refusal, at once where there is none. */
  async call<Req, Res>(
    method: Method<Req, Res>,
    request: Req,
    options: { readonly deadline?: number; readonly signal?: AbortSignal } = {},
  ): Promise<Res> {
    const client = this.#session?.client;
    if (client === undefined) throw new Refusal('NOT_CONNECTED', `the registry cannot be reached: ${this.#why}`);
    return unary(client, method, request, options);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#turn.resolve({ ended: new Refusal('CANCELLED', 'the agent is stopping') });
    await this.#running;
  }

  get #present(): Address {
    const { addresses } = this.#options;
    return addresses[this.#address % addresses.length] as Address;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      let why: Refusal;
      try {
        await this.#connect();
        attempt = 0;
        why = await this.#live();
        if (signal.aborted) break;
      } catch (thrown) {
        why = asRefusal(thrown);
      }
      await this.#drop();
      await this.#waitAfter(why, attempt);
    }
    await this.#drop();
  }

  /** Opens a session, and closes the one before once the new one is welcomed. */
  async #connect(): Promise<void> {
    const { files, requireHybrid, version, startedAt, events, state } = this.#options;
    const beganAt = performance.now();
    const identity = await readIdentity(files);
    this.#closing.signal.throwIfAborted();
    const { key, chain, roots } = identity;
    this.#turn = Promise.withResolvers();
    const turn = this.#turn;
    const session = new Session({
      client: dial(this.#present, secureContext({ key, chain, roots, requireHybrid })),
      version,
      startedAt,
      state,
      events,
      renew: () => void this.#renewal.renew(),
      goAway: (graceSeconds) => {
        // Not all hosts at once, and well before the streams are ended.
        setTimeout(
          () => {
            this.#address += 1;
            turn.resolve({ replace: true });
          },
          (Math.random() * graceSeconds * 1000) / 2,
        ).unref();
      },
    });
    const stop = (): void => session.cancel();
    this.#closing.signal.addEventListener('abort', stop, { once: true });
    try {
      const welcome = await session.welcomed;
      await this.#session?.close();
      this.#identity = identity;
      this.#session = session;
      this.#revoked = false;
      this.#options.assigned(welcome.tenants);
      await rememberTenants(files.dir, welcome.tenants);
      void session.ended.then((ended) => turn.resolve({ ended }));
      session.begin(this.#feeds());
      const seconds = Math.round((Date.now() - (welcome.time?.getTime() ?? Date.now())) / 1000);
      if (Math.abs(seconds) > CLOCK_SECONDS) events.clockDiffers({ seconds });
      const milliseconds = Math.round(performance.now() - beganAt);
      events.connected({ address: addressText(this.#present), replica: welcome.replica.slice(0, 128), milliseconds });
      this.#options.changed();
    } catch (thrown) {
      await session.close();
      throw thrown;
    } finally {
      this.#closing.signal.removeEventListener('abort', stop);
    }
  }

  /** Where no other session comes about, the present one goes on and another is tried for later. */
  async #replace(): Promise<void> {
    const present = this.#session;
    try {
      await this.#connect();
    } catch (thrown) {
      const { code, message: reason } = asRefusal(thrown);
      this.#options.events.streamFailed({ stream: 'session', code, reason });
      const turn = Promise.withResolvers<Turn>();
      this.#turn = turn;
      void present?.ended.then((ended) => turn.resolve({ ended }));
      setTimeout(() => turn.resolve({ replace: true }), waitBefore(REPLACE_ATTEMPT)).unref();
    }
  }

  #feeds(): readonly Feed[] {
    const { policies, ledger, events, feeds = [] } = this.#options;
    return [
      { name: 'policies', run: (client: Client, signal) => followPolicies(client, policies, signal) },
      { name: 'ledger', run: (client: Client, signal) => handIn(client, ledger, events, signal) },
      ...feeds,
    ];
  }

  /** Until the session ends for good; replaces it meanwhile where that is asked for. */
  async #live(): Promise<Refusal> {
    const stop = this.#renewal.watch();
    try {
      for (;;) {
        if (this.#closing.signal.aborted) return new Refusal('CANCELLED', 'the agent is stopping');
        const turn = await this.#turn.promise;
        if ('ended' in turn) return turn.ended;
        if (this.#closing.signal.aborted) return new Refusal('CANCELLED', 'the agent is stopping');
        await this.#replace();
      }
    } finally {
      stop();
    }
  }

  async #drop(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.close();
    if (session !== undefined) this.#options.changed();
  }

  async #waitAfter({ code, message }: Refusal, attempt: number): Promise<void> {
    const { signal } = this.#closing;
    if (signal.aborted) return;
    const { events } = this.#options;
    const waitMs = waitAfter(code, attempt);
    if (code === 'HOST_REVOKED' && !this.#revoked) {
      this.#revoked = true;
      events.revoked({ reason: message });
      // On the registry's word it may serve nobody any more: not after a restart either.
      this.#options.assigned([]);
      await rememberTenants(this.#options.files.dir, []).catch(() => undefined); // then it is told at the next start
    }
    this.#why = `${code}: ${message}`;
    events.disconnected({ address: addressText(this.#present), code, reason: message, waitMs });
    this.#address += 1;
    this.#options.changed();
    await pause(attempt, signal, waitMs);
  }
}
