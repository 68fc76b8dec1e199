// The process of a client's runner: one line out, one line back, in order.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** How to start the runner of a client. */
export interface RunnerProgram {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
}

export type Reply = { readonly answer: unknown } | { readonly error: Readonly<Record<string, unknown>> };

const PATIENCE_MS = 30_000;

export class Runner implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #ended: Promise<void>;
  #waiting: ((line: string | Error) => void) | undefined;
  #stderr = '';

  constructor(program: RunnerProgram, env: Readonly<Record<string, string>>) {
    this.#process = spawn(program.command, program.args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...env } });
    this.#ended = new Promise((resolve) => {
      this.#process.once('close', () => {
        this.#waiting?.(new Error(`the runner ${program.name} ended:\n${this.#stderr}`));
        resolve();
      });
    });
    this.#process.on('error', (error) => this.#waiting?.(error));
    this.#process.stdin?.on('error', () => undefined); // of a runner that has died: `close` says so
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    createInterface({ input: this.#process.stdout as NodeJS.ReadableStream }).on('line', (line) =>
      this.#waiting?.(line),
    );
  }

  /** Sends one line and gives the answer to it. */
  async ask(line: object): Promise<Reply> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const timer = setTimeout(
      () => reject(new Error(`the runner did not answer ${JSON.stringify(line).slice(0, 200)}\n${this.#stderr}`)),
      PATIENCE_MS,
    );
    this.#waiting = (got) => (got instanceof Error ? reject(got) : resolve(got));
    try {
      if (this.#process.exitCode !== null) throw new Error(`the runner has ended:\n${this.#stderr}`);
      this.#process.stdin?.write(`${JSON.stringify(line)}\n`);
      return JSON.parse(await promise) as Reply;
    } finally {
      clearTimeout(timer);
      this.#waiting = undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin?.end();
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), PATIENCE_MS);
    await this.#ended;
    clearTimeout(timer);
  }
}
