// The sessions of the present token process: opened as they are needed, one after the other, and ended again when they
// were idle for long. Invariant: a channel is used by one worker at a time, and never again after a worker failed on it,
// because nobody knows what it left there.
import { Channel, type Failure } from './channel.ts';
import type { Child } from './child.ts';
import type { TokenEvents } from './events.ts';
import { type Budgets, HangCheck } from './hang-check.ts';
import type { PendingCall } from './pending-call.ts';

export interface SessionsListener {
  /** There is room where there was none. */
  room(): void;
  answered(call: PendingCall, failure: Failure | undefined): void;
  /** A worker ended with these calls; the others go on. */
  lost(calls: readonly PendingCall[], cause: Error): void;
  hung(channel: Channel, budgetMs: number): void;
  /** The process has to go. */
  condemn(reason: string): void;
}

export class Sessions {
  readonly #size: number;
  readonly #idleMs: number;
  readonly #events: Pick<TokenEvents, 'tokenSessions' | 'tokenSessionFailed'>;
  readonly #listener: SessionsListener;
  readonly #hangCheck: HangCheck;
  #child: Child | undefined;
  #channels: Channel[] = [];
  /** Asked to leave, and not gone yet. */
  #leaving: Channel[] = [];
  /** Channels that a worker failed on. */
  readonly #spoilt = new Set<number>();
  /** Most sessions that may be open now: the size of the pool, or this host's share of the token's. */
  #limit: number;
  /** Most sessions: the limit, or fewer where the token refused one. */
  #most: number;
  /** Above the limit: take no more calls, and leave as they become idle. */
  readonly #surplus = new Set<Channel>();
  #fitting: (() => void)[] = [];
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(options: {
    readonly size: number;
    /** A session beyond the first ends when it had nothing to do for so long. */
    readonly idleMs: number;
    readonly budgets: Budgets;
    readonly events: Pick<TokenEvents, 'tokenSessions' | 'tokenSessionFailed'>;
    readonly listener: SessionsListener;
  }) {
    this.#size = options.size;
    this.#limit = options.size;
    this.#most = options.size;
    this.#idleMs = options.idleMs;
    this.#events = options.events;
    this.#listener = options.listener;
    const hung = (channel: Channel, budgetMs: number): void => this.#listener.hung(channel, budgetMs);
    this.#hangCheck = new HangCheck({ budgets: options.budgets, hung });
  }

  /** Those that serve. */
  get count(): number {
    return this.#channels.filter((channel) => channel.isReady).length;
  }
  get inFlight(): number {
    return this.#channels.reduce((sum, channel) => sum + channel.depth, 0);
  }

  attach(child: Child): void {
    this.#child = child;
    this.#most = this.#limit;
    this.#spoilt.clear();
    child.onSessionFailed = (index, detail) => this.#failed(index, detail);
    child.onSessionEnded = (index) => this.#ended(index);
    child.onBroken = (error) => this.#listener.condemn(error.message);
    this.#open();
  }

  /** The process is gone. Gives the calls that were in it. */
  detach(): PendingCall[] {
    const lost = this.#channels.flatMap((channel) => channel.abandon());
    this.#channels = [];
    this.#leaving = [];
    this.#surplus.clear();
    this.#child = undefined;
    this.#hangCheck.stop();
    clearTimeout(this.#idleTimer);
    this.#idleTimer = undefined;
    this.#events.tokenSessions(0);
    this.#checkFits();
    return lost;
  }

  /** From now on no more than so many are open; resolves when that is so. Those above it leave as they become idle. */
  limit(sessions: number): Promise<void> {
    this.#limit = Math.max(1, Math.min(sessions, this.#size));
    this.#most = this.#limit; // where the token refused one more, it is asked again
    this.#surplus.clear();
    for (const channel of [...this.#channels].sort((a, b) => a.depth - b.depth).slice(0, this.#above)) {
      this.#surplus.add(channel);
    }
    for (const channel of this.#surplus) this.#leaveIfIdle(channel);
    return new Promise((resolve) => {
      this.#fitting.push(resolve);
      this.#checkFits();
    });
  }

  get #above(): number {
    return Math.max(0, this.#channels.length - this.#limit);
  }

  #leaveIfIdle(channel: Channel): void {
    if (!this.#surplus.has(channel) || !channel.isReady || channel.depth > 0) return;
    this.#surplus.delete(channel);
    this.#leave(channel);
    this.#watchHangs();
    this.#events.tokenSessions(this.count);
  }

  #leave(channel: Channel): void {
    channel.leave();
    this.#channels = this.#channels.filter((row) => row !== channel);
    this.#leaving.push(channel);
  }

  #checkFits(): void {
    if (this.#channels.length + this.#leaving.length > this.#limit) return;
    for (const resolve of this.#fitting.splice(0)) resolve();
  }

  /** Ends the channels, so that the workers close their sessions. */
  end(): void {
    for (const channel of this.#channels) channel.end();
    clearTimeout(this.#idleTimer);
  }

  /** Every session forgets the handle of a destroyed object. */
  forget(tokenId: Buffer): void {
    for (const channel of this.#channels) channel.forget(tokenId);
  }

  send(channel: Channel, call: PendingCall): void {
    channel.send(call);
    this.#hangCheck.start();
  }

  /** Of the first `most` sessions that serve, the one with the fewest calls, where one has less than `depth` of them. */
  leastBusy({ most, depth }: { readonly most: number; readonly depth: number }): Channel | undefined {
    let best: Channel | undefined;
    let serving = 0;
    for (const channel of this.#channels) {
      if (!channel.isReady || channel.isReserved || channel.isCreating || this.#surplus.has(channel)) continue;
      serving += 1;
      if (serving > most) break;
      if (channel.depth >= depth) continue;
      if (best === undefined || channel.depth < best.depth) best = channel;
    }
    return best;
  }

  /** Opens one more where fewer than `most` serve operations. */
  grow(most: number): void {
    const serving = this.#channels.filter((channel) => !channel.isReserved && !channel.isCreating).length;
    if (serving < most) this.#open();
  }

  /**
   * An idle session for a creation, which will have it to itself; without one, a session is opened or reserved. One
   * creation at a time: SoftHSM fails at two, and the others would only keep sessions from those who sign.
   */
  forCreation(): Channel | undefined {
    if (this.#channels.some((channel) => channel.isCreating)) return undefined;
    const ready = this.#channels.filter((channel) => channel.isReady && !this.#surplus.has(channel));
    // With one session idle and room for another, the idle one is taken and signatures get the new one.
    const idle = ready.find((channel) => channel.depth === 0);
    if (idle !== undefined) {
      for (const channel of this.#channels) channel.isReserved = false;
      return idle;
    }
    if (this.#open() || this.#channels.some((channel) => !channel.isReady || channel.isReserved)) return undefined;
    const [leastBusy] = ready.sort((a, b) => a.depth - b.depth);
    if (leastBusy !== undefined) leastBusy.isReserved = true;
    return undefined;
  }

  #open(): boolean {
    const child = this.#child;
    if (child === undefined || this.#channels.length + this.#leaving.length >= this.#most) return false;
    if (this.#channels.some((channel) => !channel.isReady)) return false; // one after the other
    const index = this.#freeIndex();
    if (index === undefined) return false;
    const channel = new Channel({
      index,
      socket: child.channel(index),
      listener: {
        ready: () => {
          this.#events.tokenSessions(this.count);
          this.#watchIdle();
          this.#leaveIfIdle(channel);
          this.#listener.room();
        },
        answered: (call, failure) => {
          this.#listener.answered(call, failure);
          this.#leaveIfIdle(channel);
        },
        broken: (error) => this.#listener.condemn(error.message),
      },
    });
    this.#channels.push(channel);
    this.#watchHangs();
    child.openSession(index);
    return true;
  }

  #freeIndex(): number | undefined {
    const used = new Set([...this.#channels, ...this.#leaving].map((channel) => channel.index));
    for (let index = 0; index < this.#size; index += 1) {
      if (!used.has(index) && !this.#spoilt.has(index)) return index;
    }
    return undefined;
  }

  #watchHangs(): void {
    this.#hangCheck.watch([...this.#channels, ...this.#leaving]);
  }

  /**
   * A worker could not open its session, or its thread ended by an exception. The second is safe to survive: calls in the
   * library are synchronous, so none was running when JavaScript could throw; the worker closes its session on the way
   * out; and its calls are asked again or answered as if the process had died. What is not: a fault inside the library,
   * which takes the whole process; and an end without any session left.
   */
  #failed(index: number, detail: string): void {
    this.#events.tokenSessionFailed({ detail });
    const channel = [...this.#channels, ...this.#leaving].find((row) => row.index === index);
    if (channel === undefined) return;
    const served = channel.isReady;
    const calls = this.#remove(channel);
    this.#spoilt.add(index);
    if (!served) this.#most = Math.max(1, this.count); // the token may allow fewer: we stay with those there are
    if (this.#channels.length === 0 && (!served || !this.#open())) {
      this.#listener.condemn(`session ${index} failed: ${detail}`);
    }
    this.#listener.lost(calls, new Error(`session ${index} failed: ${detail}`));
  }

  /** A worker left as it was asked to: its channel is as new. */
  #ended(index: number): void {
    const channel = this.#leaving.find((row) => row.index === index);
    if (channel === undefined) return;
    channel.release();
    this.#remove(channel);
    this.#listener.room();
  }

  #remove(channel: Channel): PendingCall[] {
    this.#channels = this.#channels.filter((row) => row !== channel);
    this.#leaving = this.#leaving.filter((row) => row !== channel);
    this.#surplus.delete(channel);
    const calls = channel.abandon();
    this.#watchHangs();
    this.#events.tokenSessions(this.count);
    this.#checkFits();
    return calls;
  }

  #watchIdle(): void {
    if (this.#idleTimer !== undefined || this.count < 2) return;
    this.#idleTimer = setTimeout(() => {
      this.#idleTimer = undefined;
      this.#endIdle();
      this.#watchIdle();
    }, this.#idleMs).unref();
  }

  /** Looks once in `idleMs`, so a session ends after one to two of it; the first in the list always stays. */
  #endIdle(): void {
    const since = performance.now() - this.#idleMs;
    for (const channel of this.#channels.slice(1).reverse()) {
      if (!channel.isReady || channel.isReserved || channel.depth > 0 || channel.lastUsed > since) continue;
      this.#leave(channel);
    }
    if (this.#leaving.length === 0) return;
    this.#watchHangs();
    this.#events.tokenSessions(this.count);
  }
}
