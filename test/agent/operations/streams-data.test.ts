// EncryptStream, DecryptStream and ReEncryptStream through the whole chain, with real cryptography in a fake token.
import assert from 'node:assert/strict';
import { generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { generalDecrypt, importJWK } from 'jose';
import { AgentError, CODES, type Code } from '../../../agent/errors.ts';
import { decryptStream } from '../../../agent/operations/streams/decrypt-stream.ts';
import { encryptStream } from '../../../agent/operations/streams/encrypt-stream.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';
import { fresh, StreamsWorld, sent } from './streams-world.ts';

const none = Buffer.alloc(0);
const fails = (promise: Promise<unknown>, code: Code, about?: RegExp): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (about !== undefined) assert.match(thrown.message, about);
    if (code === 'INVALID_CIPHERTEXT') assert.equal(thrown.message, CODES.INVALID_CIPHERTEXT.text);
    return true;
  });
const flipAt = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ 1;
  return copy;
};

describe('streams of ciphertext', () => {
  const token = new FakeToken();
  const world = new CryptoWorld(token);
  const streams = new StreamsWorld(world);
  const outcomes = (): string[] => world.records.map(({ outcome }) => outcome);
  const plaintext = randomBytes(200_000);

  before(async () => {
    for (const algorithm of ['AES-256', 'RSA-2048', 'EC-P256']) {
      await world.add({ keyId: algorithm.toLowerCase(), algorithm, purpose: 'encrypt' });
    }
    await world.add({ keyId: 'other', algorithm: 'AES-256', purpose: 'encrypt' });
    await world.add({ keyId: 'signer', algorithm: 'EC-P256', purpose: 'sign' });
    await world.add({ keyId: 'theirs', algorithm: 'AES-256', purpose: 'encrypt', tenant: 'globex' });
  });

  for (const key of ['aes-256', 'rsa-2048', 'ec-p256']) {
    test(`${key}: decrypts what it encrypted, and records both ends with the bytes`, async () => {
      world.records.length = 0;
      const sealed = await streams.encrypt(plaintext, { key });
      assert.deepEqual(sealed.begun?.begun.keyUsed, { keyId: key, version: 1 });
      assert.deepEqual(
        world.records.map(({ operation, outcome, key: used, detail }) => [
          operation,
          outcome,
          used,
          detail?.['stream'],
        ]),
        [
          ['encrypt', 'intent', `${key}/1`, true],
          ['encrypt', 'ok', `${key}/1`, true],
        ],
      );
      assert.equal(world.lastRecord.detail?.['bytesReceived'], plaintext.length);
      assert.equal(world.lastRecord.detail?.['bytesSent'], sealed.data.length);
      assert.equal(sealed.done.bytesSent, sealed.data.length);
      world.records.length = 0;
      const opened = await streams.decrypt(sealed.data);
      assert.ok(opened.data.equals(plaintext));
      assert.equal(opened.begun?.begun.keyRequested, `acme/${key}`);
      assert.deepEqual(outcomes(), ['intent', 'ok']);
      assert.equal(opened.done.bytesSent, plaintext.length);
    });
  }

  test('nothing at all, and containers in pieces of any size', async () => {
    const empty = await streams.encrypt(none, { key: 'aes-256' });
    assert.equal((await streams.decrypt(empty.data)).data.length, 0);
    const sealed = await streams.encrypt(plaintext, { key: 'aes-256' }, 16_384);
    for (const size of [1_000, 4_096, 16_400, 262_144]) {
      assert.ok((await streams.decrypt(sealed.data, {}, size)).data.equals(plaintext));
    }
  });

  test('the header is a JWE that any library opens to the input key', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const jwk = privateKey.export({ format: 'jwk' }) as JsonWebKey;
    await world.add({
      keyId: 'known',
      algorithm: 'RSA-2048',
      purpose: 'encrypt',
      made: token.import('RSA-2048', 'encrypt', jwk),
    });
    const { data } = await streams.encrypt(plaintext, { key: 'known' });
    const length = data.readUInt32BE(4);
    assert.equal(8 + length, 4096);
    const header = JSON.parse(data.subarray(8, 8 + length).toString());
    assert.equal(header.recipients[0].header.kid, 'acme/known/1');
    const opened = await generalDecrypt(header, await importJWK({ ...jwk, alg: 'RSA-OAEP-256' }));
    assert.equal(opened.plaintext.length, 32);
    assert.deepEqual(opened.protectedHeader, { enc: 'A256GCM', cty: 'vnd.mortise.chunked-key' });
  });

  test('associated data is bound to the ciphertext', async () => {
    const associatedData = Buffer.from('case 7');
    const { data } = await streams.encrypt(plaintext, { key: 'aes-256', associatedData });
    assert.ok((await streams.decrypt(data, { associatedData })).data.equals(plaintext));
    await fails(streams.decrypt(data), 'INVALID_CIPHERTEXT');
    await fails(streams.decrypt(data, { associatedData: Buffer.from('case 8') }), 'INVALID_CIPHERTEXT');
    const long = Buffer.alloc(16 * 1024 + 1);
    await fails(streams.encrypt(plaintext, { key: 'aes-256', associatedData: long }), 'TOO_LARGE');
  });

  test('a version of before is found by the kid after a rotation', async () => {
    await world.add({ keyId: 'turned', algorithm: 'AES-256', purpose: 'encrypt' });
    const { data } = await streams.encrypt(plaintext, { key: 'turned' });
    await world.rotate('turned');
    const opened = await streams.decrypt(data, { key: 'turned' });
    assert.deepEqual(opened.begun?.begun.keyUsed, { keyId: 'turned', version: 1 });
    await fails(streams.decrypt(data, { key: 'other' }), 'INVALID_REQUEST', /another key/);
  });

  test("another tenant's container is refused, whether or not its key exists", async () => {
    const call = aCall('globex');
    const opening = { freshness: fresh(), key: 'theirs', associatedData: none };
    const outputs = streams.run(encryptStream, sent(opening, plaintext), call);
    const pieces: Buffer[] = [];
    for await (const output of outputs) if ('data' in output) pieces.push(...output.data);
    await fails(streams.decrypt(Buffer.concat(pieces)), 'PERMISSION_DENIED');
    assert.equal(world.lastRecord.outcome, 'PERMISSION_DENIED');
  });

  test('a wrong key purpose, an unknown key and a refusal of policy are refused at the opening, and recorded', async () => {
    world.records.length = 0;
    await fails(streams.encrypt(plaintext, { key: 'signer' }), 'INVALID_REQUEST');
    await fails(streams.encrypt(plaintext, { key: 'absent' }), 'KEY_UNKNOWN');
    world.refuses = () => 'POLICY_DENIED';
    await fails(streams.encrypt(plaintext, { key: 'aes-256' }), 'POLICY_DENIED');
    world.refuses = () => undefined;
    assert.deepEqual(outcomes(), ['INVALID_REQUEST', 'KEY_UNKNOWN', 'POLICY_DENIED']);
  });

  test('a changed, cut or lengthened container ends in one error, after nothing but authentic plaintext', async () => {
    const sealed = await streams.encrypt(plaintext, { key: 'aes-256' });
    const tampered = [
      flipAt(sealed.data, 4096 + 60),
      flipAt(sealed.data, sealed.data.length - 1),
      sealed.data.subarray(0, -1),
      sealed.data.subarray(0, 4096 + 56 + 16_400 * 3),
      Buffer.concat([sealed.data, randomBytes(20)]),
    ];
    for (const container of tampered) {
      world.records.length = 0;
      const opening = { freshness: fresh(), key: '', associatedData: none };
      const pieces: Buffer[] = [];
      await fails(
        (async () => {
          for await (const output of streams.run(decryptStream, sent(opening, container, 50_000))) {
            if ('data' in output) pieces.push(...output.data);
            assert.ok(!('done' in output));
          }
        })(),
        'INVALID_CIPHERTEXT',
      );
      const out = Buffer.concat(pieces);
      assert.ok(out.equals(plaintext.subarray(0, out.length)));
      assert.deepEqual(outcomes(), [...(out.length > 0 ? ['intent'] : []), 'INVALID_CIPHERTEXT']);
    }
  });

  test('a JWE that was made for something else is no header of a container', async () => {
    const sealed = await streams.encrypt(plaintext, { key: 'aes-256' });
    const length = sealed.data.readUInt32BE(4);
    const header = JSON.parse(sealed.data.subarray(8, 8 + length).toString());
    header.protected = Buffer.from('{"enc":"A256GCM"}').toString('base64url');
    const text = Buffer.from(JSON.stringify(header).padEnd(length));
    const changed = Buffer.concat([sealed.data.subarray(0, 8), text, sealed.data.subarray(8 + length)]);
    await fails(streams.decrypt(changed), 'INVALID_REQUEST', /cty/);
  });

  test('a token that is lost once the stream has begun does no harm to it', async () => {
    const sealed = await streams.encrypt(plaintext, { key: 'aes-256' });
    const opening = { freshness: fresh(), key: '', associatedData: none };
    const outputs = streams.run(decryptStream, sent(opening, sealed.data, 16_000));
    const first = await outputs.next();
    assert.ok(first.value !== undefined && 'begun' in first.value);
    for (const method of ['gcmDecrypt', 'gcmEncrypt', 'random'] as const) {
      token.fail({ method, code: 'HSM_UNAVAILABLE' });
    }
    const pieces: Buffer[] = [];
    for await (const output of outputs) if ('data' in output) pieces.push(...output.data);
    assert.ok(Buffer.concat(pieces).equals(plaintext));
    await fails(streams.decrypt(sealed.data), 'HSM_UNAVAILABLE'); // the fault that was waiting
    await fails(streams.encrypt(plaintext, { key: 'aes-256' }), 'HSM_UNAVAILABLE');
  });

  describe('ReEncryptStream', () => {
    test('moves a container to another key with an input key of its own', async () => {
      const old = await streams.encrypt(plaintext, { key: 'rsa-2048', associatedData: Buffer.from('a') });
      world.records.length = 0;
      const moved = await streams.reEncrypt(old.data, { targetKey: 'other', associatedData: Buffer.from('a') });
      assert.deepEqual(moved.begun?.begun.keyUsed, { keyId: 'other', version: 1 });
      assert.deepEqual(moved.begun?.source, {
        sourceKeyUsed: { keyId: 'rsa-2048', version: 1 },
        sourceAlgorithmUsed: 'RSA-OAEP-256',
      });
      assert.deepEqual(outcomes(), ['intent', 'ok']);
      assert.equal(world.lastRecord.operation, 're-encrypt');
      assert.equal(world.lastRecord.detail?.['source'], 'rsa-2048/1');
      const opened = await streams.decrypt(moved.data, { key: 'other', associatedData: Buffer.from('a') });
      assert.ok(opened.data.equals(plaintext));
      assert.notDeepEqual(moved.data.subarray(4096, 4096 + 56), old.data.subarray(4096, 4096 + 56));
    });

    test('can bind other associated data, or none', async () => {
      const associatedData = Buffer.from('a');
      const old = await streams.encrypt(plaintext, { key: 'other', associatedData });
      const moved = await streams.reEncrypt(old.data, { associatedData, newAssociatedData: none });
      assert.ok((await streams.decrypt(moved.data)).data.equals(plaintext));
    });

    test('a container that is cut leaves a new one without its last chunk', async () => {
      const old = await streams.encrypt(plaintext, { key: 'other' });
      await fails(streams.reEncrypt(old.data.subarray(0, -1), { targetKey: 'aes-256' }), 'INVALID_CIPHERTEXT');
      assert.equal(world.lastRecord.outcome, 'INVALID_CIPHERTEXT');
    });

    test('needs the scopes of both sides', async () => {
      const old = await streams.encrypt(plaintext, { key: 'other' });
      for (const scope of ['crypto.encrypt', 'crypto.decrypt'] as const) {
        const { caller } = aCall();
        const call = aCall('acme', { caller: { ...caller, scopes: new Set([scope]) } });
        await fails(streams.reEncrypt(old.data, {}, call), 'PERMISSION_DENIED', /needs the scope/);
      }
    });
  });
});
