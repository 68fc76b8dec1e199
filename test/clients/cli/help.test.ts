import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { EXIT_CODES } from '../../../clients/cli/exit-codes.ts';
import { buildProgram } from '../../../clients/cli/program.ts';
import { runCli } from './run-cli.ts';

const { stdin, stdout, stderr } = process;
const io = { stdin, stdout, stderr, env: {}, signal: new AbortController().signal };
const program = buildProgram({ io, finished: () => undefined });
type Command = typeof program;

interface Named {
  readonly path: readonly string[];
  readonly command: Command;
}
const walk = (command: Command, path: readonly string[] = []): readonly Named[] => [
  { path, command },
  ...command.commands.flatMap((child) => walk(child, [...path, child.name()])),
];
const all = walk(program);
const leaves = all.filter(({ command }) => command.commands.length === 0);
const documented = readFileSync(join(import.meta.dirname, '../../../docs/cli.md'), 'utf8');

test('the commands that users were promised exist', () => {
  const names = leaves.map(({ path }) => path.join(' ')).sort();
  assert.deepEqual(
    names,
    [
      ...[
        'create',
        'get',
        'list',
        'update',
        'rotate',
        'suspend',
        'resume',
        'revoke',
        'destroy',
        'restore',
        'public',
        'import',
        'import-key',
        'import-version',
      ].map((name) => `key ${name}`),
      'kek rotate',
      'inventory',
      ...['plan', 'run', 'status'].map((name) => `migrate ${name}`),
      ...['encrypt', 'decrypt', 'encrypt-to', 'mac', 'verify-mac', 'random', 'sign', 'verify', 'verify-with'],
      ...['encrypt-general', 're-encrypt', 'rewrap', 're-sign', 'data-key generate', 'data-key decrypt'],
      ...['whoami', 'status', 'explain', 'health', 'doctor', 'version'],
      ...['tail', 'show', 'checkpoint', 'verify', 'forward', 'query', 'export', 'logs', 'receipt'].map(
        (name) => `audit ${name}`,
      ),
      ...['receipt get', 'receipt verify'],
      ...['init', 'sign', 'verify', 'explain', 'rehearse', 'diff'].map((name) => `policy ${name}`),
      ...['publish', 'history', 'fetch'].map((name) => `policy ${name}`),
      ...['init', 'serve', 'enrol', 'status', 'first-admin', 'rebuild', 'pinned'].map((name) => `registry ${name}`),
      ...['set', 'list', 'forget'].map((name) => `registry token-sessions ${name}`),
      ...['tenant create', 'tenant list'],
      ...['host', 'admin'].flatMap((noun) => ['enrol', 'list', 'revoke'].map((name) => `${noun} ${name}`)),
    ].sort(),
  );
});

for (const { path, command } of all) {
  test(`mortise ${path.join(' ')} --help`, async () => {
    const { code, stdout: text, stderr: errors } = await runCli([...path, '--help']);
    assert.equal(code, 0);
    assert.equal(errors, '');
    assert.ok(text.startsWith(`Usage: ${['mortise', ...path].join(' ')}`), text);
    assert.ok(text.includes(command.description()));
    assert.ok(command.description().length > 8, 'says what it does');
    if (command.commands.length > 0) return;
    for (const option of ['--socket', '--token-file', '--output', '--timeout']) {
      assert.ok(text.includes(option), `${option} is missing`);
    }
  });
}

test('docs/cli.md has every command with every option, and no other', () => {
  const written = [...documented.matchAll(/^### `mortise ([a-z -]+?)(?: [[<].*)?`$/gm)].map((match) => match[1]);
  assert.deepEqual(written.sort(), leaves.map(({ path }) => path.join(' ')).sort());
  const sections = documented.split(/^#{2,3} /m);
  for (const { path, command } of leaves) {
    const section = sections.find((text) => new RegExp(`^\`mortise ${path.join(' ')}[ \`]`).test(text)) ?? '';
    const own = command.options.filter(
      ({ long }) => !['--socket', '--token-file', '--output', '--timeout'].includes(long ?? ''),
    );
    const mentioned = [...section.matchAll(/`(?:-\w, )?(--[a-z-]+)/g)].map((match) => match[1]);
    assert.deepEqual([...new Set(mentioned)].sort(), own.map(({ long }) => long).sort(), path.join(' '));
  }
});

test('docs/cli.md and --help have the table of exit codes', async () => {
  const { stdout: text } = await runCli(['--help']);
  for (const { code, meaning } of Object.values(EXIT_CODES)) {
    assert.ok(documented.includes(`| ${code} | ${meaning} |`), `${code} ${meaning}`);
    assert.ok(text.includes(`${code}  ${meaning}`));
  }
});

test('mistakes in arguments exit with 2, name the mistake and suggest', async () => {
  for (const [args, complaint] of [
    [['whoam'], /Did you mean whoami/],
    [['key', 'create', 'k'], /--purpose/],
    [['key', 'create', 'k', '--purpose', 'eat'], /choices.*encrypt/],
    [['encrypt', '--key', 'k', '--timeout', 'soon'], /500ms, 30s or 2m/],
    [['key', 'update', 'k'], /nothing to change/],
    [['key', 'update', 'k', '--label', 'x'], /NAME=VALUE/],
    [['random', 'many'], /whole number/],
    [['whoami', '--output', 'xml'], /choices.*json/],
    [['sign', '--key', 'k', '--digest', 'zz'], /hexadecimal/],
    [['sign', '--key', 'k', '--digest', 'ab'], /--form raw/],
    [['sign', '--key', 'k', '--context', 'ab'], /--context needs --form raw/],
    [['verify', '--context', 'ab'], /--context goes with --raw only/],
    [['verify', '--raw', '/dev/null'], /--message FILE or --digest HEX/],
    [['verify-mac', '--key', 'k'], /--mac FILE or --mac-text/],
    [['audit', 'verify', '--tenant', 'acme'], /--store/],
    [['whoami', '--token', 'secret'], /unknown option '--token'/],
  ] as const) {
    const { code, stderr: text, stdout: out } = await runCli(args);
    assert.equal(code, 2, `${args.join(' ')}: ${text}`);
    assert.match(text, complaint);
    assert.equal(out, '');
  }
});
