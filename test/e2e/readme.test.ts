// The README's tour: every command of it is run in its order in a laboratory, and what it prints is compared with what
// the README shows; "…" stands for anything, a run of blanks for any other. The snippets of TypeScript and
// Python run too.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '../..');
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

interface Step {
  readonly command: string;
  readonly output: readonly string[];
}

const blocks = (language: string): string[] =>
  [...README.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(
    (match) => match[1] as string,
  );

const stepsOf = (block: string): Step[] =>
  block
    .split(/^\$ /m)
    .slice(1)
    .map((text) => {
      const [command = '', ...output] = text.trimEnd().split('\n');
      return { command, output };
    });

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
/** A line of "…" alone stands for any lines; within a line it stands for any characters. */
const patternOf = (output: readonly string[]): RegExp =>
  new RegExp(
    `^${output.map((line) => (line === '…' ? '(?:.*\\n)*' : `${line.replaceAll(/ {2,}/g, '  ').split('…').map(escaped).join('.*')}\\n`)).join('')}$`,
  );

const startLab = async (folder: string): Promise<ChildProcess> => {
  const env = { ...process.env, MORTISE_LAB_DIR: folder };
  const child = spawn(process.execPath, [join(ROOT, 'test/lab/start.ts')], {
    cwd: ROOT,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the laboratory ended with ${code}`)));
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      printed += chunk;
      if (printed.includes('Ctrl-C stops the agent')) resolve();
    });
  });
  return child;
};

test('the tour of the README runs and prints what the README shows', { timeout: 120_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-readme-'));
  const lab = join(folder, 'lab');
  const child = await startLab(lab);
  t.after(async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  const steps = blocks('console').flatMap(stepsOf);
  assert.ok(steps.length >= 15, `the README has only ${steps.length} commands`);
  const inLab = (command: string): string =>
    command
      .replaceAll('$PWD/.mortise/lab', lab)
      .replaceAll('.mortise/lab', lab)
      .replaceAll('npm run -s mortise --', `"${process.execPath}" clients/cli/main.ts`);
  const marker = '@@step@@';
  const script = steps.map((step) => `${inLab(step.command)} 2>&1\necho "${marker}"`).join('\n');
  const { stdout } = spawnSync('bash', ['-c', script], { cwd: ROOT, encoding: 'utf8' });
  const shown = stdout.split(`${marker}\n`);
  assert.equal(shown.length, steps.length + 1, stdout);
  for (const [at, { command, output }] of steps.entries()) {
    const printed = (shown[at] as string)
      .replaceAll(lab, '.mortise/lab')
      .replaceAll(/ {2,}/g, '  ')
      .replaceAll(/ +$/gm, '');
    assert.match(printed, patternOf(output), `$ ${command}\n${printed}`);
  }

  const [snippet = ''] = blocks('ts');
  assert.ok(snippet.includes('@mortise/client'), 'the README has no TypeScript snippet');
  const program = join(folder, 'snippet.mts');
  writeFileSync(program, snippet.replace("'@mortise/client'", `'${join(ROOT, 'clients/typescript/index.ts')}'`));
  const env = {
    ...process.env,
    MORTISE_SOCKET: join(lab, 'run/agent.sock'),
    MORTISE_TOKEN_FILE: join(lab, 'tokens/acme-app.jwt'),
  };
  const ran = spawnSync(process.execPath, [program], { cwd: ROOT, env, encoding: 'utf8' });
  assert.equal(ran.stdout, 'iron, 40 t 2 A256GCMKW\n', ran.stderr);

  const [python = ''] = blocks('python');
  assert.ok(python.includes('mortise.Client'), 'the README has no Python snippet');
  const path = { PYTHONPATH: join(ROOT, 'clients/python'), PYTHONDONTWRITEBYTECODE: '1' };
  const snake = spawnSync('/usr/bin/python3', ['-c', python], { env: { ...env, ...path }, encoding: 'utf8' });
  assert.equal(snake.stdout, 'iron, 40 t A256GCMKW\n', snake.stderr);
});

test('the commands that the README names are scripts of the package', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const named = [...README.matchAll(/`npm (?:run )?(?:-s )?([a-z:]+)/g)].map((match) => match[1] as string);
  assert.ok(named.length >= 4, `saw only ${named}`);
  assert.deepEqual(
    named.filter((name) => scripts[name] === undefined),
    [],
  );
});
