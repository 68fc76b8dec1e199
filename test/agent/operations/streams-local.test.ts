// Local streams as the agent sees them: which wish, policy, grants and state let a key out, what is recorded before it
// leaves, and that nothing of it stays.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { beforeEach, test } from 'node:test';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { decryptStream } from '../../../agent/operations/streams/decrypt-stream.ts';
import { encryptStream } from '../../../agent/operations/streams/encrypt-stream.ts';
import type { LocalKeyWish } from '../../../agent/operations/streams/local-key.ts';
import type { StreamKey, StreamOutput } from '../../../agent/operations/streams/perform-stream.ts';
import { chunkKeysOf } from '../../../proto/documents/chunked/chunks.ts';
import { PREFIX_BYTES, SALT_BYTES } from '../../../proto/documents/chunked/layout.ts';
import { ChunkOpener } from '../../../proto/documents/chunked/opener.ts';
import { ChunkSealer } from '../../../proto/documents/chunked/sealer.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';
import { fresh, StreamsWorld } from './streams-world.ts';

const none = Buffer.alloc(0);
const plaintext = randomBytes(70_000);
const token = new FakeToken();
let world: CryptoWorld;
let streams: StreamsWorld;

const code =
  (expected: Code, about = /./) =>
  (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, expected, thrown.message);
    assert.match(thrown.message, about);
    return true;
  };

beforeEach(async () => {
  world = new CryptoWorld(token);
  world.localStreamKeys = true;
  await world.add({ keyId: 'vault', algorithm: 'AES-256', purpose: 'encrypt' });
  streams = new StreamsWorld(world);
});

type Outputs = AsyncGenerator<StreamOutput<undefined>, void, undefined>;

const encrypting = (localKey: LocalKeyWish, localBytes = 0, data: readonly Buffer[] = []): Outputs =>
  streams.run(encryptStream, [
    { opening: { freshness: fresh(), key: 'vault', associatedData: none, localKey } },
    ...data.map((piece) => ({ data: piece })),
    { end: data.reduce((sum, { length }) => sum + length, 0), localBytes },
  ]);
const decrypting = (localKey: LocalKeyWish, sent: Buffer): Outputs =>
  streams.run(decryptStream, [
    { opening: { freshness: fresh(), key: '', associatedData: none, localKey } },
    { data: sent },
    { end: sent.length, localBytes: plaintext.length },
  ]);

/** The key as it is given out, copied before the stream goes on. */
const keyOf = async (outputs: Outputs): Promise<{ taken: StreamKey; given: StreamKey | undefined }> => {
  const { value } = await outputs.next();
  assert.ok(value !== undefined && 'begun' in value);
  const given = value.streamKey;
  const { key = none, baseNonce = none, opening = none } = given ?? {};
  return { taken: { key: Buffer.from(key), baseNonce, opening }, given };
};
const finish = async (outputs: Outputs): Promise<void> => {
  for await (const output of outputs) assert.ok(!('data' in output), 'the agent sends no data');
};
const container = async (): Promise<Buffer> => {
  const outputs = encrypting('required', plaintext.length);
  const { taken } = await keyOf(outputs);
  const sealer = new ChunkSealer(chunkKeysOf(taken.key, taken.baseNonce));
  await finish(outputs);
  return Buffer.concat([taken.opening, ...sealer.update(plaintext), ...sealer.final()]);
};

test('what is sealed with the key of a stream is a container that the agent opens, and the other way round', async () => {
  const sealed = await container();
  assert.ok((await streams.decrypt(sealed)).data.equals(plaintext));
  const { data } = await streams.encrypt(plaintext, { key: 'vault' });
  const chunksAt = 8 + data.readUInt32BE(4) + PREFIX_BYTES;
  const outputs = decrypting('required', data.subarray(0, chunksAt));
  const { taken } = await keyOf(outputs);
  const refusal = (): Error => new Error('does not open');
  const opener = new ChunkOpener({ keys: chunkKeysOf(taken.key, taken.baseNonce), refusal });
  assert.ok(Buffer.concat([...opener.update(data.subarray(chunksAt)), ...opener.final()]).equals(plaintext));
  await finish(outputs);
});

test('a key is recorded before it leaves, is wiped when it has left, and is one use', async () => {
  const outputs = encrypting('if-allowed', 123);
  const { taken, given } = await keyOf(outputs);
  const salt = taken.opening.subarray(-PREFIX_BYTES).subarray(0, SALT_BYTES).toString('base64url');
  assert.equal(world.records.length, 1);
  assert.equal(world.lastRecord.outcome, 'intent');
  assert.equal(world.lastRecord.detail?.['localStream'], salt);
  assert.notDeepEqual(given?.key, Buffer.alloc(32));
  await finish(outputs);
  assert.deepEqual(given?.key, Buffer.alloc(32));
  assert.equal(world.lastRecord.outcome, 'ok');
  const { localStream, bytesByClient, bytesSent } = world.lastRecord.detail ?? {};
  assert.deepEqual([localStream, bytesByClient, bytesSent], [salt, 123, 0]);
  assert.equal(world.uses, 1);
  assert.ok(!JSON.stringify(world.records).includes(taken.key.toString('base64url')));
  assert.ok(!JSON.stringify(world.records).includes(taken.key.toString('hex')));
});

test('a key that cannot be recorded does not leave', async () => {
  const audit = { append: () => Promise.reject(new Error('disk full')) };
  streams.ports = { ...streams.ports, audit };
  await assert.rejects(encrypting('required').next(), code('AUDIT_UNAVAILABLE'));
});

test('no key leaves that policy keeps in: the agent works, or refuses before a use is taken', async () => {
  world.localStreamKeys = false;
  const working = encrypting('if-allowed', 0, [plaintext]);
  assert.equal((await keyOf(working)).given, undefined);
  const data: Buffer[] = [];
  for await (const output of working) if ('data' in output) data.push(...output.data);
  assert.ok((await streams.decrypt(Buffer.concat(data))).data.equals(plaintext));
  assert.equal(world.uses, 1);
  await assert.rejects(encrypting('required').next(), code('POLICY_DENIED', /content keys of streams/));
  assert.equal(world.uses, 1);
  assert.equal(world.lastRecord.detail?.['rule'], 'streams.localKeys');
  const sealed = Buffer.concat(data);
  await assert.rejects(decrypting('required', sealed).next(), code('POLICY_DENIED'));
});

test('nor one that policy would not give as a data key, nor one to a caller whom no grant lets have data keys', async () => {
  const sealed = await container();
  const { policy } = streams.ports;
  const refusal = { allowed: false, code: 'POLICY_DENIED', rule: 'platform.operations', explanation: 'no data keys' };
  streams.ports = {
    ...streams.ports,
    policy: {
      ...policy,
      localStreamKeys: () => true,
      decide: (question) => (/data-key/.test(question.operation) ? (refusal as never) : policy.decide(question)),
    },
  };
  await assert.rejects(encrypting('required').next(), code('POLICY_DENIED', /no data keys/));
  await assert.rejects(decrypting('required', sealed).next(), code('POLICY_DENIED', /no data keys/));
  assert.equal((await keyOf(encrypting('if-allowed'))).given, undefined);
});

test('data from a client that has the key is refused, and so are chunks ahead of the beginning', async () => {
  const outputs = encrypting('required', 0, [plaintext]);
  await outputs.next();
  await assert.rejects(outputs.next(), code('INVALID_REQUEST', /has the key/));
  const sealed = await container();
  await assert.rejects(decrypting('required', sealed).next(), code('INVALID_REQUEST', /no chunk is sent before/));
});

test('a container whose commitment is not that of its key gives no key', async () => {
  const sealed = await container();
  const chunksAt = 8 + sealed.readUInt32BE(4) + PREFIX_BYTES;
  sealed[chunksAt - 1] = (sealed[chunksAt - 1] as number) ^ 1;
  await assert.rejects(decrypting('required', sealed.subarray(0, chunksAt)).next(), code('INVALID_CIPHERTEXT'));
});

test('a client that works on the data may take longer than the wait for a message, and no longer than its call', async () => {
  streams.ports = { ...streams.ports, streamLimits: { ...streams.ports.streamLimits, idleMs: 1 } };
  const abort = new AbortController();
  const silent = async function* () {
    const opening = { freshness: fresh(), key: 'vault', associatedData: none, localKey: 'required' as const };
    yield { opening };
    await new Promise(() => undefined);
  };
  const outputs = streams.run(encryptStream, silent(), aCall('acme', { signal: abort.signal }));
  await keyOf(outputs);
  const end = outputs.next();
  let isOver = false;
  end.catch(() => {
    isOver = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 20)); // longer than the wait, which is off
  assert.equal(isOver, false);
  abort.abort(new AgentError('SHUTTING_DOWN'));
  await assert.rejects(end, code('SHUTTING_DOWN'));
});
