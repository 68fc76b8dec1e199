// What passes the token room leaves no copy in its buffers: questions that are never sent, answers that are cut off, and
// the token process's own scratch memory.
import assert from 'node:assert/strict';
import { constants, generateKeyPairSync, privateDecrypt, publicEncrypt, randomBytes } from 'node:crypto';
import { Duplex } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { Channel } from '../../../agent/token/channel.ts';
import { PendingCall } from '../../../agent/token/pending-call.ts';
import { CURVES } from '../../../agent/token/process/curves.ts';
import type { KeyObjects, Session } from '../../../agent/token/process/objects.ts';
import { parameterSet } from '../../../agent/token/process/parameter-sets.ts';
import { perform } from '../../../agent/token/process/perform.ts';
import { readMade } from '../../../agent/token/process/secrets.ts';
import { A } from '../../../agent/token/process/templates.ts';
import type { Profile } from '../../../agent/token/profiles/profile.ts';
import { encodeFrame } from '../../../agent/token/protocol.ts';
import { OK_KIND, READY_KIND, TIMES_BYTES } from '../../../agent/token/requests.ts';
import { callOf } from '../../contract/token.ts';

const SECRET = Buffer.from('a secret of thirty-two bytes ...');
const isWiped = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

const channelOver = (socket: Duplex): Channel =>
  new Channel({ index: 0, socket, listener: { ready: () => {}, answered: () => {}, broken: () => {} } });
const ask = (channel: Channel): void => {
  const fields = [Buffer.alloc(16), Buffer.alloc(12), Buffer.alloc(0), SECRET];
  const call = callOf();
  const settle = { resolve: () => {}, reject: () => {}, onSettled: () => {} };
  channel.send(new PendingCall({ name: 'gcmEncrypt', fields, call, waitUntil: call.deadline, ...settle }));
};

/** Buffers into which frames are encoded from now on. */
const watchFrames = (t: TestContext): Buffer[] => {
  const frames: Buffer[] = [];
  const allocate = Buffer.allocUnsafeSlow;
  t.mock.method(Buffer, 'allocUnsafeSlow', (size: number) => {
    const buffer = allocate(size).fill(0);
    frames.push(buffer);
    return buffer;
  });
  return frames;
};
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('questions of one turn are wiped, together and alone, once they are written', async (t) => {
  const written: Buffer[] = [];
  const socket = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _encoding, done) => {
      assert.ok(chunk.includes(SECRET));
      written.push(chunk);
      done();
    },
  });
  const channel = channelOver(socket);
  const frames = watchFrames(t);
  ask(channel);
  ask(channel);
  await turn();
  ask(channel);
  await turn();
  assert.equal(written.length, 2);
  assert.ok(frames.length > 0);
  for (const bytes of [...frames, ...written]) assert.ok(isWiped(bytes));
});

test('questions that are given up before they are written are wiped', async (t) => {
  const socket = new Duplex({ read: () => {}, write: () => assert.fail('nothing is to be written') });
  const channel = channelOver(socket);
  const frames = watchFrames(t);
  ask(channel);
  channel.abandon();
  ask(channel);
  await turn();
  assert.ok(frames.length > 0);
  for (const bytes of frames) assert.ok(isWiped(bytes));
});

test('the beginning of an answer whose end never comes is wiped', (t) => {
  const socket = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
  const channel = channelOver(socket);
  socket.emit('data', encodeFrame(0, READY_KIND, []));
  const copies: Buffer[] = [];
  const from = Buffer.from.bind(Buffer);
  t.mock.method(Buffer, 'from', (...args: Parameters<typeof Buffer.from>) => {
    const copy = from(...args);
    copies.push(copy);
    return copy;
  });
  const answer = encodeFrame(1, OK_KIND, [Buffer.alloc(TIMES_BYTES), SECRET]);
  socket.emit('data', answer.subarray(0, answer.length - 1));
  const held = copies.find((copy) => copy.includes(SECRET.subarray(0, 20)));
  assert.ok(held);
  channel.abandon();
  assert.ok(isWiped(held));
});

/** A session whose module gives out what the test says, in the caller's buffer as pkcs11js does. */
const performerOf = (key: object, module: object, oaep: 'native' | 'raw' = 'native') => {
  const scratch = Buffer.alloc(8 * 1024);
  const keys = { use: <T>(_: Session, __: Buffer, ___: string, use: (found: never) => T): T => use(key as never) };
  const session = { module, handle: Buffer.alloc(8) } as unknown as Session;
  return {
    session,
    keys: keys as unknown as KeyObjects,
    profile: {} as Profile,
    oaep,
    gcmIv: 'caller' as const,
    kwp: 'CKM_AES_KEY_WRAP_KWP',
    scratch,
  };
};

test('a raw RSA block, whose padding anybody can undo, is not left in scratch memory', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const modulus = Buffer.from(publicKey.export({ format: 'jwk' }).n as string, 'base64url');
  const sealed = publicEncrypt({ key: publicKey, oaepHash: 'sha256' }, SECRET);
  const block = privateDecrypt({ key: privateKey, padding: constants.RSA_NO_PADDING }, sealed);
  const key = { handle: Buffer.alloc(8), type: 'rsa', modulus, uses: new Set([A.DECRYPT]) };
  const decrypt = (_: Buffer, __: object, ___: Buffer, ____: Buffer, output: Buffer): Buffer => {
    block.copy(output);
    return output.subarray(0, block.length);
  };
  const performer = performerOf(key, { decrypt }, 'raw');
  const [message] = perform(performer, 'oaepDecrypt', [Buffer.alloc(16), sealed]);
  assert.deepEqual(message, SECRET);
  assert.ok(isWiped(performer.scratch));
});

/** A module that gives the value of an object that may be read. */
const giving = (value: Buffer) => {
  const attributes = new Map<number, Buffer>([
    [A.TOKEN, Buffer.of(0)],
    [A.SENSITIVE, Buffer.of(0)],
    [A.EXTRACTABLE, Buffer.of(1)],
    [A.VALUE, value],
  ]);
  return {
    destroyObject: () => {},
    attribute: (_: Buffer, __: Buffer, type: number) => attributes.get(type),
  };
};

test('an agreed secret is given out in scratch memory, which is wiped, and the copy of the library is wiped', () => {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = publicKey.export({ format: 'jwk' });
  const part = (text: string | undefined): Buffer => Buffer.from(text as string, 'base64url');
  const point = Buffer.concat([Buffer.of(4), part(jwk.x), part(jwk.y)]);
  const given = randomBytes(31); // a module may leave leading zeros out
  const expected = Buffer.concat([Buffer.alloc(1), given]);
  const curve = CURVES.find(({ crv }) => crv === 'P-256');
  const key = { handle: Buffer.alloc(8), type: 'ec', curve, uses: new Set([A.DERIVE]) };
  const performer = performerOf(key, { deriveKey: () => Buffer.alloc(8), ...giving(given) });
  performer.scratch.fill(0xaa);
  const [secret] = perform(performer, 'ecdh', [Buffer.alloc(16), point]) as [Buffer];
  assert.deepEqual(secret, expected);
  assert.equal(secret.buffer, performer.scratch.buffer);
  assert.ok(isWiped(given));
});

test('a decapsulated secret is given out in scratch memory, and the copy of the library is wiped', () => {
  const given = randomBytes(32);
  const expected = Buffer.from(given);
  const set = parameterSet('ML-KEM-768') ?? assert.fail();
  const key = { handle: Buffer.alloc(8), type: 'ml-kem', set, uses: new Set([A.DECAPSULATE]) };
  const performer = performerOf(key, { decapsulateKey: () => Buffer.alloc(8), ...giving(given) });
  const [secret] = perform(performer, 'decapsulate', [Buffer.alloc(16), Buffer.alloc(set.outputBytes)]) as [Buffer];
  assert.deepEqual(secret, expected);
  assert.equal(secret.buffer, performer.scratch.buffer);
  assert.ok(isWiped(given));
});

test('a secret that is longer than was asked for is refused, and the copy of the library is wiped', () => {
  const given = randomBytes(65);
  const session = { module: giving(given), handle: Buffer.alloc(8) } as unknown as Session;
  assert.throws(() => readMade(session, Buffer.alloc(8), 64), { name: 'Refusal' });
  assert.ok(isWiped(given));
});
