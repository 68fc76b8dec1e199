import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type CommandEnded, checkPin, type PinSource, readPin } from '../../../agent/config/pin-source.ts';
import { SecretError } from '../../../agent/config/secret-file.ts';
import { processGone } from '../../support/agent.ts';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mortise-pin-source-'));
});
after(() => rm(folder, { recursive: true, force: true }));

let count = 0;
const program = async (script: string, mode = 0o700): Promise<string> => {
  count += 1;
  const path = join(folder, `program-${count}`);
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, mode);
  return path;
};
const command = async (script: string, args: readonly string[] = [], timeoutMs = 20_000): Promise<PinSource> => ({
  kind: 'command',
  argv: [await program(script), ...args],
  timeoutMs,
});

test('the PIN is what the command writes, without its newline, in a buffer that V8 does not move', async () => {
  const seen: CommandEnded[] = [];
  const source = await command(`printf '%s\\n' "$1"; echo noise >&2`, ['hunter 2']);
  const pin = await readPin(source, { ended: (event) => seen.push(event), environment: { PATH: '/usr/bin:/bin' } });
  assert.equal(pin.toString(), 'hunter 2');
  assert.ok(pin.buffer.byteLength > 64);
  assert.deepEqual([seen.length, seen[0]?.problem, seen[0]?.stderrBytes], [1, undefined, 6]);
  assert.ok(!JSON.stringify(seen).includes('noise') && !JSON.stringify(seen).includes('hunter'));
});

test('the command has the agent’s environment, but for what is the agent’s own or would be loaded', async () => {
  const source = await command('env');
  const environment = {
    PATH: '/usr/bin:/bin',
    VAULT_ADDR: 'https://vault',
    MORTISE_DATA_DIR: '/x',
    PKCS11_PIN_FILE: '/x',
    NODE_OPTIONS: '--x',
    LD_PRELOAD: '',
    NOTIFY_SOCKET: '/x',
  };
  const names = (await readPin(source, { environment }))
    .toString()
    .split('\n')
    .map((line) => line.split('=')[0]);
  assert.ok(names.includes('VAULT_ADDR') && names.includes('PATH'));
  assert.deepEqual(
    names.filter((name) => /^(MORTISE|PKCS11|NODE|LD|NOTIFY)/.test(name ?? '')),
    [],
  );
});

const refused = async (source: PinSource, reason: RegExp): Promise<void> => {
  await assert.rejects(readPin(source, { environment: { PATH: '/usr/bin:/bin' } }), (error: unknown) => {
    assert.ok(error instanceof SecretError, String(error));
    assert.match(error.message, reason);
    assert.ok(!`${error.message}${error.remedy}`.includes('hunter2'));
    return true;
  });
};

test('a command that fails, gives nothing, or gives too much is no source of a PIN', async () => {
  await refused(await command('echo hunter2; exit 3'), /ended with code 3/);
  await refused(await command('kill -9 $$'), /ended by SIGKILL/);
  await refused(await command('true'), /is empty/);
  await refused(await command('head -c 5000 /dev/zero'), /longer than 4096/);
  await refused(await command('yes hunter2'), /wrote more than 65536 bytes/);
});

test('a command that does not end in its time is killed with what it has started', async () => {
  const pids = join(folder, 'pids');
  await refused(await command('sleep 600 & echo $! > "$1"; wait', [pids], 500), /did not end within 500 ms/);
  await processGone(Number(await readFile(pids, 'utf8')));
});

test('a program that others can exchange is not run', async () => {
  const path = await program('echo hunter2');
  await chmod(path, 0o777);
  const source: PinSource = { kind: 'command', argv: [path], timeoutMs: 1000 };
  await refused(source, /can be changed by others/);
  await assert.rejects(checkPin(source), SecretError);
  await refused({ kind: 'command', argv: [join(folder, 'none')], timeoutMs: 1000 }, /is not a program/);
});

test('the output of the command is in no file that has a name, and in no descriptor afterwards', async () => {
  const before = await readdir('/proc/self/fd');
  const source = await command('readlink /proc/self/fd/1');
  assert.match((await readPin(source, { environment: { PATH: '/usr/bin:/bin' } })).toString(), /\(deleted\)$/);
  const open = (await readdir('/proc/self/fd')).map((fd) => {
    try {
      return readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').length;
    } catch {
      return 0;
    }
  });
  assert.ok(open.length <= before.length + 1, `${open.length} descriptors, ${before.length} before`);
  assert.deepEqual(
    (await readdir('/dev/shm')).filter((name) => name.startsWith('mortise-pin-')),
    [],
  );
});
