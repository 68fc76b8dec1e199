// What clients that are many, silent, slow or broken do to the others: nothing.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import { constants } from 'node:http2';
import { connect, Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { type ServiceError, status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { Connections } from '../../../agent/server/connections.ts';
import { DEFAULT_LIMITS } from '../../../agent/server/limits.ts';
import { temporaryFolder } from '../../support/folder.ts';
import { ask, caller, clientsOf, deafSession, startServer, whoAmI } from './support.ts';

const isRoot = process.getuid?.() === 0;

const open = async (t: TestContext, path: string): Promise<Socket> => {
  const socket = connect(path);
  socket.on('error', () => undefined);
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
};

const gone = async (socket: Socket): Promise<void> => {
  socket.resume();
  if (!socket.destroyed) await once(socket, 'close');
};

test('a call among 1,000 silent connections is answered while they all stay open', async (t) => {
  const limits = { maxConnections: 1100, maxConnectionsPerUid: 1100, firstCallMs: 60_000 };
  const { path, events, until } = await startServer(t, { limits });
  const silent = await Promise.all(Array.from({ length: 1000 }, () => open(t, path)));
  await until(() => events.filter(({ event }) => event === 'opened').length === 1000);
  const answer = await whoAmI(clientsOf(t, path).status);
  assert.equal(answer.tenant, 'blue');
  assert.equal(events.filter(({ event }) => event === 'closed' || event === 'cut').length, 0);
  assert.ok(silent.every((socket) => !socket.destroyed));
});

test('a connection on which no call begins is cut; one with a call is not', async (t) => {
  const { path, events, until, waiting } = await startServer(t, { limits: { firstCallMs: 1000 } });
  const { crypto } = clientsOf(t, path);
  const request = { key: 'k', plaintext: Buffer.alloc(0), associatedData: Buffer.alloc(0) };
  const answer = ask<object, object, { jwe: string }>(crypto, crypto.encrypt as never, request);
  await until(() => waiting.length === 1);
  const silent = await open(t, path);
  const preface = await open(t, path);
  preface.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  await Promise.all([gone(silent), gone(preface)]);
  const cuts = events.filter(({ event }) => event === 'cut').map(({ reason }) => reason);
  assert.deepEqual(cuts, ['SILENT', 'SILENT']);
  waiting[0]?.resolve('jwe');
  assert.equal((await answer).jwe, 'jwe k');
});

test('a uid has no more connections than its share, and gets new ones as old ones close', async (t) => {
  const { path, events, until } = await startServer(t, { limits: { maxConnections: 10, maxConnectionsPerUid: 3 } });
  const [first] = await Promise.all([open(t, path), open(t, path), open(t, path)]);
  await until(() => events.filter(({ event }) => event === 'opened').length === 3);
  await gone(await open(t, path));
  assert.equal(events.find(({ event }) => event === 'cut')?.['reason'], 'TOO_MANY_OF_UID');
  await assert.rejects(whoAmI(clientsOf(t, path).status), (error: ServiceError) => error.code === status.UNAVAILABLE);
  first?.destroy();
  await until(() => events.some(({ event }) => event === 'closed'));
  assert.equal((await whoAmI(clientsOf(t, path).status)).tenant, 'blue');
});

test('the connections of one uid leave room for another', { skip: !isRoot && 'needs root' }, async (t) => {
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  const limits = { maxConnections: 20, maxConnectionsPerUid: 15 };
  const { path, events, until } = await startServer(t, { limits, folder, mode: 0o666 });
  const script = `for (let i = 0; i < 30; i += 1) require('net').connect(${JSON.stringify(path)}).on('error', () => {})`;
  const flood = spawn('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, '-e', script]);
  t.after(() => flood.kill('SIGKILL'));
  await until(() => events.filter(({ event }) => event === 'cut').length === 15);
  assert.equal((await whoAmI(clientsOf(t, path).status)).uid, 0);
});

test('the total of connections is bounded', async (t) => {
  const { path, events, until } = await startServer(t, { limits: { maxConnections: 2, maxConnectionsPerUid: 10 } });
  await Promise.all([open(t, path), open(t, path)]);
  await until(() => events.filter(({ event }) => event === 'opened').length === 2);
  await gone(await open(t, path));
  assert.equal(events.find(({ event }) => event === 'cut')?.['reason'], 'TOO_MANY');
});

const DECRYPT = '/mortise.agent.v1.CryptoService/Decrypt';
const jweOf = (length: number): Buffer => Buffer.concat([Buffer.from([0x0a, length]), Buffer.alloc(length, 0x41)]);

test('a client that does not read its answers is cut; others are served meanwhile', async (t) => {
  const { path, events, until } = await startServer(t, { limits: { answerMs: 1000 } });
  const { session, call } = await deafSession(t, path, 0);
  for (let count = 0; count < 10; count += 1) call(DECRYPT, jweOf(100));
  const closed = once(session, 'close');
  await until(() => events.some(({ event }) => event === 'finished'));
  await whoAmI(clientsOf(t, path).status);
  await closed;
  assert.equal(events.find(({ event }) => event === 'cut')?.['reason'], 'SLOW_READER');
});

test('unread answers are bounded per connection: new calls on it are OVERLOADED, on others not', async (t) => {
  const { path, events, until } = await startServer(t, { limits: { maxUnreadBytes: 250 * 1024 } });
  const { call } = await deafSession(t, path, 0);
  for (let count = 0; count < 3; count += 1) call(DECRYPT, jweOf(100));
  await until(() => events.filter(({ event }) => event === 'finished').length === 3);
  const stream = call(DECRYPT, jweOf(100));
  const [headers] = (await once(stream, 'response')) as [Record<string, string>];
  assert.equal(headers['grpc-status'], String(status.RESOURCE_EXHAUSTED));
  assert.equal(decodeURI(headers['grpc-message'] as string), 'too much is under way on this connection');
  await whoAmI(clientsOf(t, path).status);
});

test('the body of a call is not read before the caller is known', async (t) => {
  const gate = Promise.withResolvers<void>();
  const { path } = await startServer(t, {
    authenticate: async () => {
      await gate.promise;
      return caller();
    },
  });
  const { session } = await deafSession(t, path, 65_535);
  const stream = session.request({
    ':method': 'POST',
    ':path': DECRYPT,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const frame = Buffer.alloc(5 + 1024 * 1024);
  frame.writeUInt32BE(1024 * 1024, 1);
  let taken = false;
  const written = new Promise<void>((resolve) => {
    stream.write(frame, () => {
      taken = true;
      resolve();
    });
  });
  // Frames are handled in order, so an answered ping means that the agent has seen what its window let through.
  const ping = () => new Promise<void>((resolve) => session.ping(() => resolve()));
  for (let count = 0; count < 5; count += 1) await ping();
  assert.equal(taken, false);
  gate.resolve();
  await written;
  stream.close();
});

test('a request that never ends is answered at its deadline', async (t) => {
  const { path } = await startServer(t, { limits: { defaultDeadlineMs: 100 } });
  const { session } = await deafSession(t, path, 65_535);
  const stream = session.request({
    ':method': 'POST',
    ':path': DECRYPT,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  stream.on('error', () => undefined);
  stream.write(Buffer.from([0, 0, 0, 1, 0]));
  const [headers] = (await once(stream, 'response')) as [Record<string, string>];
  assert.equal(headers['grpc-status'], String(status.DEADLINE_EXCEEDED));
  stream.close();
});

test('no more calls of a connection run at once than the limit; the rest wait in the client', async (t) => {
  const { path, waiting, until, events } = await startServer(t, { limits: { maxStreams: 5 } });
  const { crypto } = clientsOf(t, path);
  const request = { key: 'k', plaintext: Buffer.alloc(0), associatedData: Buffer.alloc(0) };
  const answers = Array.from({ length: 20 }, () => ask(crypto, crypto.encrypt as never, request));
  let most = 0;
  for (let finished = 0; finished < 20; finished += 1) {
    await until(() => waiting.length > 0);
    most = Math.max(most, waiting.length);
    waiting.shift()?.resolve('jwe');
    await until(() => events.filter(({ event }) => event === 'finished').length > finished);
  }
  await Promise.all(answers);
  assert.ok(most >= 1 && most <= 5, `${most} at once`);
});

test('a connection without calls is closed after its time, and the next call opens another', async (t) => {
  const { path, events, until } = await startServer(t, { limits: { idleMs: 100 } });
  const { status: client } = clientsOf(t, path);
  await whoAmI(client);
  await until(() => events.some(({ event }) => event === 'closed'));
  await whoAmI(client);
});

test('a connection whose peer the kernel does not name is destroyed unread', async () => {
  const cuts: string[] = [];
  const connections = new Connections({
    limits: DEFAULT_LIMITS,
    peerOf: () => {
      throw new Error('no peer');
    },
    events: {
      connectionOpened: () => assert.fail('must not open'),
      connectionClosed: () => assert.fail('was never open'),
      connectionCut: ({ reason }) => cuts.push(reason),
    },
  });
  const socket = new Socket();
  assert.equal(connections.accept(socket), false);
  assert.ok(socket.destroyed);
  assert.deepEqual([cuts, connections.size], [['NO_PEER'], 0]);
});

test('authorities: what each kind of client sends for a Unix path', async (t) => {
  const { path } = await startServer(t);
  const seen = async (authority: string | undefined): Promise<string> => {
    const { session, call } = await deafSession(t, path, 65_535);
    const stream = call('/mortise.agent.v1.StatusService/WhoAmI', Buffer.alloc(0), {
      ...(authority !== undefined && { ':authority': authority }),
    });
    stream.resume();
    const result = await new Promise<string>((resolve) => {
      stream.once('trailers', (trailers) => resolve(`grpc-status ${trailers['grpc-status']}`));
      stream.once('close', () => resolve(`reset ${stream.rstCode}`));
    });
    session.destroy();
    return result;
  };
  assert.equal(await seen('localhost'), 'grpc-status 0'); // grpc-js, grpc-go, C core
  assert.equal(await seen(encodeURIComponent(path)), 'grpc-status 0'); // older C core
  assert.equal(await seen('mortise'), 'grpc-status 0');
  // The raw path, as old grpc-java sends it, is no authority (RFC 3986 section 3.2): nghttp2 resets the stream before
  // any of our code sees it. Such clients set `overrideAuthority("localhost")`.
  assert.equal(await seen(path), `reset ${constants.NGHTTP2_PROTOCOL_ERROR}`);
});

test('no bytes harm the agent or other callers', async (t) => {
  const { path, events, until } = await startServer(t);
  const { status: client } = clientsOf(t, path);
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  const frame = fc
    .record({ type: fc.nat(12), flags: fc.nat(255), stream: fc.nat(7), body: fc.uint8Array({ maxLength: 64 }) })
    .map(({ type, flags, stream, body }) => Buffer.from([0, 0, body.length, type, flags, 0, 0, 0, stream, ...body]));
  const garbage = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc.array(frame, { maxLength: 8 }).map((frames) => Buffer.concat([preface, settings, ...frames])),
    fc.constant(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')),
    fc.constant(Buffer.from([0x16, 3, 1, 0, 200, 1])),
  );
  await fc.assert(
    fc.asyncProperty(garbage, async (bytes) => {
      const socket = connect(path);
      socket.on('error', () => undefined);
      socket.resume();
      socket.end(bytes);
      await once(socket, 'close');
    }),
    { numRuns: 200 },
  );
  const count = (name: string) => events.filter(({ event }) => event === name).length;
  await until(() => count('opened') === 200 && count('closed') === 200);
  assert.equal((await whoAmI(client)).tenant, 'blue');
});

test('calls of other users carry their uid, gid and pid', { skip: !isRoot && 'needs root' }, async (t) => {
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  const seen: unknown[] = [];
  const { path } = await startServer(t, {
    folder,
    mode: 0o666,
    authenticate: async ({ peer }) => {
      seen.push(peer);
      return { tenant: 'blue', principal: 'p', scopes: new Set(), authenticatedBy: 'peer' };
    },
  });
  for (const [uid, gid] of [
    [1234, 4321],
    [65534, 65534],
  ]) {
    const program = join(import.meta.dirname, 'who-am-i-process.ts');
    const child = spawn(process.execPath, [program, path, String(uid), String(gid)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines = createInterface(child.stdout);
    const [line] = (await Promise.race([once(lines, 'line'), once(child, 'exit')])) as [string];
    assert.deepEqual(JSON.parse(line), { uid, gid, pid: child.pid });
    assert.deepEqual(seen.pop(), { uid, gid, pid: child.pid });
    await once(child, 'exit');
  }
});

test('another user cannot connect where the mode does not let it', { skip: !isRoot && 'needs root' }, async (t) => {
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  const { path, events } = await startServer(t, { folder, mode: 0o660 });
  const script = `require('net').connect(${JSON.stringify(path)}).on('error', (e) => console.log(e.code))`;
  const child = spawn('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  assert.equal(line, 'EACCES');
  assert.ok(!events.some(({ event }) => event === 'opened'));
});
