// Keeps one token process alive: starts it, starts it again with growing waits when it dies, and stops starting it when
// the token refused the PIN. Invariant: a PIN that was refused is never tried again by itself.
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError } from '../errors.ts';
import { lacking } from './abilities.ts';
import { jittered, RECOVERY_SHARE } from './backoff.ts';
import type { Child, Exit } from './child.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { TokenEvents } from './events.ts';
import { locksOut, needsPerson, type StartReason, TokenStartError } from './start-error.ts';
import type { Ready } from './start-message.ts';
import { Starter, type StarterOptions } from './starter.ts';

export type TokenState = 'starting' | 'ready' | 'restarting' | 'locked-out' | 'paused' | 'closing' | 'closed';

export interface SupervisorOptions extends Omit<StarterOptions, 'exited' | 'events'> {
  readonly stopTimeoutMs: number;
  /** How soon a token that is back is to serve again. */
  readonly recoveryMs: number;
  readonly dispatcher: Dispatcher;
  readonly events: TokenEvents;
}

const FIRST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 30_000; // for what waits for a person
const SOUND_AFTER_MS = 60_000; // ready for so long, a death starts a new count
const LOOP_DEATHS = 4; // deaths in a row from which on it is called a crash loop

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #starter: Starter;
  #state: TokenState = 'starting';
  #child: Child | undefined;
  #ready: Ready | undefined;
  #readyAt = 0;
  #restarts = 0;
  #deaths = 0;
  #failure: TokenStartError | undefined;
  #condemned: string | undefined;
  #isPaused = false;
  readonly #closing = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** The start that is under way. */
  #starting: Promise<void> | undefined;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#starter = new Starter({ ...options, exited: (child, exit) => this.#reportExit(child, exit, 0) });
  }

  get state(): TokenState {
    return this.#state;
  }
  /** Of the last start that succeeded. */
  get ready(): Ready | undefined {
    return this.#ready;
  }
  get restarts(): number {
    return this.#restarts;
  }
  /** Why the last start failed, while none has succeeded since. */
  get failure(): TokenStartError | undefined {
    return this.#failure;
  }
  get isCrashLooping(): boolean {
    return this.#deaths >= LOOP_DEATHS;
  }
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** The first start. Rejects with TokenStartError, and then nothing is running. */
  async start(): Promise<Ready> {
    try {
      await this.#startChild();
    } catch (thrown) {
      await this.#starter.close(0);
      this.#state = 'closed';
      throw thrown;
    }
    this.#running = this.#keepAlive();
    return this.#ready as Ready;
  }

  /** Kills the process, which comes back by itself. */
  condemn(reason: string): void {
    this.#condemned ??= reason;
    this.#child?.kill();
  }

  /** After the operator has put the right PIN in place. */
  unlock(): void {
    if (this.#state !== 'locked-out') return;
    this.#state = 'restarting';
    this.#deaths = 0; // what was waited for has come
    this.#running = this.#comeBack('unlocked').then((back) => (back ? this.#keepAlive() : undefined));
  }

  /** Ends the process, and starts none until `resume`. Resolves when there is none. */
  async pause(): Promise<void> {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    this.#isPaused = true;
    const { dispatcher, stopTimeoutMs } = this.#options;
    await this.#starting?.catch(() => {}); // a login under way has its session, and ends once it is through
    const child = this.#child;
    if (child === undefined || !this.#isPaused) return;
    dispatcher.hold();
    dispatcher.endSessions(); // what is in flight is answered
    await child.end(stopTimeoutMs);
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    if (this.#state !== 'paused') return; // it is still ending, and comes back by itself
    this.#state = 'restarting';
    this.#deaths = 0;
    this.#running = this.#comeBack('resumed').then((back) => (back ? this.#keepAlive() : undefined));
  }

  /** True where no process is to be started. */
  #staysPaused(): boolean {
    if (!this.#isPaused || this.#closing.signal.aborted) return false;
    this.#state = 'paused';
    this.#options.dispatcher.rejectWaiting(() => new AgentError('HSM_UNAVAILABLE'));
    return true;
  }

  /** Drains, logs out and ends the process; kills it where it does not end in time. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    const { dispatcher, stopTimeoutMs } = this.#options;
    const wasReady = this.#state === 'ready';
    this.#state = 'closing';
    this.#closing.abort();
    if (wasReady)
      await Promise.race([dispatcher.drain(), this.#child?.exited, sleep(stopTimeoutMs, undefined, { ref: false })]);
    dispatcher.rejectWaiting(() => new AgentError('SHUTTING_DOWN'));
    dispatcher.endSessions();
    await Promise.all([this.#child?.end(stopTimeoutMs), this.#starter.close(stopTimeoutMs)]);
    await this.#running;
    dispatcher.rejectWaiting(() => new AgentError('SHUTTING_DOWN')); // what was in a process that had to be killed
    this.#state = 'closed';
  }

  async #startChild(): Promise<void> {
    this.#starting = this.#startOnce();
    try {
      await this.#starting;
    } finally {
      this.#starting = undefined;
    }
  }

  async #startOnce(): Promise<void> {
    const { events, dispatcher } = this.#options;
    const startedAt = performance.now();
    const { child, ready } = await this.#starter.attempt();
    this.#child = child;
    this.#condemned = undefined;
    this.#ready = ready;
    this.#readyAt = performance.now();
    this.#failure = undefined;
    if (this.#state !== 'closing') this.#state = 'ready';
    const { label, model } = ready.identity;
    events.tokenReady({
      pid: child.pid,
      durationMs: this.#readyAt - startedAt,
      label,
      model,
      restarts: this.#restarts,
      lacks: lacking(ready.abilities),
    });
    const isUnwanted = this.#isPaused || this.#closing.signal.aborted; // since it began
    if (isUnwanted) void child.end(this.#options.stopTimeoutMs);
    else dispatcher.attach(child);
  }

  #reportExit(child: Child, exit: Exit, inFlight: number): void {
    const expected = this.#state === 'closing' || this.#isPaused;
    this.#options.events.tokenExited({ pid: child.pid, ...exit, expected, inFlight });
  }

  /** Runs while the agent does: waits for each death and comes back from it. */
  async #keepAlive(): Promise<void> {
    for (;;) {
      const child = this.#child;
      if (child === undefined) return;
      const exit = await child.exited;
      if (this.#state !== 'closing') this.#state = 'restarting';
      const how = exit.signal ?? `code ${exit.code}`;
      const why = this.#condemned ?? `the token process ended (${how})`;
      const lost = this.#options.dispatcher.detach(new Error(why));
      this.#reportExit(child, exit, lost);
      this.#child = undefined;
      if (this.#staysPaused()) return;
      if (performance.now() - this.#readyAt > SOUND_AFTER_MS) this.#deaths = 0;
      this.#deaths += 1;
      if (!(await this.#comeBack(why))) return;
    }
  }

  /** False where it is not to be tried again: closing, or the PIN was refused. */
  async #comeBack(why: string): Promise<boolean> {
    const { events, dispatcher } = this.#options;
    for (let reason = why, attempt = this.#deaths; ; attempt += 1) {
      if (this.#closing.signal.aborted || this.#staysPaused()) return false;
      const delayMs = this.#waitMs(attempt);
      events.tokenRestarting({ attempt, delayMs, reason });
      if (!this.#needsPerson) this.#starter.prepare();
      try {
        await sleep(delayMs, undefined, { signal: this.#closing.signal });
        if (this.#staysPaused()) return false;
        await this.#startChild();
        this.#restarts += 1;
        return true;
      } catch (thrown) {
        if (this.#closing.signal.aborted) return false;
        const failure =
          thrown instanceof TokenStartError ? thrown : new TokenStartError('token-failed', 'start failed', thrown);
        this.#failed(failure);
        dispatcher.rejectWaiting(() => new AgentError('HSM_UNAVAILABLE', { cause: failure }));
        if (locksOut(failure.reason)) return false;
        reason = failure.message;
      }
    }
  }

  #failed(failure: TokenStartError): void {
    this.#failure = failure;
    const event: { reason: StartReason; detail: string } = { reason: failure.reason, detail: failure.message };
    if (locksOut(failure.reason)) {
      this.#state = 'locked-out';
      this.#options.events.tokenLoginRefused(event);
    } else this.#options.events.tokenStartFailed(event);
  }

  get #needsPerson(): boolean {
    return this.#failure !== undefined && needsPerson(this.#failure.reason);
  }

  /** Doubling from the first wait, up to where a token that is back would be noticed too late. */
  #waitMs(attempt: number): number {
    const longest = this.#needsPerson ? LONGEST_WAIT_MS : this.#options.recoveryMs * RECOVERY_SHARE;
    return jittered(Math.min(longest, FIRST_WAIT_MS * 2 ** Math.max(0, attempt - 1)));
  }
}
