// Passphrases typed on a real pseudo-terminal, which Node cannot make: Python's pty module holds the other end.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openOfficerKeys } from '../../../proto/documents/officer-keys.ts';
import { CLI, temporaryFolder } from './run-cli.ts';

// Types each line when its prompt is there; prints all that the terminal showed, then the exit code.
const DRIVER = `
import json, os, pty, sys
turns = json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
shown = b""
while True:
    try:
        chunk = os.read(fd, 4096)
    except OSError:
        break
    if not chunk:
        break
    shown += chunk
    if turns and turns[0][0].encode() in shown:
        prompt, typed = turns.pop(0)
        shown = shown.replace(prompt.encode(), b"[asked] ", 1)
        os.write(fd, typed.encode("latin-1"))
_, status = os.waitpid(pid, 0)
print(json.dumps({"shown": shown.decode("utf-8", "replace"), "code": os.waitstatus_to_exitcode(status)}))
`;

const type = async (
  turns: readonly (readonly [prompt: string, typed: string])[],
  args: readonly string[],
): Promise<{ shown: string; code: number }> => {
  const child = spawn('python3', ['-c', DRIVER, JSON.stringify(turns), process.execPath, CLI, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'], TERM: 'dumb' },
  });
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  return JSON.parse(text) as { shown: string; code: number };
};

test('a passphrase is asked for twice, corrected while typing, and never shown', async (t) => {
  const dir = join(temporaryFolder(t), 'p');
  const turns = [
    ['New passphrase of alice: ', 'wrong\u0015s\u00c3\u00a9cr\u00c3\u00a8\u007f\u00c3\u00a9tx\u007f\r'],
    ['Once more: ', 's\u00c3\u00a9cr\u00c3\u00a9t\r'],
  ] as const;
  const { shown, code } = await type(turns, ['policy', 'init', '--dir', dir, '--officer', 'alice']);
  assert.equal(code, 0, shown);
  assert.doesNotMatch(shown, /s\u00e9cr|wrong/);
  const keys = await openOfficerKeys(
    Buffer.from('s\u00e9cr\u00e9t'),
    readFileSync(join(dir, 'officers/alice.keys.json')),
  );
  assert.equal(keys.name, 'alice');
});

test('two different passphrases are refused and nothing is written', async (t) => {
  const dir = join(temporaryFolder(t), 'p');
  const turns = [
    ['New passphrase of officer: ', 'hush-one\r'],
    ['Once more: ', 'hush-two\r'],
  ] as const;
  const { shown, code } = await type(turns, ['policy', 'init', '--dir', dir]);
  assert.equal(code, 2);
  assert.match(shown, /the two passphrases differ/);
  assert.doesNotMatch(shown, /hush/);
  assert.equal(existsSync(dir), false);
});

test('Ctrl-C at the prompt ends the program', async (t) => {
  const dir = join(temporaryFolder(t), 'p');
  const { shown, code } = await type([['New passphrase of officer: ', 'hush\u0003']], ['policy', 'init', '--dir', dir]);
  assert.equal(code, 1);
  assert.match(shown, /cancelled/);
  assert.equal(existsSync(dir), false);
});
