// Where the PIN of a token comes from: a file (a mounted secret, a systemd credential) or what a command writes.
// Invariant: the PIN is read anew each time into a buffer of its own, which its taker wipes; of a command nothing but the
// first line's bytes is kept, and what it writes to standard error reaches no log.
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, type FileHandle, mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkSecret, readOpenSecret, readSecret, SecretError } from './secret-file.ts';

export type PinSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'command'; readonly argv: readonly string[]; readonly timeoutMs: number };

/** How a command ended; its output is not part of it. */
export interface CommandEnded {
  readonly command: string;
  readonly durationMs: number;
  /** Undefined where it gave something that can be a PIN. */
  readonly problem: string | undefined;
  /** How much it wrote to standard error. */
  readonly stderrBytes: number;
}

const MAX_OUTPUT_BYTES = 64 * 1024; // at which the command is killed; a PIN is far shorter and is bounded by readSecret
const WATCH_MS = 20;
const OTHERS_WRITE = 0o022;
/** Kept from the command: what steers this process, and what would be loaded into it. */
const WITHHELD = /^(MORTISE_|PKCS11_|LISTEN_|NOTIFY_SOCKET$|NODE_|LD_)/;

export const describePin = (source: PinSource): string =>
  source.kind === 'file' ? source.path : `the command ${source.argv[0]}`;

/** Refuses a program that somebody else could exchange. Throws SecretError. */
const checkProgram = async (path: string): Promise<void> => {
  try {
    const { uid, mode } = await stat(path);
    if ((uid !== 0 && uid !== process.getuid?.()) || (mode & OTHERS_WRITE) !== 0) {
      throw new SecretError(`${path} can be changed by others than root and the agent's user`, 'chown and chmod it');
    }
    await access(path, constants.X_OK);
  } catch (cause) {
    if (cause instanceof SecretError) throw cause;
    throw new SecretError(`${path} is not a program that this user can run`, 'name a program by its path', cause);
  }
};

/** Checks that a PIN could be had, without having it; a command is not run. Throws SecretError. */
export const checkPin = (source: PinSource): Promise<void> =>
  source.kind === 'file' ? checkSecret(source.path) : checkProgram(source.argv[0] as string);

/** Memory that no path leads to. Not a pipe: Node copies what it reads from one, and copies of a PIN stay behind. */
const openUnnamed = async (): Promise<FileHandle> => {
  const place = await access('/dev/shm', constants.W_OK).then(() => '/dev/shm', tmpdir);
  const folder = await mkdtemp(join(place, 'mortise-pin-'));
  try {
    return await open(join(folder, 'output'), 'wx+', 0o600);
  } finally {
    await rm(folder, { recursive: true });
  }
};

const run = (
  { argv, timeoutMs }: Extract<PinSource, { kind: 'command' }>,
  environment: Readonly<Record<string, string | undefined>>,
  output: FileHandle,
): Promise<{ readonly problem: string | undefined; readonly stderrBytes: number }> => {
  const [program, ...args] = argv as [string, ...string[]];
  const env = Object.fromEntries(Object.entries(environment).filter(([name]) => !WITHHELD.test(name)));
  const child = spawn(program, args, { stdio: ['ignore', output.fd, 'pipe'], env, cwd: '/', detached: true });
  let killed: string | undefined;
  const kill = (why: string): void => {
    killed ??= why;
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL'); // with whatever it has started
    } catch {
      child.kill('SIGKILL'); // the group is gone already
    }
  };
  const timer = setTimeout(() => kill(`did not end within ${timeoutMs} ms`), timeoutMs);
  const watch = setInterval(() => {
    output.stat().then(
      ({ size }) => size > MAX_OUTPUT_BYTES && kill(`wrote more than ${MAX_OUTPUT_BYTES} bytes`),
      () => undefined, // it is being closed: the command has ended
    );
  }, WATCH_MS);
  let stderrBytes = 0;
  child.stderr?.on('data', (chunk: Buffer) => {
    stderrBytes += chunk.length;
    chunk.fill(0);
  });
  return new Promise((resolve) => {
    const end = (problem: string | undefined): void => {
      clearTimeout(timer);
      clearInterval(watch);
      child.stderr?.destroy(); // what it has started may hold it open
      resolve({ problem: killed ?? problem, stderrBytes });
    };
    child.once('error', ({ message }) => end(`cannot be started: ${message}`));
    child.once('exit', (code, signal) => {
      if (killed === undefined && code !== 0) kill(signal === null ? `ended with code ${code}` : `ended by ${signal}`);
      setImmediate(() => end(undefined)); // for the last of standard error
    });
  });
};

const runCommand = async (
  source: Extract<PinSource, { kind: 'command' }>,
  environment: Readonly<Record<string, string | undefined>>,
  ended: (event: CommandEnded) => void,
): Promise<Buffer> => {
  const command = source.argv[0] as string;
  await checkProgram(command);
  const startedAt = performance.now();
  const output = await openUnnamed();
  try {
    const { problem, stderrBytes } = await run(source, environment, output);
    ended({ command, durationMs: Math.round(performance.now() - startedAt), problem, stderrBytes });
    if (problem !== undefined) {
      throw new SecretError(`the PIN command ${command} ${problem}`, `run it by hand as the agent's user`);
    }
    return await readOpenSecret(output, `the output of ${command}`);
  } finally {
    const { size } = await output.stat();
    await output.write(Buffer.alloc(Math.min(size, MAX_OUTPUT_BYTES)), 0, undefined, 0);
    await output.close();
  }
};

/** The PIN, in a buffer that its taker wipes. Throws SecretError. */
export const readPin = (
  source: PinSource,
  options: {
    /** Of the agent; a command gets it without the agent's own variables. */
    readonly environment?: Readonly<Record<string, string | undefined>>;
    readonly ended?: (event: CommandEnded) => void;
  } = {},
): Promise<Buffer> =>
  source.kind === 'file'
    ? readSecret(source.path)
    : runCommand(source, options.environment ?? {}, options.ended ?? (() => undefined));
