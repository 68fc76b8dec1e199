// The stage of the demo: numbered steps with what each proves, checked; commands shown as a person would type them.
import { execFile } from 'node:child_process';
import { isAbsolute, relative } from 'node:path';
import { AGENT_PROGRAM, CLI_PROGRAM } from './lab.ts';

// More than a slow disk needs; a command that hangs fails its step.
const COMMAND_SECONDS = 60;

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Who types a command, and in which surroundings. */
export interface Actor {
  readonly name: string;
  readonly tokenFile?: string;
  readonly env?: Readonly<Record<string, string>>;
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

  /** Runs the CLI with JSON output as `as` and shows the command, and why it failed where it was to fail. */
  async mortise(given: readonly string[], expected: number, as?: Actor): Promise<CommandResult> {
    this.show('mortise', given, as);
    const result = await this.quietly(given, as);
    this.#expect(result, expected);
    if (expected !== 0) this.see(`exit ${result.code}${reason(result)}`);
    return result;
  }

  /** The same, neither shown nor judged: for looking again and again. */
  quietly(given: readonly string[], as?: Actor): Promise<CommandResult> {
    const options = ['--output', 'json', '--timeout', `${COMMAND_SECONDS / 2}s`];
    const name = as?.tokenFile;
    const token = name === undefined ? {} : { MORTISE_TOKEN_FILE: name };
    const env = { ...this.#env, ...as?.env, ...token };
    return this.#run([CLI_PROGRAM, ...this.#near(given), ...options], env);
  }

  /** Runs the agent's program with nothing but the environment of `as`, and shows the command. */
  async agent(given: readonly string[], as: Actor): Promise<CommandResult> {
    this.show('agent', given, as);
    const { PATH = '', NODE_COMPILE_CACHE = '' } = this.#env;
    const result = await this.#run([AGENT_PROGRAM, ...given], { PATH, NODE_COMPILE_CACHE, ...as.env });
    this.#expect(result, 0);
    return result;
  }

  #near(args: readonly string[]): string[] {
    return args.map((arg) => (isAbsolute(arg) ? relative(this.#cwd, arg) : arg));
  }

  /** One command that is run, as a person would type it. */
  show(program: string, args: readonly string[], as?: Actor): void {
    const who = as === undefined ? '' : `${as.name} `;
    this.#screen.write(`    ${this.#paint('36', `${who}$ ${program} ${this.#near(args).join(' ')}`)}\n`);
  }

  #expect({ code, stdout, stderr }: CommandResult, expected: number): void {
    if (code === expected) return;
    throw new NotProved(`exit code ${code} where ${expected} was expected\n${stdout}${stderr}`);
  }

  #run(args: readonly string[], env: Record<string, string>): Promise<CommandResult> {
    const options = { cwd: this.#cwd, env, maxBuffer: 64 * 1024 * 1024, timeout: COMMAND_SECONDS * 1000 };
    return new Promise((resolve, reject) => {
      execFile(process.execPath, args, options, (error, stdout, stderr) => {
        if (error === null) resolve({ code: 0, stdout, stderr });
        else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr });
        else if (error.killed === true) reject(new NotProved(`no end after ${COMMAND_SECONDS} s: ${args.join(' ')}`));
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
