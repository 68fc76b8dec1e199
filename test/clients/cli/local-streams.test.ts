// Chunks that `mortise` makes and opens itself, with the key of one container: where it does, where the agent does, and
// that what does not end well leaves no file.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../../support/agent.ts';
import { CLI, runCli } from './run-cli.ts';

const MIB = 1024 * 1024;
const PATIENCE_MS = 30_000;
const folder = mkdtempSync(join(tmpdir(), 'mortise-cli-'));
const at = (name: string): string => join(folder, name);
let agent: RunningAgent;

const envOf = (tenant: string) => ({ MORTISE_SOCKET: agent.socket, MORTISE_TOKEN_FILE: at(tenant) });
/** Policy lets keys of streams out to acme, and not to globex. */
const run = (tenant: 'acme' | 'globex', ...args: string[]) => runCli(args, { env: envOf(tenant) });
/** Files that a failure must not leave: the target and what is written beside it. */
const leftOf = (name: string): string[] => readdirSync(folder).filter((file) => file.includes(name));

before(async () => {
  agent = await startAgent({
    platform: { streams: { localKeys: true } },
    tenantPolicies: { globex: { streams: { localKeys: false } } },
  });
  for (const tenant of ['acme', 'globex']) {
    const token = agent.bearer(tenant).slice('Bearer '.length);
    writeFileSync(at(tenant), token, { mode: 0o600 });
    using client = connect({ socketPath: agent.socket, token });
    await client.keys.create({ keyId: 'vault', purpose: 'encrypt', algorithm: 'AES-256' });
  }
  writeFileSync(at('large'), randomBytes(5 * MIB + 3));
  writeFileSync(at('small'), 'only a few bytes');
});
after(async () => {
  await agent?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test('chunks are made and opened here where policy lets the key out, and by the agent elsewhere', async () => {
  for (const [tenant, isLocal] of [
    ['acme', true],
    ['globex', false],
  ] as const) {
    const said = isLocal ? /\(vault version 1, A256GCMKW, local\)/ : /\(vault version 1, A256GCMKW\)/;
    const [sealed, back] = [`${tenant}.mce`, `${tenant}.back`];
    assert.match((await run(tenant, 'encrypt', '--key', 'vault', at('large'), '--out', at(sealed))).stderr, said);
    assert.match((await run(tenant, 'decrypt', at(sealed), '--out', at(back))).stderr, said);
    assert.ok(readFileSync(at(back)).equals(readFileSync(at('large'))));
    const byAgent = await run(tenant, 'decrypt', '--local', 'never', '--force', at(sealed), '--out', at(back));
    assert.match(byAgent.stderr, /A256GCMKW\)/);
    assert.ok(readFileSync(at(back)).equals(readFileSync(at('large'))));
  }
});

test('what can be done by the agent alone is refused where this process was to do it', async () => {
  const refused = await run(
    'globex',
    'encrypt',
    '--key',
    'vault',
    '--local',
    'always',
    at('small'),
    '--out',
    at('kept'),
  );
  assert.equal(refused.code, 3, refused.stderr);
  assert.match(refused.stderr, /POLICY_DENIED/);
  assert.deepEqual(leftOf('kept'), []);
  assert.equal((await run('acme', 'encrypt', '--key', 'vault', at('small'), '--out', at('small.jwe'))).code, 0);
  const always = ['encrypt', '--key', 'vault', '--local', 'always', at('small'), '--out', at('small.mce')];
  assert.equal((await run('acme', ...always)).code, 0, 'a small file becomes a container');
  assert.equal((await run('acme', 'decrypt', at('small.mce'))).stdout, 'only a few bytes');
  for (const [about, ...args] of [
    [/a range is decrypted by the agent/, '--range', '0-9', at('small.mce')],
    [/a JWE is decrypted by the agent/, at('small.jwe')],
  ] as const) {
    const wrong = await run('acme', 'decrypt', '--local', 'always', ...args);
    assert.deepEqual([wrong.code, about.test(wrong.stderr)], [2, true], wrong.stderr);
  }
});

test('a container that was cut leaves no file, and on standard output an exit code', async () => {
  assert.equal((await run('acme', 'encrypt', '--key', 'vault', at('large'), '--out', at('whole.mce'))).code, 0);
  writeFileSync(at('cut.mce'), readFileSync(at('whole.mce')).subarray(0, -1));
  const cut = await run('acme', 'decrypt', '--local', 'always', at('cut.mce'), '--out', at('cut.back'));
  assert.equal(cut.code, 1);
  assert.match(cut.stderr, /INVALID_CIPHERTEXT/);
  assert.deepEqual(leftOf('cut.back'), []);
  assert.equal((await run('acme', 'decrypt', '--local', 'always', at('cut.mce'))).code, 1);
});

test('Ctrl-C half-way through leaves no plaintext file', async () => {
  assert.equal((await run('acme', 'encrypt', '--key', 'vault', at('large'), '--out', at('half.mce'))).code, 0);
  const args = [CLI, 'decrypt', '--local', 'always', '--out', at('stopped')];
  const env = { PATH: process.env['PATH'], ...envOf('acme') };
  const child = spawn(process.execPath, args, { env, stdio: ['pipe', 'ignore', 'inherit'] });
  const ended = once(child, 'exit', { signal: AbortSignal.timeout(PATIENCE_MS) });
  child.stdin?.on('error', () => undefined); // it is gone before it has read all
  child.stdin?.write(readFileSync(at('half.mce')).subarray(0, 3 * MIB));
  const isBegun = (): boolean =>
    leftOf('stopped').some((name) => name.endsWith('.part') && readFileSync(at(name)).length > 0);
  for (const until = Date.now() + PATIENCE_MS; !isBegun(); await sleep(5)) {
    assert.equal(child.exitCode, null, 'it ended before the first plaintext');
    assert.ok(Date.now() < until, 'no plaintext was written in 30 s');
  }
  child.kill('SIGINT');
  const [code] = await ended;
  assert.notEqual(code, 0);
  assert.deepEqual(leftOf('stopped'), []);
});
