// SignStream and VerifyStream: the signatures of the unary calls, over data that comes in pieces.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { type SignatureForm, sign } from '../../../agent/operations/sign.ts';
import { verify } from '../../../agent/operations/verify.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';
import { StreamsWorld } from './streams-world.ts';

const KEYS = [
  ['EC-P256', 'ES256'],
  ['EC-P384', 'ES384'],
  ['EC-P521', 'ES512'],
  ['RSA-2048', 'RS256'],
  ['RSA-2048', 'PS384'],
  ['Ed25519', 'Ed25519'],
] as const;
const FORMS = ['detached', 'unencoded', 'raw'] as const;

const fails = (promise: Promise<unknown>, code: Code, about = /./): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, about);
    return true;
  });

describe('streams of signed data', () => {
  const token = new FakeToken();
  const world = new CryptoWorld(token);
  const streams = new StreamsWorld(world);
  const message = randomBytes(100_001);
  const signature = async (key: string, form: SignatureForm, data = message, pieceBytes?: number) =>
    (await streams.sign(data, { key, form }, pieceBytes)).done.value;
  const toVerify = (given: { jws: string } | { signature: Buffer }) =>
    'jws' in given ? given : { raw: given.signature };

  before(async () => {
    for (const [algorithm, jose] of KEYS) {
      await world.add({ keyId: jose.toLowerCase(), algorithm, jose, purpose: 'sign' });
    }
    await world.add({ keyId: 'wrapped', algorithm: 'Ed25519', purpose: 'sign', custody: 'wrapped' });
  });

  for (const [, jose] of KEYS) {
    const key = jose.toLowerCase();
    for (const form of FORMS) {
      test(`${jose} ${form}: signs what Verify takes, and takes what Sign signs`, async () => {
        const signed = toVerify(await signature(key, form, message, 7_777));
        const checked = await verify(world.ports, aCall(), { key, version: 0, signature: signed, input: { message } });
        assert.equal(checked.value.valid, true);
        const { value } = await sign(world.ports, aCall(), { key, input: { message }, form, type: '' });
        const opening = { key, signature: toVerify(value) };
        assert.deepEqual((await streams.verify(message, opening, 9_998)).done.value, { valid: true });
        const wrong = Buffer.concat([message, Buffer.of(0)]);
        assert.deepEqual((await streams.verify(wrong, opening)).done.value, { valid: false });
        assert.equal(world.lastRecord.outcome, 'SIGNATURE_INVALID');
      });
    }
  }

  test('base64url of the pieces is that of the whole, whatever their sizes', async () => {
    for (const length of [0, 1, 2, 3, 4, 5, 100]) {
      const data = randomBytes(length);
      for (const pieceBytes of [1, 2, 3, 4, 5]) {
        const jws = toVerify(await signature('es256', 'detached', data, pieceBytes));
        const { value } = await verify(world.ports, aCall(), {
          key: 'es256',
          version: 0,
          signature: jws,
          input: { message: data },
        });
        assert.equal(value.valid, true, `${length} bytes in pieces of ${pieceBytes}`);
      }
    }
  });

  test('one record at the end, with the bytes and the key, and one use', async () => {
    world.records.length = 0;
    const uses = world.uses;
    const { done, data, begun } = await streams.sign(message, { key: 'es256', type: 'archive+jws' });
    assert.deepEqual([data.length, begun], [0, undefined]);
    assert.equal(done.bytesReceived, message.length);
    assert.deepEqual(done.envelope.keyUsed, { keyId: 'es256', version: 1 });
    assert.deepEqual(
      world.records.map(({ outcome, key }) => [outcome, key]),
      [['ok', 'es256/1']],
    );
    assert.equal(world.lastRecord.detail?.['bytesReceived'], message.length);
    assert.equal(world.uses, uses + 1);
    assert.ok('jws' in done.value);
    const header = JSON.parse(Buffer.from(done.value.jws.split('.')[0] as string, 'base64url').toString());
    assert.deepEqual(header, { alg: 'ES256', kid: 'acme/es256/1', typ: 'archive+jws' });
  });

  test('the kid of the JWS names the key, and a rotated key verifies what it signed before', async () => {
    await world.add({ keyId: 'turned', algorithm: 'EC-P256', purpose: 'sign' });
    const jws = toVerify(await signature('turned', 'detached'));
    const raw = toVerify(await signature('turned', 'raw'));
    await world.rotate('turned');
    assert.equal((await streams.verify(message, { signature: jws })).done.value.valid, true);
    assert.equal((await streams.verify(message, { key: 'turned', signature: raw })).done.value.valid, false);
    assert.equal((await streams.verify(message, { key: 'turned', version: 1, signature: raw })).done.value.valid, true);
  });

  test('algorithms that sign the message whole have the limit of the unary calls', async () => {
    const limit = 1024 * 1024;
    assert.ok('signature' in (await signature('ed25519', 'raw', randomBytes(limit))));
    assert.ok('signature' in (await signature('wrapped', 'raw', randomBytes(limit))));
    await fails(signature('ed25519', 'raw', randomBytes(limit + 1)), 'TOO_LARGE', /Ed25519 signs the message whole/);
    assert.equal(world.lastRecord.outcome, 'TOO_LARGE');
    await fails(signature('ed25519', 'detached', randomBytes(limit)), 'TOO_LARGE');
    const raw = toVerify(await signature('ed25519', 'raw'));
    await fails(streams.verify(randomBytes(2 * limit + 1), { key: 'ed25519', signature: raw }), 'TOO_LARGE');
  });

  test('refuses at the opening what no stream can be', async () => {
    await fails(signature('es256', 'compact'), 'INVALID_REQUEST', /inside its signature/);
    await fails(streams.sign(message, { key: 'es256', form: undefined }), 'INVALID_REQUEST', /form/);
    await fails(streams.sign(message, { key: 'es256', form: 'raw', type: 'x' }), 'INVALID_REQUEST', /no header/);
    await fails(streams.verify(message, { key: 'es256' }), 'INVALID_REQUEST', /signature/);
    const { value } = await sign(world.ports, aCall(), { key: 'es256', input: { message }, form: 'compact', type: '' });
    await fails(streams.verify(message, { signature: toVerify(value) }), 'INVALID_REQUEST', /carries its payload/);
    const other = toVerify(await signature('es384', 'detached'));
    await fails(streams.verify(message, { key: 'es256', signature: other }), 'INVALID_REQUEST', /names another key/);
  });

  test('the header cannot choose the algorithm', async () => {
    const given = await signature('rs256', 'detached');
    assert.ok('jws' in given);
    const [, , rest] = given.jws.split('.');
    const header = { alg: 'PS256', kid: 'acme/rs256/1' };
    const jws = `${Buffer.from(JSON.stringify(header)).toString('base64url')}..${rest}`;
    await fails(streams.verify(message, { signature: { jws } }), 'INVALID_REQUEST', /alg/);
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}..`;
    await fails(streams.verify(message, { key: 'rs256', signature: { jws: none } }), 'ALGORITHM_FORBIDDEN');
  });

  test('a token that is away when the data has come is told, and recorded', async () => {
    token.fail({ method: 'sign', code: 'HSM_UNAVAILABLE' });
    await fails(signature('es256', 'raw'), 'HSM_UNAVAILABLE');
    assert.equal(world.lastRecord.outcome, 'HSM_UNAVAILABLE');
    assert.equal(world.lastRecord.detail?.['bytesReceived'], message.length);
  });

  test('a raw signature of a composite has its context string, other algorithms and a JWS have none', async () => {
    await world.add({ keyId: 'pair', algorithm: 'ML-DSA-65-ES256', purpose: 'sign', custody: 'split' });
    const context = Buffer.from('backups');
    const made = (await streams.sign(message, { key: 'pair', form: 'raw', context })).done.value;
    const opening = { key: 'pair', signature: toVerify(made) };
    assert.deepEqual((await streams.verify(message, { ...opening, context })).done.value, { valid: true });
    assert.deepEqual((await streams.verify(message, opening)).done.value, { valid: false });
    const asked = { key: 'pair', version: 0, signature: toVerify(made), input: { message }, context };
    assert.deepEqual((await verify(world.ports, aCall(), asked)).value, { valid: true });
    await fails(streams.sign(message, { key: 'pair', form: 'detached', context }), 'INVALID_REQUEST', /form RAW/);
    await fails(streams.sign(message, { key: 'es256', form: 'raw', context }), 'INVALID_REQUEST', /no context string/);
    const jws = { key: '', signature: toVerify(await signature('pair', 'detached')) };
    await fails(streams.verify(message, { ...jws, context }), 'INVALID_REQUEST', /only with a raw signature/);
  });
});
