import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { loadLibc } from '../../../agent/server/libc.ts';
import { peerOf } from '../../../agent/server/peer-credentials.ts';
import { listenOnPath, SocketError, type SocketProblem } from '../../../agent/server/socket.ts';
import { temporaryFolder } from '../../support/folder.ts';

const libc = loadLibc();
const isRoot = process.getuid?.() === 0;
const greet = (socket: Socket): void => {
  socket.end('hello');
};

const problem = (expected: SocketProblem) => (error: unknown) =>
  error instanceof SocketError && error.problem === expected;

const reads = async (path: string): Promise<string> => {
  const socket = connect(path);
  let text = '';
  for await (const chunk of socket) text += chunk;
  return text;
};

const agentProcess = (path: string): ChildProcess =>
  spawn(process.execPath, [join(import.meta.dirname, 'listen-process.ts'), path]);
const firstLine = async (child: ChildProcess): Promise<string> => {
  assert.ok(child.stdout);
  for await (const line of createInterface(child.stdout)) return line;
  return '';
};

test('the socket has the configured mode and group from the moment it can be reached', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'agent.sock');
  const before = process.umask(0);
  t.after(() => process.umask(before));
  const listening = await listenOnPath(libc, { path, mode: 0o620, ...(isRoot && { group: 12 }) }, greet);
  const found = lstatSync(path);
  assert.equal(found.mode & 0o7777, 0o620);
  if (isRoot) assert.equal(found.gid, 12);
  assert.deepEqual(readdirSync(folder).sort(), ['.agent.sock.lock', 'agent.sock']);
  assert.equal(await reads(path), 'hello');
  await listening.close();
  assert.deepEqual(readdirSync(folder), ['.agent.sock.lock']);
});

test('a group is taken by name, and an unknown one is refused with nothing left behind', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'agent.sock');
  await assert.rejects(listenOnPath(libc, { path, mode: 0o600, group: 'no-such-group' }, greet), problem('GROUP'));
  assert.deepEqual(readdirSync(folder), ['.agent.sock.lock']);
  const listening = await listenOnPath(libc, { path, mode: 0o600, ...(isRoot && { group: 'root' }) }, greet);
  await listening.close();
});

test('a socket that nobody answers on is replaced', async (t) => {
  const path = join(temporaryFolder(t), 'agent.sock');
  const child = agentProcess(path);
  assert.equal(await firstLine(child), 'listening');
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok(lstatSync(path).isSocket(), 'the killed process leaves its socket');
  const listening = await listenOnPath(libc, { path, mode: 0o600 }, greet);
  assert.equal(await reads(path), 'hello');
  await listening.close();
});

test('a live agent is never displaced', async (t) => {
  const path = join(temporaryFolder(t), 'agent.sock');
  const child = agentProcess(path);
  t.after(() => child.kill('SIGKILL'));
  assert.equal(await firstLine(child), 'listening');
  await assert.rejects(listenOnPath(libc, { path, mode: 0o600 }, greet), problem('IN_USE'));
  assert.equal(await reads(path), 'process');
});

test('a program that answers on the path without our lock is not displaced either', async (t) => {
  const path = join(temporaryFolder(t), 'agent.sock');
  const other = createServer((socket) => socket.on('error', () => undefined).end('other')).listen(path);
  await once(other, 'listening');
  t.after(() => other.close());
  await assert.rejects(listenOnPath(libc, { path, mode: 0o600 }, greet), problem('IN_USE'));
  assert.equal(await reads(path), 'other');
});

test('of agents started at once on a leftover socket exactly one wins, and it answers', async (t) => {
  const path = join(temporaryFolder(t), 'agent.sock');
  const dead = agentProcess(path);
  assert.equal(await firstLine(dead), 'listening');
  dead.kill('SIGKILL');
  await once(dead, 'exit');
  const children = [1, 2, 3, 4].map(() => agentProcess(path));
  t.after(() => children.forEach((child) => void child.kill('SIGKILL')));
  const lines = await Promise.all(children.map(firstLine));
  assert.deepEqual(lines.sort(), ['IN_USE', 'IN_USE', 'IN_USE', 'listening']);
  assert.equal(await reads(path), 'process');
});

test('what is not a socket, or is a link, is left alone', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'agent.sock');
  writeFileSync(path, 'precious');
  await assert.rejects(listenOnPath(libc, { path, mode: 0o600 }, greet), problem('NOT_A_SOCKET'));
  const link = join(folder, 'link.sock');
  symlinkSync(path, link);
  await assert.rejects(listenOnPath(libc, { path: link, mode: 0o600 }, greet), problem('NOT_A_SOCKET'));
  assert.ok(lstatSync(path).isFile() && lstatSync(link).isSymbolicLink());
});

test('bad places are refused with a reason', async (t) => {
  const folder = temporaryFolder(t);
  const open = join(folder, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  const at = (path: string): Promise<unknown> => listenOnPath(libc, { path, mode: 0o600 }, greet);
  await assert.rejects(at(join(open, 'agent.sock')), problem('FOLDER'));
  await assert.rejects(at(join(folder, 'missing', 'agent.sock')), problem('FOLDER'));
  await assert.rejects(at('agent.sock'), problem('PATH'));
  await assert.rejects(at(join(folder, 'x'.repeat(107 - folder.length))), problem('PATH'));
  chmodSync(open, 0o1777);
  const listening = (await at(join(open, 'agent.sock'))) as { close(): Promise<void> };
  await listening.close();
});

test('the longest path that the kernel takes works', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'x'.repeat(106 - folder.length));
  assert.equal(Buffer.byteLength(path), 107);
  const listening = await listenOnPath(libc, { path, mode: 0o600 }, greet);
  assert.equal(await reads(path), 'hello');
  await listening.close();
});

test('closing removes only our own socket', async (t) => {
  const path = join(temporaryFolder(t), 'agent.sock');
  const listening = await listenOnPath(libc, { path, mode: 0o600 }, greet);
  unlinkSync(path);
  const other = createServer().listen(path);
  await once(other, 'listening');
  t.after(() => other.close());
  await listening.close();
  assert.ok(lstatSync(path).isSocket());
});

test('listens on a descriptor that it was given and leaves its file alone', async (t) => {
  const folder = temporaryFolder(t);
  const owner = createServer().listen(join(folder, 'first'));
  await once(owner, 'listening');
  const { fd } = (owner as unknown as { _handle: { fd: number } })._handle;
  const child = spawn(process.execPath, [join(import.meta.dirname, 'listen-process.ts'), 'fd:3'], {
    stdio: ['ignore', 'pipe', 'inherit', fd],
  });
  t.after(() => child.kill('SIGKILL'));
  assert.equal(await firstLine(child), 'listening');
  const path = join(folder, 'renamed'); // libuv unlinks the name that it bound
  renameSync(join(folder, 'first'), path);
  owner.close();
  assert.equal(await reads(path), 'process');
});

test('the kernel names the peer, and a socket without a peer is refused', async (t) => {
  const path = join(temporaryFolder(t), 'agent.sock');
  const accepted = Promise.withResolvers<Socket>();
  const listening = await listenOnPath(libc, { path, mode: 0o600 }, accepted.resolve);
  const client = connect(path);
  const socket = await accepted.promise;
  assert.deepEqual(peerOf(libc, socket), { uid: process.getuid?.(), gid: process.getgid?.(), pid: process.pid });
  socket.destroy();
  client.destroy();
  await once(socket, 'close');
  assert.throws(() => peerOf(libc, socket), /no descriptor/);
  assert.throws(() => libc.peerCredentials(-1), /SO_PEERCRED/);
  await listening.close();
});

test('the peer of a process of another user is that user', { skip: !isRoot && 'needs root' }, async (t) => {
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  const path = join(folder, 'agent.sock');
  const accepted = Promise.withResolvers<Socket>();
  const listening = await listenOnPath(libc, { path, mode: 0o666 }, accepted.resolve);
  const script = `require('net').connect(${JSON.stringify(path)}).resume()`;
  const child = spawn('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, '-e', script]);
  t.after(() => child.kill('SIGKILL'));
  const socket = await accepted.promise;
  assert.deepEqual(peerOf(libc, socket), { uid: 65534, gid: 65534, pid: child.pid });
  socket.destroy();
  await listening.close();
});
