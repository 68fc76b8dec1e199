// This host's share of a token's sessions: what it lets the token have open, what it says of that to the registry, and what
// it falls back to when the lease is over. Invariant: what `held` says is never less than what may be open; a smaller share
// is said to be held once the sessions above it are closed, and a larger one is opened once it was answered.
import type { Clock } from '../clock.ts';
import type { SessionAnswer, SessionQuestion, SharedToken } from '../uplink/ports.ts';
import { type RememberedShare, readShare, writeShare } from './remembered-share.ts';

export interface SessionShareEvents {
  /** Undefined: the token has no budget, or none is known of. */
  sessionShare(event: { share: number; total: number; hosts: number } | undefined): void;
  /** The lease is over and the registry has not answered. */
  sessionLeaseEnded(event: { fallback: number }): void;
}

/** The token as far as its sessions go; undefined while it was never there. */
export interface LimitedToken {
  info(): { readonly label: string; readonly serial: string };
  limitSessions(most: number | undefined): Promise<void>;
  restartProcess(reason: string): void;
}

const LEAST = 2; // one keeps the login, one works
const TICK_MS = 1_000;
/** Within the time that the registry lets pass after a lease before others use its sessions. */
const CLOSE_MS = 3_000;

export class SessionShare implements SharedToken {
  readonly #name: string;
  readonly #wanted: number;
  readonly #fallback: number;
  readonly #file: string;
  readonly #clock: Clock;
  readonly #events: SessionShareEvents;
  readonly #token: () => LimitedToken | undefined;
  #remembered: string;
  /** What the token is limited to; undefined: nothing but its own setting. */
  #limit: number | undefined;
  /** What may be open. */
  #held: number;
  #grant = 0;
  #lease: (SessionAnswer & { readonly endsAt: number; readonly endsAtTick: number }) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isLeft = false;

  constructor(options: {
    readonly name: string;
    /** Most sessions that work. */
    readonly pool: number;
    readonly fallback: number;
    /** Remembers whether there is a budget. */
    readonly file: string;
    readonly clock: Clock;
    readonly events: SessionShareEvents;
    readonly token: () => LimitedToken | undefined;
  }) {
    this.#name = options.name;
    this.#wanted = options.pool + 1;
    this.#fallback = options.fallback;
    this.#file = options.file;
    this.#clock = options.clock;
    this.#events = options.events;
    this.#token = options.token;
    const known = readShare(options.file);
    this.#remembered = JSON.stringify(known ?? null);
    this.#limit = known?.limited === false ? undefined : Math.min(this.#wanted, Math.max(LEAST, this.#fallback));
    this.#held = this.#limit ?? this.#wanted;
  }

  /** What the token is to be opened with. */
  get limit(): number | undefined {
    return this.#limit;
  }

  get isLimited(): boolean {
    return this.#lease !== undefined;
  }

  now(): number {
    return this.#clock.now();
  }

  /** In words; undefined where nothing limits the token but its own setting. */
  describe(): string | undefined {
    const lease = this.#lease;
    if (lease === undefined) return undefined;
    const { share, total, hosts } = lease;
    const budget = `the registry's budget of ${total} for ${hosts} hosts`;
    if (this.#isOver(lease)) return `the lease of sessions is over, ${this.#limit} are kept until the registry answers`;
    if (share < LEAST) return `no sessions for this host: ${budget} is too small for all; give it a larger one`;
    return `${share} sessions of ${budget}`;
  }

  question(): SessionQuestion | undefined {
    const info = this.#token()?.info();
    if (info === undefined || this.#isLeft) return undefined;
    const { label, serial } = info;
    const [wanted, fallback] = [this.#wanted, this.#fallback];
    return { label, serial, name: this.#name, held: this.#held, grant: this.#grant, wanted, fallback };
  }

  leave(): SessionQuestion | undefined {
    const last = this.question();
    this.#isLeft = true;
    return last;
  }

  answered(answer: SessionAnswer | undefined, asked: number): void {
    if (answer === undefined) {
      this.#forget();
      return;
    }
    const before = this.#lease;
    this.#grant = answer.grant;
    const ms = answer.leaseSeconds * 1000;
    // Both clocks: one stands while the machine sleeps, the other may be set.
    const spent = Math.max(0, this.#clock.now() - asked);
    this.#lease = { ...answer, endsAt: asked + ms, endsAtTick: performance.now() + ms - spent };
    const { share, total, hosts } = answer;
    this.#remember({ limited: true, share, total, hosts });
    if (before?.share !== answer.share || before.total !== answer.total || before.hosts !== answer.hosts) {
      this.#events.sessionShare(answer);
    }
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS).unref();
    void this.#limitTo(answer.share);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #forget(): void {
    if (this.#lease !== undefined) this.#events.sessionShare(undefined);
    this.#lease = undefined;
    this.#grant = 0;
    this.close();
    this.#remember({ limited: false });
    void this.#limitTo(undefined);
  }

  /** What is held falls when it is so, and rises before it may be. */
  async #limitTo(limit: number | undefined): Promise<void> {
    const most = limit === undefined ? this.#wanted : limit < LEAST ? 0 : limit;
    this.#held = Math.max(this.#held, most);
    this.#limit = limit === undefined ? undefined : most;
    const own = this.#limit;
    await this.#token()?.limitSessions(own);
    if (this.#limit === own) this.#held = most;
  }

  #isOver({ endsAt, endsAtTick }: { readonly endsAt: number; readonly endsAtTick: number }): boolean {
    return this.#clock.now() >= endsAt || performance.now() >= endsAtTick;
  }

  #tick(): void {
    const lease = this.#lease;
    if (lease === undefined || !this.#isOver(lease)) return;
    const fallback = Math.min(this.#limit ?? this.#wanted, this.#fallback);
    if (this.#limit === fallback || (fallback < LEAST && this.#limit === 0)) return;
    this.#events.sessionLeaseEnded({ fallback });
    void this.#limitTo(fallback);
    setTimeout(() => {
      if (this.#held <= Math.max(fallback, 0) || this.#limit !== fallback) return;
      this.#token()?.restartProcess('the lease of its sessions is over, and those above the fallback are busy');
    }, CLOSE_MS).unref();
  }

  #remember(share: RememberedShare): void {
    const text = JSON.stringify(share);
    if (text !== this.#remembered && writeShare(this.#file, share)) this.#remembered = text;
  }
}
