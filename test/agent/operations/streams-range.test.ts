// DecryptStream of a range and VerifyWithStream through the whole chain, with real cryptography in a fake token.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { AgentError, type Code } from '../../../agent/errors.ts';
import {
  type VerifyWithStreamOpening,
  verifyWithStream,
} from '../../../agent/operations/streams/verify-with-stream.ts';
import { type ByteRange, bytesOfRange } from '../../../clients/typescript/container-range.ts';
import { FakeToken } from '../../fakes/token.ts';
import { CryptoWorld } from './crypto-world.ts';
import { collect, fresh, StreamsWorld, sent } from './streams-world.ts';

const fails = (promise: Promise<unknown>, code: Code, about = /./): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, about);
    return true;
  });

const token = new FakeToken();
const world = new CryptoWorld(token);
const streams = new StreamsWorld(world);
const SIGNERS = [
  ['EC-P256', 'ES256'],
  ['RSA-2048', 'PS256'],
  ['Ed25519', 'Ed25519'],
] as const;

before(async () => {
  await world.add({ keyId: 'vault', algorithm: 'AES-256', purpose: 'encrypt' });
  for (const [algorithm, jose] of SIGNERS) {
    await world.add({ keyId: jose.toLowerCase(), algorithm, jose, purpose: 'sign' });
  }
});

describe('a range of a container', () => {
  const plaintext = randomBytes(300_000);
  let container: Buffer;

  before(async () => {
    container = (await streams.encrypt(plaintext, { key: 'vault' })).data;
  });

  /** The part of the container that a client sends, and how much of it was read. */
  const partOf = async (range: ByteRange): Promise<Buffer> => {
    const pieces: Buffer[] = [];
    const read = async (position: number, length: number) => container.subarray(position, position + length);
    for await (const piece of bytesOfRange(read, range)) pieces.push(piece);
    return Buffer.concat(pieces);
  };
  const decrypt = async (range: ByteRange, part?: Buffer) =>
    streams.decrypt(part ?? (await partOf(range)), { range: { offset: range.offset, length: range.length } });

  test('comes out of its beginning and the chunks that hold it, and is recorded with its place', async () => {
    world.records.length = 0;
    const range = { offset: 100_000, length: 20_000 };
    const part = await partOf(range);
    assert.equal(part.length, 4096 + 56 + 2 * 16_400); // of 19 chunks
    const { data, done } = await decrypt(range, part);
    assert.ok(data.equals(plaintext.subarray(100_000, 120_000)));
    assert.equal(done.bytesSent, 20_000);
    assert.deepEqual(
      world.records.map(({ operation, outcome, key, detail }) => [operation, outcome, key, detail?.['range']]),
      [
        ['decrypt', 'intent', 'vault/1', range],
        ['decrypt', 'ok', 'vault/1', range],
      ],
    );
  });

  test('may go to the end, or beyond it', async () => {
    for (const range of [{ offset: 290_000 }, { offset: 290_000, length: 50_000 }, { offset: 0 }]) {
      assert.ok((await decrypt(range)).data.equals(plaintext.subarray(range.offset)));
    }
  });

  test('is refused, and recorded, where a chunk of it is cut off, exchanged or behind the end', async () => {
    const range = { offset: 100_000, length: 20_000 };
    const part = await partOf(range);
    await fails(decrypt(range, part.subarray(0, -16_400)), 'INVALID_CIPHERTEXT');
    assert.equal(world.lastRecord.outcome, 'INVALID_CIPHERTEXT');
    await fails(decrypt({ ...range, offset: 0 }, part), 'INVALID_CIPHERTEXT');
    await fails(decrypt(range, Buffer.concat([part, part.subarray(-16_400)])), 'INVALID_REQUEST', /more chunks/);
    await fails(decrypt({ offset: 300_001, length: 1 }), 'INVALID_REQUEST', /ends at 300000/);
    assert.equal(world.lastRecord.outcome, 'INVALID_REQUEST');
  });

  test('of what is no container is refused as the whole is', async () => {
    const range = { offset: 0, length: 1 };
    await fails(decrypt(range, randomBytes(10_000)), 'INVALID_REQUEST', /not a container/);
    await fails(decrypt(range, container.subarray(0, 100)), 'INVALID_CIPHERTEXT');
  });
});

describe('verification by a public key that the caller brings', () => {
  const message = randomBytes(100_001);
  const jwkOf = (key: string): string => {
    const record = world.ports.keys.get('acme', key);
    const [version] = record?.versions ?? [];
    return JSON.stringify({ ...version?.publicJwk, alg: version?.jose });
  };
  const verify = (data: Buffer, opening: Partial<VerifyWithStreamOpening>) => {
    const whole: VerifyWithStreamOpening = { freshness: fresh(), publicJwk: '', signature: undefined, ...opening };
    return collect(streams.run(verifyWithStream, sent(whole, data)));
  };

  for (const [, jose] of SIGNERS) {
    for (const form of ['detached', 'unencoded', 'raw'] as const) {
      test(`${jose} ${form}: takes what SignStream signs and nothing else`, async () => {
        const key = jose.toLowerCase();
        const signed = (await streams.sign(message, { key, form })).done.value;
        const signature = 'jws' in signed ? signed : { raw: signed.signature };
        const opening = { publicJwk: jwkOf(key), signature };
        const { done } = await verify(message, opening);
        assert.deepEqual(done.value, { valid: true });
        assert.equal(done.envelope.keyUsed, undefined);
        assert.equal(world.lastRecord.operation, 'verify-with');
        assert.equal(world.lastRecord.outcome, 'ok');
        assert.equal(typeof world.lastRecord.detail?.['thumbprint'], 'string');
        assert.deepEqual((await verify(Buffer.concat([message, Buffer.of(0)]), opening)).done.value, { valid: false });
        assert.equal(world.lastRecord.outcome, 'SIGNATURE_INVALID');
      });
    }
  }

  test("another key's signature is invalid, another algorithm's is refused", async () => {
    const { value } = (await streams.sign(message, { key: 'es256' })).done;
    assert.ok('jws' in value);
    await fails(verify(message, { publicJwk: jwkOf('ps256'), signature: value }), 'INVALID_REQUEST', /alg/);
    await world.add({ keyId: 'second', algorithm: 'EC-P256', jose: 'ES256', purpose: 'sign' });
    assert.deepEqual((await verify(message, { publicJwk: jwkOf('second'), signature: value })).done.value, {
      valid: false,
    });
  });

  test('what is no public key or no detached signature is refused, and recorded', async () => {
    const raw = randomBytes(64);
    await fails(verify(message, { publicJwk: '{}', signature: { raw } }), 'INVALID_REQUEST');
    assert.equal(world.lastRecord.operation, 'verify-with');
    await fails(verify(message, { publicJwk: jwkOf('es256') }), 'INVALID_REQUEST', /jws or raw/);
    await fails(verify(message, { publicJwk: jwkOf('es256'), signature: { jws: 'e30.YQ.YQ' } }), 'INVALID_REQUEST');
  });
});
