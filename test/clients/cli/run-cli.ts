// Runs the real CLI as a process and gathers what it says.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

export const CLI = join(import.meta.dirname, '../../../clients/cli/main.ts');

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly bytes: Buffer;
}

export const runCli = (
  args: readonly string[],
  options: { readonly env?: Record<string, string>; readonly input?: Uint8Array | string; readonly cwd?: string } = {},
): Promise<CliResult> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CLI, ...args], {
      cwd: options.cwd,
      // Nothing of the developer's own settings may reach the CLI.
      env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...options.env },
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      const bytes = Buffer.concat(out);
      resolve({ code, bytes, stdout: bytes.toString(), stderr: Buffer.concat(err).toString() });
    });
    child.stdin.on('error', () => undefined); // a CLI that refuses early does not read its input
    child.stdin.end(options.input ?? '');
  });

export const temporaryFolder = (t: Pick<TestContext, 'after'>): string => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-cli-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
};
