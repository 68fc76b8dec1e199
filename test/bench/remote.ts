// A process of its own on the same cores, asked over IPC. Invariant: one question at a time; a process that ends before
// it has answered, or takes too long, fails the question rather than hang the run.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

interface Answer {
  readonly value?: unknown;
  readonly failure?: string;
}

/** Longer than any question of a run takes, the filling of a ledger of millions included. */
const WAIT_MS = 900_000;
const END_MS = 10_000;

export class Remote implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #name: string;

  /** `program`: a file of this folder that calls `answerQuestions`. */
  constructor(program: string, env: Readonly<Record<string, string>> = {}) {
    this.#name = program;
    this.#child = fork(join(import.meta.dirname, program), {
      serialization: 'advanced',
      env: { PATH: process.env['PATH'] ?? '', ...env },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  async ask<T>(question: object): Promise<T> {
    const end = new AbortController();
    if (!this.#child.connected) throw new Error(`${this.#name} has ended`);
    const answered = once(this.#child, 'message', { signal: end.signal });
    const ended = once(this.#child, 'exit', { signal: end.signal }).then(([code]) => {
      throw new Error(`${this.#name} ended with ${code} before it answered`);
    });
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error(`${this.#name} took too long to answer`)), WAIT_MS);
    try {
      this.#child.send(question);
      const [{ value, failure }] = (await Promise.race([answered, ended, late.promise])) as [Answer];
      if (failure !== undefined) throw new Error(`${this.#name}: ${failure}`);
      return value as T;
    } finally {
      clearTimeout(timer);
      end.abort();
      for (const rest of [answered, ended]) rest.catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    if (this.#child.connected) this.#child.disconnect();
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), END_MS);
    await gone;
    clearTimeout(kill);
  }
}

/** In the process itself: answers until its parent lets go of it. */
export const answerQuestions = (answer: (question: never) => unknown): void => {
  process.on('message', async (question) => {
    let result: Answer;
    try {
      result = { value: await answer(question as never) };
    } catch (thrown) {
      result = { failure: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) };
    }
    process.send?.(result);
  });
  process.on('disconnect', () => process.exit(0));
};
