// The demo and the laboratory as a stranger runs them, without a terminal.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '../..');
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

const run = (script: string, env: Record<string, string>): ChildProcess =>
  spawn(process.execPath, [join(ROOT, 'test/lab', script)], { cwd: ROOT, env: { ...process.env, ...env } });

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve, reject) => child.once('exit', resolve).once('error', reject));

const gather = (child: ChildProcess): { text: string } => {
  const all = { text: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      all.text += chunk;
    });
  }
  return all;
};

test('the demo proves every step, and writes plain text where there is no terminal', {
  timeout: 200_000,
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-demo-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const child = run('demo.ts', { MORTISE_DEMO_DIR: folder });
  const all = gather(child);
  assert.equal(await ended(child), 0, all.text);
  const steps = all.text.match(/^ ?\d+\. /gm)?.length ?? 0;
  const proved = all.text.match(/^ {4}proved: /gm)?.length ?? 0;
  assert.equal(steps, Number(/the main job in (\d+) steps/.exec(README)?.[1]), 'as many as the README says');
  assert.equal(proved, steps, all.text);
  assert.match(all.text, new RegExp(`All ${steps} steps proved`));
  assert.match(all.text, /RECORD_EDITED at position \d+/);
  for (const host of ['host-a', 'host-b']) {
    assert.match(all.text, new RegExp(`in force on ${host} -?\\d+ ms after its publication`));
    assert.match(all.text, new RegExp(`${host}/acme/\\d+: (\\d+) records, proven up to \\1\n`));
  }
  assert.ok(!all.text.includes('\u001b'), 'no colours');
});

/** Processes that were started with this folder in their environment. */
const processesOf = (folder: string): string[] =>
  readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/environ`, 'latin1').includes(folder);
    } catch {
      return false; // it has ended, or is somebody else's
    }
  });

test('a demo that is interrupted leaves no process behind', { timeout: 120_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-demo-cut-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const child = run('demo.ts', { MORTISE_DEMO_DIR: folder });
  const end = ended(child);
  const all = gather(child);
  const serves = new Promise<void>((resolve) => {
    child.stdout?.on('data', () => all.text.includes('the agent serves') && resolve());
  });
  await Promise.race([serves, end]);
  assert.ok(processesOf(folder).length > 2, 'demo, agent and token process');
  child.kill('SIGTERM');
  assert.equal(await end, 130, all.text);
  const deadline = Date.now() + 30_000;
  while (processesOf(folder).length > 0) {
    assert.ok(Date.now() < deadline, `still there after 30 s: ${processesOf(folder)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

test('npm start: the instructions work as printed, and Ctrl-C stops the agent', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-start-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const child = run('start.ts', { MORTISE_LAB_DIR: folder });
  const end = ended(child);
  t.after(async () => {
    child.kill('SIGTERM');
    await end;
  });
  const all = gather(child);
  const printed = new Promise<void>((resolve) => {
    child.stdout?.on('data', () => all.text.includes('Ctrl-C stops the agent') && resolve());
  });
  await Promise.race([printed, end]);
  const hasCurl = spawnSync('curl', ['--version']).status === 0; // set-up does not install it
  const commands = [...all.text.matchAll(/^ {2}((?:export|unset|npm|curl) .*)$/gm)]
    .map((match) => match[1] as string)
    .filter((line) => !line.includes(' -f')) // follows until Ctrl-C
    .filter((line) => !line.startsWith('curl') || hasCurl)
    .map((line) => line.replace('npm run -s mortise --', `${process.execPath} clients/cli/main.ts`));
  assert.ok(commands.length >= 12, all.text);
  // Refusals are among them: every command's exit code counts for itself.
  const shell = spawn(
    'bash',
    ['-c', ['set -o pipefail', ...commands.map((line) => `${line}\necho "exit=$?"`)].join('\n')],
    { cwd: ROOT },
  );
  const said = gather(shell);
  await ended(shell);
  const codes = [...said.text.matchAll(/^exit=(\d+)$/gm)].map((match) => Number(match[1]));
  assert.equal(codes.length, commands.length);
  for (const [at, command] of commands.entries()) {
    const expected = command.includes('# refused') ? 3 : 0;
    assert.equal(codes[at], expected, `${command}\n${said.text}`);
  }
  assert.equal(said.text.includes('mortise_operations_total'), hasCurl);
  child.kill('SIGINT');
  assert.equal(await end, 0, all.text);
});
