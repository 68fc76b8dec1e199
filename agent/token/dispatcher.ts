// Joins calls to sessions: fair queues in front, sessions behind. Invariant: each call is answered exactly once, at its
// own deadline at the latest; the process is judged hung by the budget of a call and never by a caller's deadline.
import { availableParallelism } from 'node:os';
import type { Clock } from '../clock.ts';
import { Deadlines } from '../deadlines.ts';
import { AgentError } from '../errors.ts';
import type { Channel, Failure } from './channel.ts';
import type { Child } from './child.ts';
import { Costs } from './costs.ts';
import type { TokenEvents } from './events.ts';
import type { Budgets } from './hang-check.ts';
import { Pace } from './pace.ts';
import { PendingCall, type TokenCall } from './pending-call.ts';
import { frameBytes, MAX_FRAME_BYTES } from './protocol.ts';
import { FairQueue } from './queue.ts';
import { type RequestName, request } from './requests.ts';
import { Sessions } from './sessions.ts';

export interface DispatcherOptions {
  readonly sessions: number;
  /** After so long without a call a session beyond the first is ended. */
  readonly idleSessionMs: number;
  readonly acquireTimeoutMs: number;
  readonly boundPerTenant: number;
  readonly budgets: Budgets;
  readonly clock: Clock;
  readonly events: TokenEvents;
  /** Throws where a call is not to reach the token; each that it lets pass is told of by `tokenCallFinished`. */
  readonly admit: () => void;
  /** The process has to go: it hangs, it sends nonsense, or the library says so. */
  readonly condemn: (reason: string) => void;
}

const MAX_WAITING = 8192; // of all tenants together
const RETRY_AFTER_MS = 500;

export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #operations: FairQueue<PendingCall>;
  readonly #creations: FairQueue<PendingCall>;
  /** Calls whose process died; they go first. */
  #again: PendingCall[] = [];
  readonly #all = new Set<PendingCall>();
  readonly #deadlines: Deadlines<PendingCall>;
  readonly #sessions: Sessions;
  /** Sessions that calls may be spread over. */
  #most: number;
  readonly #costs = new Costs({ processors: availableParallelism() });
  readonly #pace = new Pace({ costs: this.#costs });
  #child: Child | undefined;
  #drained: (() => void) | undefined;
  /** The process is about to be killed: nothing more is sent to it. */
  #isCondemned = false;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#most = options.sessions;
    this.#operations = new FairQueue({ boundPerTenant: options.boundPerTenant });
    this.#creations = new FairQueue({ boundPerTenant: options.boundPerTenant });
    this.#deadlines = new Deadlines({ clock: options.clock, calls: this.#all, expire: (call) => this.#expire(call) });
    this.#sessions = new Sessions({
      size: options.sessions,
      idleMs: options.idleSessionMs,
      budgets: options.budgets,
      events: options.events,
      listener: {
        room: () => this.#pump(),
        answered: (call, failure) => this.#answered(call, failure),
        lost: (calls, cause) => this.#lost(calls, cause),
        hung: (channel, budgetMs) => this.#hung(channel, budgetMs),
        condemn: (reason) => this.#condemn(reason),
      },
    });
  }

  get waiting(): number {
    return this.#operations.length + this.#creations.length + this.#again.length;
  }
  get inFlight(): number {
    return this.#sessions.inFlight;
  }
  get sessions(): number {
    return this.#sessions.count;
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
      this.#options.admit();
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
      this.#pace.came(call.tenant);
      this.#pump();
      this.#options.events.tokenQueue(this.waiting);
    });
  }

  /** From now on at most so many sessions are open; resolves when that is so. */
  async limitSessions(sessions: number): Promise<void> {
    this.#most = Math.max(1, Math.min(sessions, this.#options.sessions));
    const fits = this.#sessions.limit(this.#most);
    this.#pump();
    await fits;
  }

  /** Nothing more is sent to the process of now, which is about to end. */
  hold(): void {
    this.#isCondemned = true;
  }

  /** Every session forgets the handle of a destroyed object. */
  forget(tokenId: Buffer): void {
    this.#sessions.forget(tokenId);
  }

  /** A process is ready: its sessions are opened as they are needed. */
  attach(child: Child): void {
    this.#child = child;
    this.#isCondemned = false;
    this.#sessions.attach(child);
    this.#pump();
  }

  /** The process is gone: what was in it is asked again where that does no harm, else answered. Gives their number. */
  detach(cause: Error): number {
    const lost = this.#sessions.detach();
    this.#child = undefined;
    for (const call of lost) this.#tryAgain(call, cause);
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
    this.#sessions.end();
  }

  #checkDrained(): void {
    if (this.#drained !== undefined && this.waiting === 0 && this.inFlight === 0) this.#drained();
  }

  #queueOf(call: PendingCall): FairQueue<PendingCall> {
    return call.row.creates ? this.#creations : this.#operations;
  }

  // ---- from queue to session

  #condemn(reason: string): void {
    this.#isCondemned = true;
    this.#options.condemn(reason);
  }

  #pump(): void {
    if (this.#isCondemned) return;
    this.#pumpCreations();
    const most = this.#costs.sessions(this.#most);
    const { depth, holdMicros } = this.#pace.of((this.waiting + this.inFlight) / most);
    for (;;) {
      const channel = this.#sessions.leastBusy({ most, depth });
      if (channel === undefined) break;
      const call = this.#nextOperation();
      if (call === undefined) break;
      channel.hold(holdMicros);
      this.#send(channel, call);
    }
    if (this.#operations.length + this.#again.length === 0) return;
    this.#sessions.grow(most);
  }

  #nextOperation(): PendingCall | undefined {
    const again = this.#again.shift();
    return again ?? this.#operations.shift((call) => this.#costs.of(call.costKey));
  }

  #pumpCreations(): void {
    if (this.#creations.length === 0) return;
    const channel = this.#sessions.forCreation();
    const call = channel && this.#creations.shift((waiting) => this.#costs.of(waiting.costKey));
    if (channel !== undefined && call !== undefined) this.#send(channel, call);
  }

  #send(channel: Channel, call: PendingCall): void {
    call.sentAt = performance.now();
    this.#deadlines.watch(call.deadline);
    this.#sessions.send(channel, call);
  }

  // ---- back from the session

  #answered(call: PendingCall, failure: Failure | undefined): void {
    this.#costs.learn(
      call.costKey,
      (call.serviceMs - call.starvedMs) * 1000,
      call.computingMs === undefined ? undefined : call.computingMs * 1000,
    );
    if (failure?.restart === true) {
      this.#condemn(String((failure.error.cause as Error).message));
      this.#tryAgain(call, failure.error.cause as Error);
    } else if (failure !== undefined) call.reject(failure.error);
    this.#pump();
    this.#checkDrained();
  }

  /** A session ended by itself, with these calls. */
  #lost(calls: readonly PendingCall[], cause: Error): void {
    for (const call of calls) this.#tryAgain(call, cause);
    this.#pump();
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
