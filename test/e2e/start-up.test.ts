// Starts that go wrong say what to do, and an agent without its token lives, waits and comes into service by itself.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { listeningSocket, readDatagram, SOCK_DGRAM, SOCK_STREAM } from '../support/unix-socket.ts';
import { allRecords, clientOf, refusedWith } from './load.ts';

const MAIN = join(import.meta.dirname, '../../agent/main.ts');

let agent: RunningAgent;
let client: MortiseClient;

before(async () => {
  agent = await startAgent({ started: false });
  client = clientOf(agent, 'acme', { retry: false });
});
after(async () => {
  client?.close();
  await agent?.stop();
});

const run = (args: readonly string[], env: Record<string, string | undefined> = {}) =>
  spawnSync(process.execPath, [MAIN, ...args], { env: { ...agent.env, ...env }, encoding: 'utf8', timeout: 30_000 });

test('1: --check prints the effective configuration, and refuses a bad one with every problem at once', () => {
  const good = run(['--check']);
  assert.equal(good.status, 0);
  assert.match(good.stdout, /^PKCS11_SESSION_POOL_SIZE=10 {2}# default$/m);
  assert.ok(!`${good.stdout}${good.stderr}`.includes(agent.token.pin));
  const bad = run(['--check'], { MORTISE_SOCKET_MODE: '999', MORTISE_MAX_STREAMS: '-1', MORTISE_TYPO: '1' });
  assert.equal(bad.status, 78);
  assert.match(
    bad.stderr,
    /MORTISE_SOCKET_MODE: .*\n(.*\n)*.*MORTISE_MAX_STREAMS|MORTISE_MAX_STREAMS: .*\n(.*\n)*.*MORTISE_SOCKET_MODE/,
  );
});

test('2: a bad configuration, a PIN in the environment and root are refused with exit code 78', () => {
  const pin = run(['serve'], { PKCS11_PIN: 'hunter2' });
  assert.equal(pin.status, 78);
  assert.match(pin.stderr, /PKCS11_PIN_FILE/);
  assert.ok(!pin.stderr.includes('hunter2'));
  if (process.getuid?.() !== 0) return;
  const root = run(['serve'], { MORTISE_ALLOW_ROOT: 'no' });
  assert.equal(root.status, 78);
  assert.match(root.stderr, /refuses to run as root/);
});

test('3: a socket folder or data folder that cannot be is a failure that names the variable or the folder', () => {
  const socket = run(['serve'], { MORTISE_SOCKET_PATH: '/no/such/folder/agent.sock' });
  assert.equal(socket.status, 1);
  assert.match(socket.stderr, /\/no\/such\/folder/);
  const data = run(['serve'], { MORTISE_DATA_DIR: '/proc/no/data' });
  assert.equal(data.status, 1);
  assert.match(data.stderr, /MORTISE_DATA_DIR/);
});

test('4: an unknown command or option is exit code 64 and shows the usage', () => {
  for (const args of [['frobnicate'], ['--frobnicate'], ['doctor', '--output', 'xml']]) {
    const { status, stderr } = run(args);
    assert.equal(status, 64);
    assert.match(stderr, /usage: agent/);
  }
  assert.equal(run(['--help']).status, 0);
  assert.match(run(['--version']).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('5: without a token the agent lives, says what to do, and serves once the token is there', async () => {
  const conf = agent.token.confPath;
  await rename(conf, `${conf}.away`);
  await writeFile(conf, (await readFile(`${conf}.away`, 'utf8')).replace('/tokens', '/no-tokens'));
  await mkdir(join(agent.token.folder, 'no-tokens'));
  agent.spawn();
  const waiting = await agent.logged(({ msg }) => msg === 'agent cannot serve yet');
  assert.equal(waiting['part'], 'token');
  assert.match(JSON.stringify(waiting['error']), /PKCS11_TOKEN_LABEL/);
  await assert.rejects(client.whoAmI(), refusedWith('HSM_UNAVAILABLE'));
  assert.equal(await client.health(), 'NOT_SERVING');
  assert.equal(await client.health('mortise.token'), 'NOT_SERVING');
  await rename(`${conf}.away`, conf);
  process.kill(agent.pid, 'SIGHUP'); // saves the rest of the wait
  await agent.logged(({ msg }) => msg === 'agent is READY');
  assert.equal((await client.whoAmI()).tenant, 'acme');
  assert.equal(await client.health(), 'SERVING');
  assert.equal(await agent.end(), 0);
});

test('6: a refused PIN is tried once, not again, until another one is in the file', async () => {
  const { pinFile, pin } = agent.token;
  await writeFile(pinFile, '000000\n');
  const from = agent.logs.length;
  agent.spawn({ MORTISE_LOG_LEVEL: 'debug' });
  const first = await agent.logged(({ msg }) => msg === 'agent cannot serve yet', from);
  assert.match(JSON.stringify(first['error']), /PKCS11_PIN_FILE/);
  process.kill(agent.pid, 'SIGHUP');
  const second = await agent.logged(({ msg }) => msg === 'agent cannot serve yet', agent.logs.indexOf(first) + 1);
  assert.match(JSON.stringify(second['error']), /the one that the token refused/);
  const refusals = agent.logs
    .slice(from)
    .filter(({ error }) => JSON.stringify(error ?? '').includes('CKR_PIN_INCORRECT'));
  assert.equal(refusals.length, 1, 'the second process was not given the PIN');
  await assert.rejects(client.whoAmI(), refusedWith('HSM_UNAVAILABLE'));
  await writeFile(pinFile, `${pin}\n`);
  process.kill(agent.pid, 'SIGHUP');
  await agent.logged(({ msg }) => msg === 'agent is READY', from);
  assert.equal(await agent.end(), 0);
});

test('7: a PIN file that others can read is refused before anything is tried', async () => {
  await chmod(agent.token.pinFile, 0o644);
  const from = agent.logs.length;
  agent.spawn();
  const waiting = await agent.logged(({ msg }) => msg === 'agent cannot serve yet', from);
  assert.match(JSON.stringify(waiting['error']), /others can read or change it/);
  await chmod(agent.token.pinFile, 0o600);
  process.kill(agent.pid, 'SIGHUP');
  await agent.logged(({ msg }) => msg === 'agent is READY', from);
});

test('8: a second agent never takes the socket of a live one', async () => {
  const second = run(['serve'], { MORTISE_DATA_DIR: join(agent.folder, 'other-data') });
  assert.equal(second.status, 1);
  assert.match(second.stderr, /another agent/);
  assert.equal((await client.whoAmI()).tenant, 'acme');
  assert.equal(await agent.end(), 0);
});

test('9: systemd is told when the agent is ready, and may hand over the socket', async () => {
  const path = join(agent.folder, 'run', 'handed-over.sock');
  const notify = listeningSocket(join(agent.folder, 'run', 'notify.sock'), SOCK_DGRAM);
  const from = agent.logs.length;
  agent.spawn({ NOTIFY_SOCKET: join(agent.folder, 'run', 'notify.sock') }, { fd: listeningSocket(path, SOCK_STREAM) });
  await agent.logged(({ msg }) => msg === 'agent is READY', from);
  assert.match(readDatagram(notify), /^READY=1\nSTATUS=Serving$/);
  using handedOver = clientOf({ socket: path, issuer: agent.issuer }, 'acme', { retry: false });
  assert.equal((await handedOver.whoAmI()).tenant, 'acme');
  assert.equal(await agent.end(), 0);
  assert.equal(readDatagram(notify), 'STOPPING=1');
});

test('10: the doctor names what is wrong and how to put it right, and tries a PIN only where all else is well', () => {
  const good = run(['doctor']);
  assert.equal(good.status, 0, good.stdout);
  assert.match(good.stdout, /SoftHSM/);
  const doctor = (env: Record<string, string | undefined>) => {
    const { status, stdout } = run(['doctor', '--output', 'json'], env);
    const { checks } = JSON.parse(stdout) as {
      checks: { name: string; level: string; detail: string; remedy?: string }[];
    };
    const failed = checks.filter(({ level }) => level === 'fail');
    assert.equal(status, failed.length > 0 ? 2 : 0);
    for (const { remedy } of failed) assert.ok((remedy ?? '').length > 5);
    return failed.map(({ name, detail }) => `${name}: ${detail}`).join('\n');
  };
  assert.match(doctor({ PKCS11_LIBRARY_PATH: '/no/such.so' }), /token: .*\/no\/such\.so/);
  assert.match(doctor({ PKCS11_LIBRARY_PATH: '/lib/x86_64-linux-gnu/libc.so.6' }), /token: /);
  assert.match(
    doctor({ PKCS11_TOKEN_LABEL: 'nobody' }),
    new RegExp(`token: .*${agent.token.label}`),
    'lists labels seen',
  );
  assert.match(doctor({ PKCS11_PIN_FILE: '/no/pin' }), /pin: \/no\/pin does not exist/);
  assert.match(doctor({ MORTISE_POLICY_DIR: '/no/policy' }), /trust anchor: /);
  assert.match(doctor({ MORTISE_SOCKET_PATH: '/no/folder/s' }), /socket: /);
  assert.match(doctor({ MORTISE_MAX_STREAMS: 'x' }), /configuration: MORTISE_MAX_STREAMS/);
});

test('11: the trail has one start for each time that the agent served', async () => {
  await agent.start();
  using platform = clientOf(agent, '_platform');
  const starts = (await allRecords(platform)).filter(({ operation }) => operation === 'agent-start');
  assert.equal(starts.length, 5);
});
