// Runs a program of another project on files in a temporary folder. A program that is not there fails the test with
// the words that help, for the set-up installs it.
import { execFile } from 'node:child_process';
import { access, constants, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const RUN_MS = 60_000;

/** Fails where the program is missing. */
export const requireProgram = async (path: string, debianPackage: string): Promise<void> => {
  try {
    await access(path, constants.X_OK);
  } catch (cause) {
    throw new Error(`${path} is missing: run "npm test", which installs the Debian package ${debianPackage}`, {
      cause,
    });
  }
};

export interface ToolRun {
  readonly exitCode: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Runs with `files` in a folder of its own, which is the working directory; `output` is a file to read back. */
export const runTool = async (
  program: string,
  args: readonly string[],
  files: Readonly<Record<string, string | Buffer>> = {},
  output?: string,
): Promise<ToolRun> => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-interop-'));
  try {
    for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content, { mode: 0o600 });
    const options = { cwd: folder, encoding: 'buffer', timeout: RUN_MS, env: { PATH: '/usr/bin:/bin' } } as const;
    const { stdout, stderr } = await promisify(execFile)(program, args, options);
    const read = output === undefined ? stdout : await readFile(join(folder, output));
    return { exitCode: 0, stdout: read, stderr: stderr.toString() };
  } catch (thrown) {
    const failed = thrown as { code?: unknown; stdout?: Buffer; stderr?: Buffer };
    if (typeof failed.code !== 'number') throw thrown; // not started, or killed
    return { exitCode: failed.code, stdout: failed.stdout ?? Buffer.alloc(0), stderr: String(failed.stderr) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

/** The output of a run that has to succeed. */
export const outputOf = async (run: Promise<ToolRun>): Promise<Buffer> => {
  const { exitCode, stdout, stderr } = await run;
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}: ${stderr}`);
  return stdout;
};
