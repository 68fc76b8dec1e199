// One worker thread, started when it is first needed. Invariant: a task whose call has ended is over too, because its
// thread is terminated; the next task starts another.
import { Worker } from 'node:worker_threads';
import type { Clock } from '../../clock.ts';
import { AgentError } from '../../errors.ts';
import type { SlowAnswer, SlowTask } from './tasks.ts';

/** How a call is queued and bounded. */
export interface SlowCall {
  /** The queue it waits in; queues are served fairly. */
  readonly tenant: string;
  readonly deadline: number;
  readonly signal: AbortSignal;
}

const BODY = new URL('./worker.ts', import.meta.url);
const MAX_TIMER_MS = 2 ** 31 - 1;

const startThread = (): Worker =>
  // No environment, no arguments, no standard input: it needs none of them.
  new Worker(BODY, { env: {}, argv: [], execArgv: [], stdin: false, name: 'post-quantum' });

const buffersOf = (task: SlowTask): ArrayBuffer[] =>
  Object.values(task).flatMap((value) => (typeof value === 'string' ? [] : [value.buffer]));

/** Calls `end` when the call ends; gives back how to stop watching it. */
export const watchCall = (
  call: SlowCall,
  clock: Clock,
  end: (code: 'CANCELLED' | 'DEADLINE_EXCEEDED') => void,
): (() => void) => {
  const cancel = (): void => end('CANCELLED');
  const left = Math.min(Math.max(call.deadline - clock.now(), 0), MAX_TIMER_MS);
  const timer = setTimeout(() => end('DEADLINE_EXCEEDED'), left);
  call.signal.addEventListener('abort', cancel, { once: true });
  return () => {
    clearTimeout(timer);
    call.signal.removeEventListener('abort', cancel);
  };
};

export class SlowWorker {
  readonly #clock: Clock;
  #thread: Worker | undefined;
  #stop: ((error: AgentError) => void) | undefined;

  constructor({ clock }: { readonly clock: Clock }) {
    this.#clock = clock;
  }

  /** Runs a task, whose buffers are handed over. One at a time. */
  ask(task: SlowTask, call: SlowCall): Promise<Uint8Array<ArrayBuffer>> {
    this.#thread ??= startThread();
    const thread = this.#thread;
    return new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        unwatch();
        thread.off('message', answered).off('error', lost).off('exit', lost);
        thread.unref();
        this.#stop = undefined;
        act();
      };
      const stop = (error: AgentError): void =>
        settle(() => {
          this.#thread = undefined;
          thread.on('error', () => undefined); // of a thread that nobody waits for any more
          thread.terminate().then(
            () => reject(error),
            () => reject(error),
          );
        });
      const lost = (cause: unknown): void =>
        stop(new AgentError('INTERNAL', { cause: new Error('the worker thread ended', { cause }) }));
      const unwatch = watchCall(call, this.#clock, (code) => stop(new AgentError(code)));
      this.#stop = stop;
      const answered = (answer: SlowAnswer): void =>
        settle(() => {
          if ('bytes' in answer) resolve(answer.bytes);
          else reject(new AgentError('INTERNAL', { cause: new Error(answer.fault) }));
        });
      thread.on('message', answered).on('error', lost).on('exit', lost);
      thread.ref();
      thread.postMessage(task, buffersOf(task));
    });
  }

  /** Ends the thread; a task under way fails. */
  async close(): Promise<void> {
    const thread = this.#thread;
    if (this.#stop !== undefined) this.#stop(new AgentError('SHUTTING_DOWN'));
    this.#thread = undefined;
    await thread?.terminate();
  }
}
