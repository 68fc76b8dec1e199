// A process of its own on the same cores, asked over IPC. Invariant: one question at a time; a process that ends before
// it has answered fails the question rather than hang the run.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

interface Answer {
  readonly value?: unknown;
  readonly failure?: string;
}

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
    this.#child.send(question);
    const answered = once(this.#child, 'message', { signal: end.signal });
    const ended = once(this.#child, 'exit', { signal: end.signal }).then(([code]) => {
      throw new Error(`${this.#name} ended with ${code} before it answered`);
    });
    try {
      const [{ value, failure }] = (await Promise.race([answered, ended])) as [Answer];
      if (failure !== undefined) throw new Error(`${this.#name}: ${failure}`);
      return value as T;
    } finally {
      end.abort();
      for (const rest of [answered, ended]) rest.catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.disconnect();
    await gone;
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
