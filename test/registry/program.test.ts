// The registry and its command line as real processes: from nothing to a host list.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, type TestContext, test } from 'node:test';
import { runCli } from '../clients/cli/run-cli.ts';
import { temporaryFolder } from '../support/folder.ts';
import { makePolicyFolder } from '../support/policy.ts';
import { enrolWith } from '../support/registry-client.ts';

const MAIN = join(import.meta.dirname, '../../registry/main.ts');
const WAIT_MS = 30_000;
// Two dozen short processes: what the first ones compiled the others take from here.
const COMPILED = mkdtempSync(join(tmpdir(), 'mortise-compiled-'));
after(() => rmSync(COMPILED, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly text: string;
}

const runRegistry = (args: readonly string[], env: Record<string, string>): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], { env, timeout: WAIT_MS });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, text }));
  });

/** A serving registry; its port is in its log. */
const serve = async (t: TestContext, env: Record<string, string>) => {
  const child: ChildProcess = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit', { signal: AbortSignal.timeout(4 * WAIT_MS) });
  exited.catch(() => undefined); // whoever needs it awaits it
  t.after(() => child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout as NonNullable<typeof child.stdout> });
  const port = await new Promise<number>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('the registry did not listen in 30 s')), WAIT_MS);
    child.once('exit', (code) => reject(new Error(`the registry ended with ${code}`)));
    lines.on('line', (line) => {
      const { msg, address } = JSON.parse(line);
      if (msg !== 'registry is READY') return;
      clearTimeout(late);
      resolve(Number(address.split(':').at(-1)));
    });
  });
  const stop = async (): Promise<number | null> => {
    child.kill('SIGTERM');
    const [code] = await exited;
    return code;
  };
  return { port, stop };
};

const setUp = async (t: TestContext) => {
  const dir = temporaryFolder(t);
  const policies = await makePolicyFolder();
  t.after(() => policies.remove());
  const env = {
    PATH: process.env['PATH'] ?? '',
    NODE_COMPILE_CACHE: COMPILED,
    REGISTRY_LISTEN_ADDRESS: '127.0.0.1:0',
    REGISTRY_AUTHORITY_DIR: join(dir, 'authority'),
    REGISTRY_DATA_DIR: join(dir, 'data'),
    REGISTRY_STORE_MAP_SIZE: String(64 * 1024 * 1024),
    REGISTRY_ALLOW_ROOT: 'yes',
  };
  const anchor = join(policies.dir, 'trust-anchor.json');
  return { dir, policies, env, anchor };
};

test('a registry is made, serves, and takes a tenant, a host and a policy by the command line', async (t) => {
  const { dir, policies, env, anchor } = await setUp(t);
  const token = join(dir, 'admin.token');
  const cli = async (...args: string[]) => {
    const result = await runCli(args, { env: { ...env, MORTISE_ADMIN_DIR: join(dir, 'admin') } });
    assert.equal(result.code, 0, `${args.join(' ')}: ${result.stderr}${result.stdout}`);
    return result.stdout;
  };
  const made = ['--trust-domain', 'registry.test', '--trust-anchor', anchor, '--token-out', token];
  assert.match(await cli('registry', 'init', ...made), /root certificate SHA-256 [0-9a-f]{64}/);
  await cli('registry', 'init', ...made, '--unless-made');
  assert.equal(statSync(token).mode & 0o777, 0o600);
  const { port, stop } = await serve(t, env);
  const registry = ['--registry', `localhost:${port}`];
  assert.match(await cli('registry', 'enrol', ...registry, '--enrolment-token', token), /administrator +root/);
  assert.equal(statSync(join(dir, 'admin/admin.json')).mode & 0o777, 0o600);
  const status = await cli('registry', 'status');
  assert.match(status, /store +lmdb/);
  await cli('registry', 'pinned', '--out', dir);
  const cosigner = readFileSync(join(dir, 'cosigner.txt'), 'utf8').trim();
  assert.ok(cosigner.length > 0 && status.includes(cosigner), 'the registry countersigns by the pinned key');
  assert.deepEqual(readFileSync(join(dir, 'trust-anchor.json')), readFileSync(anchor));
  assert.equal(JSON.parse(readFileSync(join(dir, 'sealing.jwk.json'), 'utf8')).kty, 'EC');
  const sessions = (...args: string[]) => cli('registry', 'token-sessions', ...args);
  assert.match(await sessions('list'), /no token has a budget/);
  assert.match(
    await sessions('set', 'hsm', '--serial', '4711', '--total', '64'),
    /hsm \(4711\): 64 sessions, 2 in reserve/,
  );
  assert.match(await sessions('list'), /leases of 60 s\nHOST +TOKEN +SHARE/);
  assert.match(await sessions('set', 'hsm', '--serial', '4711', '--total', '0'), /no budget any more/);
  await cli('tenant', 'create', 'acme', '--display-name', 'Acme');
  assert.match(await cli('tenant', 'list'), /acme +Acme/);
  assert.match(await cli('policy', 'publish', join(policies.dir, 'platform.json')), /published _platform version 1/);
  assert.match(await cli('policy', 'history'), /1 .*root .*officer-1/);
  assert.equal(await cli('policy', 'diff', 'registry:', join(policies.dir, 'platform.json')), 'no difference\n');
  assert.equal(await cli('policy', 'fetch'), readFileSync(join(policies.dir, 'platform.json'), 'utf8'));
  await policies.publishPlatform({ rateLimits: { operationsPerSecond: 7, burst: 9 } });
  await cli('policy', 'publish', join(policies.dir, 'platform.json'));
  for (const shown of [
    await cli('policy', 'diff', 'registry:@1', 'registry:'),
    await cli('policy', 'history', '--diff'),
  ]) {
    assert.match(shown, /rateLimits\.burst +\d+ +9/);
  }
  await cli('host', 'enrol', 'web-1', '--tenant', 'acme', '--out', join(dir, 'web-1.token'));
  const { roots } = JSON.parse(readFileSync(join(dir, 'admin/admin.json'), 'utf8'));
  const hostToken = readFileSync(join(dir, 'web-1.token'), 'utf8').trim();
  assert.equal((await enrolWith(port, { token: hostToken, roots })).name, 'web-1');
  assert.match(await cli('host', 'list'), /web-1 +active +no/);
  await cli('host', 'revoke', 'web-1', '--reason', 'lost');
  assert.match(await cli('host', 'list'), /web-1 +revoked/);
  await cli('admin', 'enrol', 'second', '--scope', 'hosts.read', '--out', join(dir, 'second.token'));
  assert.match(await cli('admin', 'list'), /second +active +all/);
  await cli('admin', 'revoke', 'second');
  assert.equal(await stop(), 0);
});

test('refusals of the registry are exit codes and words', async (t) => {
  const { dir, env, anchor } = await setUp(t);
  const token = join(dir, 'token');
  const init = ['init', '--trust-domain', 'registry.test', '--trust-anchor', anchor, '--token-file', token];
  assert.equal((await runRegistry(init, env)).code, 0);
  const { port, stop } = await serve(t, env);
  const cli = (args: string[], admin = 'admin') =>
    runCli(args, {
      env: { NODE_COMPILE_CACHE: COMPILED, MORTISE_ADMIN_DIR: join(dir, admin), MORTISE_REGISTRY: `localhost:${port}` },
    });
  const enrol = (admin: string) => cli(['registry', 'enrol', '--enrolment-token', token], admin);
  const nobody = await cli(['tenant', 'list']);
  assert.deepEqual([nobody.code, /registry enrol/.test(nobody.stderr)], [1, true]);
  assert.equal((await enrol('admin')).code, 0);
  const again = await enrol('other');
  assert.deepEqual([again.code, /ENROLMENT_REFUSED/.test(again.stderr)], [3, true]);
  const wrongRoot = readFileSync(token, 'utf8').trim().split('.');
  wrongRoot[3] = Buffer.alloc(32).toString('base64url');
  const pinned = await runCli(['registry', 'enrol', '--enrolment-token', '-'], {
    env: { MORTISE_ADMIN_DIR: join(dir, 'other'), MORTISE_REGISTRY: `localhost:${port}` },
    input: wrongRoot.join('.'),
  });
  assert.deepEqual([pinned.code, /is not the registry that made the token/.test(pinned.stderr)], [3, true]);
  const unsigned = await cli(['policy', 'publish', anchor]);
  assert.deepEqual([unsigned.code, /POLICY_INVALID/.test(unsigned.stderr)], [4, true]);
  const unknown = await cli(['host', 'enrol', 'web-1', '--tenant', 'nobody']);
  assert.deepEqual([unknown.code, /TENANT_UNKNOWN/.test(unknown.stderr)], [1, true]);
  const reserved = await cli(['host', 'enrol', 'registry.one', '--tenant', 'acme']);
  assert.deepEqual([reserved.code, /INVALID_REQUEST/.test(reserved.stderr)], [2, true]);
  assert.equal(await stop(), 0);
  const gone = await cli(['tenant', 'list']);
  assert.equal(gone.code, 5, gone.stderr);
});

test('init overwrites nothing, and refuses what is no trust anchor', async (t) => {
  const { dir, policies, env, anchor } = await setUp(t);
  const init = (file: string) => runRegistry(['init', '--trust-domain', 'registry.test', '--trust-anchor', file], env);
  assert.equal((await init(join(policies.dir, 'platform.json'))).code, 1);
  assert.equal((await init(anchor)).code, 0);
  const root = readFileSync(join(dir, 'authority/root.pem'));
  const again = await init(anchor);
  assert.deepEqual([again.code, /is not empty/.test(again.text)], [1, true]);
  assert.ok(readFileSync(join(dir, 'authority/root.pem')).equals(root));
});

test('init with --unless-made makes a registry once, and does nothing more before later starts', async (t) => {
  const { dir, env, anchor } = await setUp(t);
  const token = join(dir, 'admin.token');
  const made = ['init', '--trust-domain', 'registry.test', '--trust-anchor', anchor, '--token-file', token];
  assert.equal((await runRegistry([...made, '--unless-made'], env)).code, 0);
  const [root, text] = [readFileSync(join(dir, 'authority/root.pem')), readFileSync(token)];
  const again = await runRegistry([...made, '--unless-made'], env);
  assert.deepEqual([again.code, /made already/.test(again.text)], [0, true]);
  assert.ok(readFileSync(join(dir, 'authority/root.pem')).equals(root));
  assert.ok(readFileSync(token).equals(text));
});

test('--check says all that is wrong at once, and never shows a secret', async (t) => {
  const { dir, env, anchor } = await setUp(t);
  const missing = await runRegistry(['--check'], env);
  assert.deepEqual([missing.code, /mortise registry init/.test(missing.text)], [78, true]);
  const init = ['init', '--trust-domain', 'registry.test', '--trust-anchor', anchor];
  assert.equal((await runRegistry(init, env)).code, 0);
  const good = await runRegistry(['--check'], env);
  assert.deepEqual([good.code, /REGISTRY_REQUIRE_HYBRID_TLS=false {2}# default/.test(good.text)], [0, true]);
  const secret = 'postgresql://user:hunter2@db/mortise';
  const wrong = { ...env, REGISTRY_HEARTBEAT_SECONDS: 'soon', REGISTRY_DATABASE_URL: secret, REGISTRY_REPLICA: '-' };
  const bad = await runRegistry(['--check'], wrong);
  assert.equal(bad.code, 78);
  for (const name of ['REGISTRY_HEARTBEAT_SECONDS', 'REGISTRY_DATABASE_URL', 'REGISTRY_REPLICA']) {
    assert.match(bad.text, new RegExp(name));
  }
  assert.ok(!bad.text.includes('hunter2'));
  chmodSync(join(dir, 'authority/root-key.pem'), 0o644);
  const readable = await runRegistry(['--check'], env);
  assert.deepEqual([readable.code, /chmod 0600/.test(readable.text)], [78, true]);
});

test('usage is told for what is no command', async () => {
  const { code, text } = await runRegistry(['dance'], { PATH: process.env['PATH'] ?? '' });
  assert.deepEqual([code, /no such command: dance/.test(text)], [64, true]);
  const { code: help, text: words } = await runRegistry(['--help'], { PATH: process.env['PATH'] ?? '' });
  assert.deepEqual([help, /registry init --trust-domain/.test(words)], [0, true]);
});
