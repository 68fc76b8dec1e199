// The stage of the demo: numbered steps with what each proves, checked; commands shown as a person would type them.
import { execFile } from 'node:child_process';
import { isAbsolute, relative } from 'node:path';
import { CLI_PROGRAM } from './lab.ts';

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A step that did not prove its claim. */
export class NotProved extends Error {}

export const prove = (claim: boolean, message: string): void => {
  if (!claim) throw new NotProved(message);
};

export interface Screen {
  readonly isTTY: boolean;
  write(text: string): void;
}

export class Script {
  readonly #screen: Screen;
  readonly #env: Record<string, string>;
  readonly #cwd: string;
  #step = 0;

  constructor(options: { screen: Screen; cwd: string; env: Record<string, string> }) {
    this.#screen = options.screen;
    this.#cwd = options.cwd;
    this.#env = options.env;
  }

  get steps(): number {
    return this.#step;
  }

  heading(text: string): void {
    this.#screen.write(`${this.#paint('1', text)}\n`);
  }

  /** Runs a step; `act` throws, or answers with what it has proved. */
  async step(title: string, act: () => Promise<string>): Promise<void> {
    this.#step += 1;
    this.#screen.write(`\n${this.#paint('1', `${String(this.#step).padStart(2)}. ${title}`)}\n`);
    const proved = await act();
    this.#screen.write(`    ${this.#paint('32', 'proved:')} ${proved}\n`);
  }

  /** One line on what is seen. */
  see(text: string): void {
    for (const line of text.trimEnd().split('\n')) this.#screen.write(`    ${this.#paint('2', line)}\n`);
  }

  /** Runs the CLI with JSON output as `as`, whose token file is in the environment, and shows the command. */
  async mortise(
    given: readonly string[],
    expected: number,
    as?: { readonly tokenFile: string; readonly name: string },
  ): Promise<CommandResult> {
    const args = given.map((arg) => (isAbsolute(arg) ? relative(this.#cwd, arg) : arg));
    this.#screen.write(
      `    ${this.#paint('36', `${as === undefined ? '' : `${as.name} `}$ mortise ${args.join(' ')}`)}\n`,
    );
    const result = await this.#run([...args, '--output', 'json'], as?.tokenFile);
    if (result.code !== expected) {
      throw new NotProved(`exit code ${result.code} where ${expected} was expected\n${result.stdout}${result.stderr}`);
    }
    if (expected !== 0) this.see(`exit ${result.code}${reason(result)}`);
    return result;
  }

  #run(args: readonly string[], tokenFile: string | undefined): Promise<CommandResult> {
    const env = { ...this.#env, ...(tokenFile !== undefined && { MORTISE_TOKEN_FILE: tokenFile }) };
    const options = { cwd: this.#cwd, env, maxBuffer: 64 * 1024 * 1024 };
    return new Promise((resolve, reject) => {
      execFile(process.execPath, [CLI_PROGRAM, ...args], options, (error, stdout, stderr) => {
        if (error === null) resolve({ code: 0, stdout, stderr });
        else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr });
        else reject(error);
      });
    });
  }

  #paint(code: string, text: string): string {
    return this.#screen.isTTY ? `\u001b[${code}m${text}\u001b[0m` : text;
  }
}

/** Why a command ended as it did, in a few words of its JSON. */
const reason = ({ stdout, stderr }: CommandResult): string => {
  if (stderr.startsWith('{')) {
    const { error } = JSON.parse(stderr) as {
      error: { code: string; message: string; metadata?: Record<string, string> };
    };
    const rule = error.metadata?.['rule'];
    return `: ${error.code}: ${error.message}${rule === undefined ? '' : ` (rule ${rule})`}`;
  }
  const answer = JSON.parse(stdout) as { valid?: boolean; rule?: string; explanation?: string; intact?: boolean };
  if (answer.valid === false) return ': INVALID';
  if (answer.intact === false) return ': NOT intact';
  return answer.rule === undefined ? '' : `: ${answer.explanation} (rule ${answer.rule})`;
};

/** The JSON of an answer. */
export const answerOf = <T>(result: CommandResult): T => JSON.parse(result.stdout) as T;
/** The code of a refusal. */
export const codeOf = (result: CommandResult): string =>
  (JSON.parse(result.stderr) as { error: { code: string } }).error.code;
