// Joins calls to sessions: fair queues in front, channels behind. Invariant: each call is answered exactly once, at its
// own deadline at the latest; a session has at most one creation and then nothing else; the process is judged hung by
// the budget of a call and never by a caller's deadline.
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';
import { Channel, type Failure } from './channel.ts';
import type { Child } from './child.ts';
import { Costs } from './costs.ts';
import { Deadlines } from './deadlines.ts';
import type { TokenEvents } from './events.ts';
import { type Budgets, HangCheck } from './hang-check.ts';
import { PendingCall, type TokenCall } from './pending-call.ts';
import { frameBytes, MAX_FRAME_BYTES } from './protocol.ts';
import { FairQueue } from './queue.ts';
import { type RequestName, request } from './requests.ts';

export interface DispatcherOptions {
  readonly sessions: number;
  readonly acquireTimeoutMs: number;
  readonly boundPerTenant: number;
  readonly budgets: Budgets;
  readonly clock: Clock;
  readonly events: TokenEvents;
  /** The process has to go: it hangs, it sends nonsense, or the library says so. */
  readonly condemn: (reason: string) => void;
}

const MAX_WAITING = 8192; // of all tenants together
const FAST_SESSIONS = 2; // more only contend while calls are short (docs/decisions/0001-token-process.md)
const SLOW_CALL_MICROS = 500;
const DEPTH_FAST = 32;
const DEPTH_SLOW = 2;
const RETRY_AFTER_MS = 500;

export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #operations: FairQueue<PendingCall>;
  readonly #creations: FairQueue<PendingCall>;
  /** Calls whose process died; they go first. */
  #again: PendingCall[] = [];
  readonly #all = new Set<PendingCall>();
  readonly #deadlines: Deadlines<PendingCall>;
  readonly #hangCheck: HangCheck;
  readonly #costs = new Costs();
  #channels: Channel[] = [];
  #child: Child | undefined;
  #drained: (() => void) | undefined;
  /** The process is about to be killed: nothing more is sent to it. */
  #isCondemned = false;
  /** Most sessions: the size of the pool, or fewer where the token refused one. */
  #most: number;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#most = options.sessions;
    this.#operations = new FairQueue({ boundPerTenant: options.boundPerTenant });
    this.#creations = new FairQueue({ boundPerTenant: options.boundPerTenant });
    this.#deadlines = new Deadlines({ clock: options.clock, calls: this.#all, expire: (call) => this.#expire(call) });
    this.#hangCheck = new HangCheck({
      budgets: options.budgets,
      hung: (channel, budgetMs) => this.#hung(channel, budgetMs),
    });
  }

  get waiting(): number {
    return this.#operations.length + this.#creations.length + this.#again.length;
  }
  get inFlight(): number {
    return this.#channels.reduce((sum, channel) => sum + channel.depth, 0);
  }
  get sessions(): number {
    return this.#channels.filter((channel) => channel.isReady).length;
  }

  submit(name: RequestName, fields: readonly Buffer[], call: TokenCall): Promise<Buffer[]> {
    return new Promise((resolve, reject) => {
      const now = this.#options.clock.now();
      if (call.signal.aborted) throw new AgentError('CANCELLED');
      if (now >= call.deadline) throw new AgentError('DEADLINE_EXCEEDED');
      const limits = request(name).fields;
      if (fields.some((field, at) => field.length > (limits[at] ?? 0)) || frameBytes(fields) > MAX_FRAME_BYTES) {
        throw new AgentError('TOO_LARGE');
      }
      if (this.waiting >= MAX_WAITING) throw new AgentError('HSM_BUSY', { retryAfterMs: RETRY_AFTER_MS });
      const waitUntil = Math.min(call.deadline, now + this.#options.acquireTimeoutMs);
      const onSettled = (settled: PendingCall, outcome: string, detail?: string): void =>
        this.#settled(settled, outcome, detail);
      const pending = new PendingCall({ name, fields, call, waitUntil, resolve, reject, onSettled });
      this.#all.add(pending);
      if (!this.#queueOf(pending).push(pending.tenant, pending)) {
        pending.reject(new AgentError('HSM_BUSY', { retryAfterMs: RETRY_AFTER_MS }));
        return;
      }
      this.#deadlines.watch(waitUntil);
      this.#pump();
      this.#options.events.tokenQueue(this.waiting);
    });
  }

  /** Every session forgets the handle of a destroyed object. */
  forget(tokenId: Buffer): void {
    for (const channel of this.#channels) channel.forget(tokenId);
  }

  /** A process is ready: its sessions are opened as they are needed. */
  attach(child: Child): void {
    this.#child = child;
    this.#isCondemned = false;
    this.#most = this.#options.sessions;
    child.onSessionFailed = (index, detail) => this.#sessionFailed(index, detail);
    child.onBroken = (error) => this.#condemn(error.message);
    this.#openSession();
    this.#pump();
  }

  /** The process is gone: what was in it is asked again where that does no harm, else answered. Gives their number. */
  detach(cause: Error): number {
    const lost = this.#channels.flatMap((channel) => channel.abandon());
    this.#channels = [];
    this.#child = undefined;
    this.#hangCheck.stop();
    for (const call of lost) this.#tryAgain(call, cause);
    this.#options.events.tokenSessions(0);
    return lost.length;
  }

  /** Answers everything that waits, for when there is no process to wait for. */
  rejectWaiting(error: () => AgentError): void {
    for (const call of [...this.#again, ...this.#operations, ...this.#creations]) call.reject(error());
  }

  /** Resolves when nothing waits and nothing is in flight. */
  drain(): Promise<void> {
    return new Promise((resolve) => {
      this.#drained = resolve;
      this.#checkDrained();
    });
  }

  /** Ends the channels, so that the workers close their sessions. */
  endSessions(): void {
    for (const channel of this.#channels) channel.end();
  }

  #checkDrained(): void {
    if (this.#drained !== undefined && this.waiting === 0 && this.inFlight === 0) this.#drained();
  }

  #queueOf(call: PendingCall): FairQueue<PendingCall> {
    return call.row.creates ? this.#creations : this.#operations;
  }

  // ---- sessions

  #openSession(): boolean {
    const child = this.#child;
    if (child === undefined || this.#channels.length >= this.#most) return false;
    if (this.#channels.some((channel) => !channel.isReady)) return false; // one after the other
    const used = new Set(this.#channels.map((channel) => channel.index));
    let index = 0;
    while (used.has(index)) index += 1;
    const channel = new Channel({
      index,
      socket: child.channel(index),
      listener: {
        ready: () => {
          this.#options.events.tokenSessions(this.sessions);
          this.#pump();
        },
        answered: (from, call, failure) => this.#answered(from, call, failure),
        broken: (error) => this.#condemn(error.message),
      },
    });
    this.#channels.push(channel);
    this.#hangCheck.watch(this.#channels);
    child.openSession(index);
    return true;
  }

  /** The token may allow fewer sessions than the pool: then we stay with those there are. A lost one needs a new process. */
  #sessionFailed(index: number, detail: string): void {
    this.#options.events.tokenSessionFailed({ detail });
    const channel = this.#channels.find((row) => row.index === index);
    if (channel === undefined) return;
    if (channel.isReady || this.sessions === 0) {
      this.#condemn(`session ${index} failed: ${detail}`);
      return;
    }
    this.#channels = this.#channels.filter((row) => row !== channel);
    this.#hangCheck.watch(this.#channels);
    this.#most = this.sessions;
    this.#pump();
  }

  // ---- from queue to session

  #condemn(reason: string): void {
    this.#isCondemned = true;
    this.#options.condemn(reason);
  }

  #pump(): void {
    if (this.#isCondemned) return;
    this.#pumpCreations();
    for (;;) {
      const channel = this.#leastBusy();
      if (channel === undefined) break;
      const call = this.#nextOperation();
      if (call === undefined) break;
      this.#send(channel, call);
    }
    if (this.#operations.length + this.#again.length > 0) this.#growForOperations();
  }

  #nextOperation(): PendingCall | undefined {
    const again = this.#again.shift();
    return again ?? this.#operations.shift((call) => this.#costs.of(call.costKey));
  }

  #leastBusy(): Channel | undefined {
    let best: Channel | undefined;
    for (const channel of this.#channels) {
      if (!channel.isReady || channel.isReserved || channel.isCreating || channel.depth >= this.#depth()) continue;
      if (best === undefined || channel.depth < best.depth) best = channel;
    }
    return best;
  }

  #depth(): number {
    return this.#costs.typical > SLOW_CALL_MICROS ? DEPTH_SLOW : DEPTH_FAST;
  }

  #growForOperations(): void {
    const serving = this.#channels.filter((channel) => !channel.isReserved && !channel.isCreating).length;
    const most = this.#costs.typical > SLOW_CALL_MICROS ? this.#options.sessions : FAST_SESSIONS;
    if (serving < most) this.#openSession();
  }

  /** One creation at a time: SoftHSM fails at two, and the others would only keep sessions from those who sign. */
  #pumpCreations(): void {
    if (this.#creations.length === 0 || this.#channels.some((channel) => channel.isCreating)) return;
    const ready = this.#channels.filter((channel) => channel.isReady);
    const idle = ready.find((channel) => channel.depth === 0);
    // With one session idle and room for another, the idle one is taken and signatures get the new one.
    if (idle !== undefined) {
      const call = this.#creations.shift((waiting) => this.#costs.of(waiting.costKey));
      if (call === undefined) return;
      for (const channel of this.#channels) channel.isReserved = false;
      this.#send(idle, call);
      return;
    }
    if (this.#openSession() || this.#channels.some((channel) => !channel.isReady || channel.isReserved)) return;
    const [leastBusy] = ready.sort((a, b) => a.depth - b.depth);
    if (leastBusy !== undefined) leastBusy.isReserved = true;
  }

  #send(channel: Channel, call: PendingCall): void {
    call.sentAt = performance.now();
    this.#deadlines.watch(call.deadline);
    channel.send(call);
    this.#hangCheck.start();
  }

  // ---- back from the session

  #answered(channel: Channel, call: PendingCall, failure: Failure | undefined): void {
    this.#costs.learn(call.costKey, call.serviceMs * 1000);
    if (failure?.restart === true) {
      this.#condemn(String((failure.error.cause as Error).message));
      this.#tryAgain(call, failure.error.cause as Error);
    } else if (failure !== undefined) call.reject(failure.error);
    if (channel.depth < this.#depth()) this.#pump();
    this.#checkDrained();
  }

  #tryAgain(call: PendingCall, cause: Error): void {
    if (call.settled) return;
    if (call.row.repeatable && call.attempts === 0) {
      call.attempts += 1;
      this.#again.push(call);
      return;
    }
    call.reject(new AgentError('HSM_UNAVAILABLE', { cause, retryAfterMs: RETRY_AFTER_MS }));
  }

  #settled(call: PendingCall, outcome: string, detail?: string): void {
    this.#all.delete(call);
    this.#queueOf(call).remove(call.tenant, call);
    if (this.#again.includes(call)) this.#again = this.#again.filter((row) => row !== call);
    const queuedMs = (call.sentAt === 0 ? performance.now() : call.sentAt) - call.queuedAt;
    this.#options.events.tokenCallFinished({
      tenant: call.tenant,
      request: call.name,
      outcome,
      queuedMs,
      serviceMs: call.serviceMs,
      ...(detail !== undefined && { detail }),
    });
    this.#options.events.tokenQueue(this.waiting);
    this.#checkDrained();
  }

  /** Called when `waitUntil` or the deadline has passed. */
  #expire(call: PendingCall): number {
    const now = this.#options.clock.now();
    if (now >= call.deadline) call.reject(new AgentError('DEADLINE_EXCEEDED'));
    else if (call.sentAt !== 0 || now < call.waitUntil) return call.sentAt === 0 ? call.waitUntil : call.deadline;
    else if (this.#child === undefined) {
      call.reject(new AgentError('HSM_UNAVAILABLE', { retryAfterMs: RETRY_AFTER_MS }));
    } else call.reject(new AgentError('HSM_BUSY', { retryAfterMs: RETRY_AFTER_MS }));
    return Number.POSITIVE_INFINITY;
  }

  #hung(channel: Channel, budgetMs: number): void {
    const call = channel.head;
    const pid = this.#child?.pid ?? -1;
    this.#options.events.tokenHung({ pid, request: call?.name ?? 'open-session', budgetMs });
    if (call !== undefined) {
      call.attempts += 1; // what hung once is not asked again
      call.reject(new AgentError('HSM_UNAVAILABLE', { cause: new Error(`no answer within ${budgetMs} ms`) }));
    }
    this.#condemn(`${call?.name ?? 'opening a session'} did not end within ${budgetMs} ms`);
  }
}
