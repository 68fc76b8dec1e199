// Data of any size through the program: files, pipes, Ctrl-C, and what is left behind when it does not end well.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { progressText, withProgress } from '../../../clients/cli/progress.ts';
import { connect } from '../../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../../support/agent.ts';
import { runCli } from './run-cli.ts';

const MIB = 1024 * 1024;
const MAIN = join(import.meta.dirname, '../../../clients/cli/main.ts');
const folder = mkdtempSync(join(tmpdir(), 'mortise-cli-'));
const at = (name: string): string => join(folder, name);
let agent: RunningAgent;
let env: Record<string, string>;

before(async () => {
  agent = await startAgent();
  const token = agent.bearer('acme').slice('Bearer '.length);
  writeFileSync(at('token'), token, { mode: 0o600 });
  env = { MORTISE_SOCKET: agent.socket, MORTISE_TOKEN_FILE: at('token') };
  using client = connect({ socketPath: agent.socket, token });
  await client.keys.create({ keyId: 'vault', purpose: 'encrypt', algorithm: 'AES-256' });
  await client.keys.create({ keyId: 'second', purpose: 'encrypt', algorithm: 'AES-256' });
  await client.keys.create({ keyId: 'seal', purpose: 'sign', algorithm: 'EC-P256' });
  writeFileSync(at('large'), randomBytes(5 * MIB + 3));
  writeFileSync(at('small'), 'only a few bytes');
});
after(async () => {
  await agent?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const run = (args: readonly string[], input?: string | Buffer) =>
  runCli(args, { env, ...(input !== undefined && { input }) });
const isContainer = (name: string): boolean => readFileSync(at(name)).subarray(0, 4).toString('latin1') === 'MCE\u0001';
/** Files that a failure must not leave: the target and what is written beside it. */
const leftOf = (name: string): string[] => readdirSync(folder).filter((file) => file.includes(name));

test('a file above one call becomes a container, and comes back as it was', async () => {
  const sealed = await run(['encrypt', '--key', 'vault', at('large'), '--out', at('large.mce')]);
  assert.equal(sealed.code, 0, sealed.stderr);
  assert.ok(isContainer('large.mce'));
  const opened = await run(['decrypt', at('large.mce'), '--out', at('large.back')]);
  assert.equal(opened.code, 0, opened.stderr);
  assert.match(opened.stderr, /wrote .*large\.back \(vault version 1, A256GCMKW\)/);
  assert.ok(readFileSync(at('large.back')).equals(readFileSync(at('large'))));
  const again = await run(['decrypt', at('large.mce'), '--out', at('large.back')]);
  assert.equal(again.code, 2, 'an existing file is not replaced');
});

test('a small file stays a JWE, unless a stream is asked for', async () => {
  assert.equal((await run(['encrypt', '--key', 'vault', at('small'), '--out', at('small.jwe')])).code, 0);
  assert.ok(!isContainer('small.jwe'));
  const forced = await run(['encrypt', '--key', 'vault', '--stream', at('small'), '--out', at('small.mce')]);
  assert.equal(forced.code, 0, forced.stderr);
  assert.ok(isContainer('small.mce'));
  for (const name of ['small.jwe', 'small.mce']) {
    assert.equal((await run(['decrypt', at(name)])).stdout, 'only a few bytes');
  }
});

test('standard input of any size, with associated data', async () => {
  const args = ['--aad-file', at('small')];
  const sealed = await run(['encrypt', '--key', 'vault', ...args, '--out', at('piped.mce')], readFileSync(at('large')));
  assert.equal(sealed.code, 0, sealed.stderr);
  assert.ok(isContainer('piped.mce'));
  const opened = await run(['decrypt', ...args, '--out', at('piped')], readFileSync(at('piped.mce')));
  assert.equal(opened.code, 0, opened.stderr);
  assert.ok(readFileSync(at('piped')).equals(readFileSync(at('large'))));
  const wrong = await run(['decrypt', at('piped.mce'), '--out', at('unbound')]);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /INVALID_CIPHERTEXT/);
  assert.deepEqual(leftOf('unbound'), []);
});

test('a container that was cut leaves no file, and on standard output an exit code', async () => {
  await run(['encrypt', '--key', 'vault', at('large'), '--out', at('whole.mce')]);
  writeFileSync(at('cut.mce'), readFileSync(at('whole.mce')).subarray(0, 4 * MIB));
  const opened = await run(['decrypt', at('cut.mce'), '--out', at('partial')]);
  assert.equal(opened.code, 1);
  assert.deepEqual(leftOf('partial'), []);
  assert.equal((await run(['decrypt', at('cut.mce')])).code, 1);
});

test('large data is signed and verified in the forms that do not carry it', async () => {
  for (const form of ['jws-detached', 'jws-unencoded', 'raw']) {
    const signature = at(`large.${form}`);
    const signed = await run(['sign', '--key', 'seal', '--form', form, at('large'), '--out', signature]);
    assert.equal(signed.code, 0, signed.stderr);
    const raw = form === 'raw' ? ['--raw', '--key', 'seal'] : [];
    assert.equal((await run(['verify', signature, '--message', at('large'), ...raw])).code, 0);
    assert.equal((await run(['verify', signature, '--stream', '--message', at('small'), ...raw])).code, 4);
  }
  const compact = await run(['sign', '--key', 'seal', at('large'), '--out', at('no.jws')]);
  assert.equal(compact.code, 2);
  assert.match(compact.stderr, /jws-detached, jws-unencoded or raw/);
});

test('a signature over large data moves to another key, and a wrong one ends with 4 and leaves no file', async () => {
  await run(['sign', '--key', 'seal', '--form', 'jws-unencoded', at('large'), '--out', at('before.jws')]);
  const moved = await run(['re-sign', at('before.jws'), '--message', at('large'), '--out', at('after.jws')]);
  assert.equal(moved.code, 0, moved.stderr);
  assert.equal((await run(['verify', at('after.jws'), '--message', at('large')])).code, 0);
  writeFileSync(at('longer'), Buffer.concat([readFileSync(at('large')), Buffer.of(0)]));
  for (const [name, more] of [
    ['longer', []],
    ['small', ['--stream']],
  ] as const) {
    const wrong = await run(['re-sign', at('before.jws'), '--message', at(name), ...more, '--out', at('none.jws')]);
    assert.equal(wrong.code, 4, wrong.stderr);
  }
  assert.deepEqual(leftOf('none.jws'), []);
  assert.equal((await run(['re-sign', '-', '--message', '-'])).code, 2);
});

test('large data is verified by a public key in a file', async () => {
  const jwk = await run(['key', 'public', 'seal', '--out', at('seal.jwk')]);
  assert.equal(jwk.code, 0, jwk.stderr);
  await run(['sign', '--key', 'seal', '--form', 'jws-detached', at('large'), '--out', at('with.jws')]);
  const args = ['verify-with', at('with.jws'), '--jwk', at('seal.jwk'), '--message'];
  assert.equal((await run([...args, at('large')])).code, 0);
  assert.equal((await run([...args, at('small'), '--stream'])).code, 4);
});

test('a container of any size is moved to another key, and a failure leaves no file', async () => {
  await run(['encrypt', '--key', 'vault', at('large'), '--out', at('old.mce')]);
  const moved = await run(['re-encrypt', '--to', 'second', at('old.mce'), '--out', at('new.mce')]);
  assert.equal(moved.code, 0, moved.stderr);
  assert.match(moved.stderr, /wrote .*new\.mce \(second version 1/);
  const opened = await run(['decrypt', '--key', 'second', at('new.mce'), '--out', at('moved.back')]);
  assert.equal(opened.code, 0, opened.stderr);
  assert.ok(readFileSync(at('moved.back')).equals(readFileSync(at('large'))));
  writeFileSync(at('old-cut.mce'), readFileSync(at('old.mce')).subarray(0, 4 * MIB));
  const refused = await run(['re-encrypt', '--to', 'second', at('old-cut.mce'), '--out', at('half-moved')]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /INVALID_CIPHERTEXT/);
  assert.deepEqual(leftOf('half-moved'), []);
});

test('a range of a container is decrypted without the rest', async () => {
  await run(['encrypt', '--key', 'vault', at('large'), '--out', at('ranged.mce')]);
  const large = readFileSync(at('large'));
  const part = async (range: string): Promise<Buffer> => {
    const { code, stderr } = await run(['decrypt', '--range', range, at('ranged.mce'), '--out', at('part'), '--force']);
    assert.equal(code, 0, stderr);
    return readFileSync(at('part'));
  };
  assert.ok((await part('0-499')).equals(large.subarray(0, 500)));
  assert.ok((await part('3000000-3100000')).equals(large.subarray(3_000_000, 3_100_001)));
  assert.ok((await part(`${5 * MIB}-`)).equals(large.subarray(5 * MIB)));
  // Damage outside of the range does not matter to it, inside it leaves nothing.
  const damaged = Buffer.from(readFileSync(at('ranged.mce')));
  damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] as number) ^ 1;
  writeFileSync(at('ranged.mce'), damaged);
  assert.ok((await part('0-499')).equals(large.subarray(0, 500)));
  const refused = await run(['decrypt', '--range', '2000000-3000000', at('ranged.mce'), '--out', at('no-part')]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /INVALID_CIPHERTEXT/);
  assert.deepEqual(leftOf('no-part'), []);
  const behind = await run(['decrypt', '--range', `${5 * MIB + 4}-`, at('ranged.mce')]);
  assert.match(behind.stderr, /ends at 5242883/);
  for (const range of ['5-4', '-5', 'x', '1']) {
    assert.equal((await run(['decrypt', '--range', range, at('ranged.mce')])).code, 2, range);
  }
  assert.equal((await run(['decrypt', '--range', '0-4'])).code, 2);
});

test('a stream of bytes is not put into JSON', async () => {
  const refused = await run(['encrypt', '--key', 'vault', '--output', 'json', at('large')]);
  assert.equal(refused.code, 2);
  const written = await run(['encrypt', '--key', 'vault', '--output', 'json', at('large'), '--out', at('json.mce')]);
  assert.equal(JSON.parse(written.stdout).envelope.keyUsed.keyId, 'vault');
});

/** Decrypts from a pipe that never ends, until the first plaintext is in the file beside the target. */
const decryptHalf = async (target: string) => {
  const child = spawn(process.execPath, [MAIN, 'decrypt', '--out', at(target)], {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  // Listened for from the start: it may end before whoever killed its agent has seen the agent's end.
  const ended = once(child, 'exit').then(([code]) => code as number | null);
  child.stdin.on('error', () => undefined);
  child.stdin.write(readFileSync(at('whole.mce')).subarray(0, 3 * MIB));
  const beside = (): string | undefined => leftOf(target).find((name) => name.endsWith('.part'));
  for (;;) {
    const part = beside();
    if (part !== undefined && readFileSync(at(part)).length > 0) break;
    assert.equal(child.exitCode, null, 'it ended before the first plaintext');
    await new Promise(setImmediate);
  }
  return { child, ended };
};

test('Ctrl-C and SIGTERM half-way leave no plaintext file', async () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const { child, ended } = await decryptHalf('stopped');
    child.kill(signal);
    assert.notEqual(await ended, 0);
    assert.deepEqual(leftOf('stopped'), []);
  }
});

test('an agent that is killed half-way leaves no plaintext file', async () => {
  const { ended } = await decryptHalf('orphaned');
  await agent.end('SIGKILL');
  assert.equal(await ended, 5, 'unavailable');
  assert.deepEqual(leftOf('orphaned'), []);
  await agent.start();
});

test('the bar shows part, bytes, rate and time left, and nothing of it stays', async () => {
  assert.equal(
    progressText(3 * 1024 * MIB, 4 * 1024 * MIB, 10_000),
    '[##################......] 75 %  3.0 GiB of 4.0 GiB  307.2 MiB/s  0:04 left',
  );
  assert.equal(progressText(512, undefined, 1000), '512 B  512 B/s');
  assert.equal(progressText(0, 100, 0), '[........................] 0 %  0 B of 100 B  0 B/s');
  let shown = '';
  const stderr = { isTTY: true, write: (text: string) => (shown += text) };
  const pieces = async function* () {
    yield Buffer.alloc(10);
    yield Buffer.alloc(10);
  };
  for await (const _ of withProgress({ stderr } as never, pieces(), 20));
  assert.match(shown, /50 %/);
  assert.ok(shown.endsWith('\r\u001b[K'));
  assert.ok(existsSync(at('large')));
});
