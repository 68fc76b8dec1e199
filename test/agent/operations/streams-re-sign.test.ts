// ReSignStream: the old signature is checked and the new one made over the same pieces, and nothing is signed whose old
// signature does not verify.
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
  ['es256', 'EC-P256', 'ES256'],
  ['rs256', 'RSA-2048', 'RS256'],
  ['ed25519', 'Ed25519', 'Ed25519'],
  ['pq', 'ML-DSA-65', 'ML-DSA-65'],
  ['pair', 'ML-DSA-65-ES256', 'ML-DSA-65-ES256'],
] as const;

const fails = (promise: Promise<unknown>, code: Code, about = /./): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, about);
    return true;
  });

describe('ReSignStream', () => {
  const token = new FakeToken();
  const world = new CryptoWorld(token);
  const streams = new StreamsWorld(world);
  const message = randomBytes(100_001);
  const signed = async (key: string, form: SignatureForm = 'detached', type = ''): Promise<string> => {
    const { value } = await sign(world.ports, aCall(), { key, input: { message }, form, type });
    return 'jws' in value ? value.jws : assert.fail('no JWS');
  };
  const isValid = async (jws: string, key = '') => {
    const { value, envelope } = await verify(world.ports, aCall(), {
      ...{ key, version: 0, signature: { jws }, input: { message } },
    });
    return [value.valid, envelope.keyUsed?.keyId, envelope.keyUsed?.version];
  };
  const headerOf = (jws: string) => JSON.parse(Buffer.from(jws.split('.')[0] as string, 'base64url').toString());

  before(async () => {
    for (const [keyId, algorithm, jose] of KEYS) {
      const custody = keyId === 'pq' ? 'wrapped' : keyId === 'pair' ? 'split' : 'hsm';
      await world.add({ keyId, algorithm, jose, purpose: 'sign', custody });
    }
  });

  for (const [from] of KEYS) {
    const to = from === 'pair' ? 'es256' : 'pair';
    for (const form of ['detached', 'unencoded'] as const) {
      test(`${from}, ${form}: goes to ${to} in the same form and type, with both keys in the record`, async () => {
        const jws = await signed(from, form, 'archive+jws');
        world.records.length = 0;
        const { done, data, begun } = await streams.reSign(message, { jws, targetKey: to }, undefined, 7_777);
        assert.deepEqual([data.length, begun, done.bytesReceived], [0, undefined, message.length]);
        assert.deepEqual(done.value.sourceKeyUsed, { keyId: from, version: 1 });
        assert.equal(done.value.sourceAlgorithmUsed, headerOf(jws).alg);
        assert.deepEqual(done.envelope.keyUsed, { keyId: to, version: 1 });
        const header = headerOf(done.value.jws);
        assert.deepEqual([header.typ, header.b64, header.kid], ['archive+jws', headerOf(jws).b64, `acme/${to}/1`]);
        const { operation, outcome, key, detail } = world.lastRecord;
        assert.deepEqual([operation, outcome, key, detail?.['source']], ['re-sign', 'ok', `${to}/1`, `${from}/1`]);
        assert.equal(world.records.length, 1);
        assert.deepEqual(await isValid(done.value.jws), [true, to, 1]);
      });
    }
  }

  test('without a target the primary version of the same key signs', async () => {
    await world.add({ keyId: 'turned', algorithm: 'EC-P256', purpose: 'sign' });
    const jws = await signed('turned');
    await world.rotate('turned');
    const { done } = await streams.reSign(message, { jws });
    assert.equal(done.value.sourceKeyUsed.version, 1);
    assert.deepEqual(await isValid(done.value.jws), [true, 'turned', 2]);
  });

  test('other data, less of it or another signature is SIGNATURE_INVALID, and the token signs nothing', async () => {
    const jws = await signed('es256');
    const [header, , signature = ''] = jws.split('.');
    const forged = Buffer.from(signature, 'base64url');
    forged[5] = (forged[5] as number) ^ 1;
    const before = token.calls.get('sign') ?? 0;
    for (const [data, text] of [
      [randomBytes(message.length), jws],
      [message.subarray(0, -1), jws],
      [message, `${header}..${forged.toString('base64url')}`],
    ] as const) {
      await fails(streams.reSign(data, { jws: text, targetKey: 'rs256' }), 'SIGNATURE_INVALID');
      const { outcome, operation, detail } = world.lastRecord;
      assert.deepEqual([operation, outcome, detail?.['source']], ['re-sign', 'SIGNATURE_INVALID', undefined]);
    }
    assert.equal(token.calls.get('sign') ?? 0, before);
  });

  test('refuses at the opening what no stream can be', async () => {
    await fails(streams.reSign(message, { jws: '' }), 'INVALID_REQUEST');
    const compact = await signed('es256', 'compact');
    await fails(streams.reSign(message, { jws: compact }), 'INVALID_REQUEST', /carries its payload/);
    const jws = await signed('es256');
    await fails(streams.reSign(message, { jws, sourceKey: 'rs256' }), 'INVALID_REQUEST', /names another key/);
    await fails(streams.reSign(message, { jws, targetKey: 'nobody' }), 'KEY_UNKNOWN');
    const [, , rest] = jws.split('.');
    const renamed = Buffer.from('{"alg":"ES384","kid":"acme/es256/1"}').toString('base64url');
    await fails(streams.reSign(message, { jws: `${renamed}..${rest}` }), 'INVALID_REQUEST', /alg/);
    const none = Buffer.from('{"alg":"none"}').toString('base64url');
    await fails(streams.reSign(message, { jws: `${none}..`, sourceKey: 'es256' }), 'ALGORITHM_FORBIDDEN');
  });

  test('needs the scopes of both sides, and is of the caller’s tenant alone', async () => {
    const jws = await signed('es256');
    const { caller } = aCall();
    for (const scope of ['crypto.sign', 'crypto.verify'] as const) {
      const call = aCall('acme', { caller: { ...caller, scopes: new Set([scope]) } });
      await fails(streams.reSign(message, { jws }, call), 'PERMISSION_DENIED', /needs the scope/);
    }
    await fails(streams.reSign(message, { jws }, aCall('globex')), 'PERMISSION_DENIED');
  });

  test('a token that is away when the data has come is told, and recorded', async () => {
    const jws = await signed('es256');
    token.fail({ method: 'sign', code: 'HSM_UNAVAILABLE' });
    await fails(streams.reSign(message, { jws, targetKey: 'rs256' }), 'HSM_UNAVAILABLE');
    assert.equal(world.lastRecord.outcome, 'HSM_UNAVAILABLE');
  });

  test('algorithms that sign the message whole have the limit of the unary calls', async () => {
    const large = randomBytes(800 * 1024);
    const { value } = await sign(world.ports, aCall(), {
      ...{ key: 'es256', input: { message: large }, form: 'detached', type: '' },
    });
    assert.ok('jws' in value);
    await fails(streams.reSign(large, { jws: value.jws, targetKey: 'ed25519' }), 'TOO_LARGE', /Ed25519/);
  });
});
