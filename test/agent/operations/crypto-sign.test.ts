// Sign, Verify, VerifyWith, Mac, VerifyMac and GenerateRandom through the whole chain, with a fake token.
import assert from 'node:assert/strict';
import { createHmac, createPublicKey, generateKeyPairSync, hash, type JsonWebKey, randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { CompactSign, compactVerify, flattenedVerify } from 'jose';
import { SIGNATURE_ALGORITHMS } from '../../../agent/crypto/signature-algorithms.ts';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { generateRandom } from '../../../agent/operations/generate-random.ts';
import { mac } from '../../../agent/operations/mac.ts';
import { type SignInput, sign } from '../../../agent/operations/sign.ts';
import { type VerifyInput, verify } from '../../../agent/operations/verify.ts';
import { verifyMac } from '../../../agent/operations/verify-mac.ts';
import { verifyWith } from '../../../agent/operations/verify-with.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';

const message = Buffer.from('It is a dangerous business');

const fails = (promise: Promise<unknown>, code: Code, about?: RegExp): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (about !== undefined) assert.match(thrown.message, about);
    return true;
  });

const encodeHeader = (header: unknown): string => Buffer.from(JSON.stringify(header)).toString('base64url');
const headerOf = (jws: string) => JSON.parse(Buffer.from(jws.split('.')[0] as string, 'base64url').toString());
const withHeader = (jws: string, change: object): string =>
  [encodeHeader({ ...headerOf(jws), ...change }), ...jws.split('.').slice(1)].join('.');
const flip = (bytes: Buffer): Buffer => {
  const copy = Buffer.from(bytes);
  copy[copy.length >> 1] = (copy[copy.length >> 1] as number) ^ 1;
  return copy;
};

const KEYS: readonly [keyId: string, algorithm: string, jose: string, custody?: 'wrapped'][] = [
  ['rs256', 'RSA-2048', 'RS256'],
  ['rs384', 'RSA-2048', 'RS384'],
  ['rs512', 'RSA-2048', 'RS512'],
  ['ps256', 'RSA-2048', 'PS256'],
  ['ps384', 'RSA-2048', 'PS384'],
  ['ps512', 'RSA-2048', 'PS512'],
  ['es256', 'EC-P256', 'ES256'],
  ['es384', 'EC-P384', 'ES384'],
  ['es512', 'EC-P521', 'ES512'],
  ['ed25519', 'Ed25519', 'Ed25519'],
  ['ed25519-wrapped', 'Ed25519', 'Ed25519', 'wrapped'],
];

describe('sign and verify', () => {
  const token = new FakeToken();
  const world = new CryptoWorld(token);
  const { ports } = world;
  const signWith = async (key: string, more: Partial<SignInput> = {}) =>
    (await sign(ports, aCall(), { key, input: { message }, form: 'compact', type: '', ...more })).value;
  const jwsBy = async (key: string, more: Partial<SignInput> = {}): Promise<string> => {
    const value = await signWith(key, more);
    assert.ok('jws' in value);
    return value.jws;
  };
  const rawBy = async (key: string, input: SignInput['input']): Promise<Buffer> => {
    const value = await signWith(key, { input, form: 'raw' });
    assert.ok('signature' in value);
    return value.signature;
  };
  const check = async (more: Partial<VerifyInput>) =>
    (await verify(ports, aCall(), { key: '', version: 0, signature: undefined, input: undefined, ...more })).value;
  const publicKeyOf = (key: string, version = 1) =>
    createPublicKey({ key: world.version(key, version).publicJwk as JsonWebKey, format: 'jwk' });

  before(async () => {
    for (const [keyId, algorithm, jose, custody] of KEYS) {
      await world.add({ keyId, algorithm, jose, purpose: 'sign', ...(custody && { custody }) });
    }
    await world.add({ keyId: 'aes', algorithm: 'AES-256', purpose: 'encrypt' });
  });

  for (const [key, , alg, custody] of KEYS) {
    test(`${key}: a compact JWS verifies here and in jose, and gives back its payload`, async () => {
      const jws = await jwsBy(key, { type: 'example+json' });
      assert.deepEqual(headerOf(jws), { alg, kid: `acme/${key}/1`, typ: 'example+json' });
      const theirs = await compactVerify(jws, publicKeyOf(key));
      assert.ok(Buffer.from(theirs.payload).equals(message));
      const ours = await check({ signature: { jws } });
      assert.ok(ours.valid && ours.payload?.equals(message));
      assert.equal(world.lastRecord.key, `${key}/1`);
      assert.equal(world.lastRecord.algorithm, alg);
    });

    test(`${key}: detached and unencoded JWS verify only with their message`, async () => {
      const detached = await jwsBy(key, { form: 'detached' });
      const unencoded = await jwsBy(key, { form: 'unencoded' });
      assert.deepEqual(headerOf(unencoded), { alg, kid: `acme/${key}/1`, b64: false, crit: ['b64'] });
      for (const jws of [detached, unencoded]) {
        const [header, payload, signature] = jws.split('.') as [string, string, string];
        assert.equal(payload, '');
        assert.deepEqual(await check({ signature: { jws }, input: { message } }), { valid: true });
        assert.deepEqual(await check({ signature: { jws }, input: { message: flip(message) } }), { valid: false });
        assert.equal(world.lastRecord.outcome, 'SIGNATURE_INVALID');
        await fails(check({ signature: { jws } }), 'INVALID_REQUEST', /^message: /);
        const body = jws === unencoded ? message.toString() : message.toString('base64url');
        await flattenedVerify({ protected: header, payload: body, signature }, publicKeyOf(key));
      }
    });

    test(`${key}: a raw signature verifies over the message, and over its digest where there is one`, async () => {
      const { digest: name } = SIGNATURE_ALGORITHMS.get(alg) ?? {};
      const inputs = [{ message }, ...(name === undefined ? [] : [{ digest: hash(name, message, 'buffer') }])];
      for (const made of inputs) {
        const raw = await rawBy(key, made);
        for (const input of inputs) {
          assert.deepEqual(await check({ key, signature: { raw }, input }), { valid: true });
          assert.deepEqual(await check({ key, signature: { raw: flip(raw) }, input }), { valid: false });
        }
        assert.deepEqual(await check({ key, signature: { raw }, input: { message: flip(message) } }), { valid: false });
      }
      const lengths = [Buffer.alloc(0), randomBytes(1), randomBytes(64), randomBytes(257), Buffer.alloc(256, 0xff)];
      for (const raw of lengths) {
        for (const input of inputs) assert.deepEqual(await check({ key, signature: { raw }, input }), { valid: false });
      }
      const digest = { digest: randomBytes(name === undefined ? 32 : 20) };
      await fails(rawBy(key, digest), 'INVALID_REQUEST', /^digest: /);
      await fails(check({ key, signature: { raw: randomBytes(64) }, input: digest }), 'INVALID_REQUEST', /^digest: /);
    });

    if (custody === 'wrapped') {
      test(`${key}: signs without the token`, async () => {
        const before = token.calls.get('sign');
        await jwsBy(key);
        assert.equal(token.calls.get('sign'), before);
      });
    }
  }

  test('a JWS over nothing verifies without a message', async () => {
    const jws = await jwsBy('es256', { input: { message: Buffer.alloc(0) } });
    const { valid, payload } = await check({ signature: { jws } });
    assert.ok(valid && payload?.length === 0);
    assert.ok((await check({ signature: { jws }, input: { message: Buffer.alloc(0) } })).valid);
  });

  test('a changed header, payload or signature is an answer, not an error', async () => {
    const jws = await jwsBy('es256');
    const [header, payload, signature] = jws.split('.') as [string, string, string];
    const other = (text: string): string => flip(Buffer.from(text, 'base64url')).toString('base64url');
    for (const changed of [
      withHeader(jws, { typ: 'JWT' }),
      [header, other(payload), signature].join('.'),
      [header, payload, other(signature)].join('.'),
      [header, payload, ''].join('.'),
      [header, payload, 'AAAA'].join('.'),
      [header, payload, Buffer.alloc(64).toString('base64url')].join('.'),
    ]) {
      assert.deepEqual(await check({ signature: { jws: changed } }), { valid: false });
      assert.equal(world.lastRecord.outcome, 'SIGNATURE_INVALID');
    }
  });

  test('the header cannot choose the algorithm', async () => {
    const jws = await jwsBy('es256');
    for (const alg of ['ES384', 'RS256', 'HS256', 'Ed25519', 'EdDSA', 'ES256K']) {
      await fails(check({ signature: { jws: withHeader(jws, { alg }) } }), 'INVALID_REQUEST', /"alg"/);
    }
    for (const alg of ['none', 'None', 'RS1']) {
      await fails(check({ signature: { jws: withHeader(jws, { alg }) } }), 'ALGORITHM_FORBIDDEN');
      await fails(check({ key: 'es256', signature: { jws: withHeader(jws, { alg }) } }), 'ALGORITHM_FORBIDDEN');
    }
    const hmac = `${encodeHeader({ alg: 'HS256', kid: 'acme/rs256/1' })}.${message.toString('base64url')}`;
    const pem = publicKeyOf('rs256').export({ type: 'spki', format: 'pem' });
    const forged = `${hmac}.${createHmac('sha256', pem).update(hmac).digest('base64url')}`;
    await fails(check({ signature: { jws: forged } }), 'INVALID_REQUEST', /"alg"/);
  });

  test('the kid of another tenant is refused, and key, kid and version must agree', async () => {
    const jws = await jwsBy('es256');
    await fails(check({ signature: { jws: withHeader(jws, { kid: 'globex/es256/1' }) } }), 'PERMISSION_DENIED');
    await fails(check({ key: 'es384', signature: { jws } }), 'INVALID_REQUEST', /^key: /);
    await fails(check({ version: 2, signature: { jws } }), 'INVALID_REQUEST', /^version: /);
    await fails(check({ signature: { jws: withHeader(jws, { kid: 'x' }) } }), 'INVALID_REQUEST', /^key: /);
    await fails(check({ signature: { raw: randomBytes(64) }, input: { message } }), 'INVALID_REQUEST', /^key: /);
    assert.ok((await check({ key: 'acme/es256', version: 1, signature: { jws } })).valid);
  });

  test('after rotation each version verifies its own, and a JWS without our kid finds the one that fits', async () => {
    await world.add({ keyId: 'turning', algorithm: 'EC-P256', purpose: 'sign' });
    const old = { jws: await jwsBy('turning'), raw: await rawBy('turning', { message }) };
    await world.rotate('turning');
    const key = 'turning';
    assert.equal(headerOf(await jwsBy(key)).kid, 'acme/turning/2');
    assert.ok((await check({ signature: { jws: old.jws } })).valid);
    assert.ok(!(await check({ key, signature: { raw: old.raw }, input: { message } })).valid);
    assert.ok((await check({ key, version: 1, signature: { raw: old.raw }, input: { message } })).valid);
    const header = encodeHeader({ alg: 'ES256' });
    const input = Buffer.from(`${header}.${message.toString('base64url')}`);
    const signature = await token.sign(
      world.version(key, 1).tokenId as string,
      'ES256',
      hash('sha256', input, 'buffer'),
      { tenant: 'acme', deadline: Date.now() + 9999, signal: new AbortController().signal },
    );
    const nameless = `${input}.${signature.toString('base64url')}`;
    const { envelope } = await verify(ports, aCall(), {
      key,
      version: 0,
      signature: { jws: nameless },
      input: undefined,
    });
    assert.deepEqual(envelope.keyUsed, { keyId: 'turning', version: 1 });
    assert.ok((await check({ key, version: 1, signature: { jws: nameless } })).valid);
    assert.ok(!(await check({ key, version: 2, signature: { jws: nameless } })).valid);
  });

  test('ill-fitting requests name their field', async () => {
    const jws = await jwsBy('es256');
    const digest = randomBytes(32);
    await fails(signWith('es256', { input: undefined }), 'INVALID_REQUEST', /^input: /);
    await fails(signWith('es256', { input: { digest } }), 'INVALID_REQUEST', /^digest: /);
    await fails(signWith('es256', { form: 'raw', type: 'JWT' }), 'INVALID_REQUEST', /^type: /);
    await fails(signWith('es256', { form: undefined }), 'INVALID_REQUEST', /^form: /);
    await fails(signWith('es256', { type: 'x'.repeat(128) }), 'INVALID_REQUEST', /^type: /);
    await fails(signWith('es256', { type: 'a\nb' }), 'INVALID_REQUEST', /^type: /);
    await fails(signWith('aes'), 'INVALID_REQUEST', /^key: /);
    await fails(check({}), 'INVALID_REQUEST', /^signature: /);
    await fails(check({ key: 'es256', signature: { raw: digest } }), 'INVALID_REQUEST', /^input: /);
    await fails(check({ signature: { jws }, input: { message } }), 'INVALID_REQUEST', /^message: /);
    await fails(check({ signature: { jws }, input: { digest } }), 'INVALID_REQUEST', /^digest: /);
  });

  test('what is over the limits is TOO_LARGE with its field', async () => {
    const big = Buffer.alloc(2 * 1024 * 1024 + 1);
    await fails(signWith('es256', { input: { message: big } }), 'TOO_LARGE', /^message: /);
    await fails(
      signWith('ed25519', { input: { message: big.subarray(0, 767 * 1024 + 1) } }),
      'TOO_LARGE',
      /^message: /,
    );
    await fails(check({ signature: { jws: 'a'.repeat(3 * 2 ** 20 + 1) } }), 'TOO_LARGE', /^jws: /);
    const raw = { raw: Buffer.alloc(65_537) };
    await fails(check({ key: 'es256', signature: raw, input: { message } }), 'TOO_LARGE', /^raw: /);
    const limit = { message: big.subarray(1) };
    const jws = await jwsBy('es256', { input: limit });
    assert.ok((await check({ signature: { jws } })).valid);
  });

  test('a request that is refused for its digest takes no use of the key', async () => {
    const before = world.uses;
    await fails(rawBy('es256', { digest: randomBytes(31) }), 'INVALID_REQUEST');
    assert.equal(world.uses, before);
  });

  test('failures of the token keep their code and are recorded', async () => {
    for (const code of ['HSM_BUSY', 'HSM_UNAVAILABLE'] as const) {
      token.fail({ method: 'sign', code });
      await fails(signWith('es256'), code);
      assert.equal(world.lastRecord.outcome, code);
    }
  });
});

describe('verify with a public JWK', () => {
  const world = new CryptoWorld(new FakeToken());
  const checkWith = async (publicJwk: object, more: Omit<Partial<VerifyInput>, 'key'>) =>
    verifyWith(world.ports, aCall(), {
      publicJwk: JSON.stringify(publicJwk),
      signature: undefined,
      input: undefined,
      ...more,
    });
  const pairs = {
    RSA: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    'P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    'P-384': generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    'P-521': generateKeyPairSync('ec', { namedCurve: 'P-521' }),
    Ed25519: generateKeyPairSync('ed25519'),
  };
  const jwkOf = (name: keyof typeof pairs) => pairs[name].publicKey.export({ format: 'jwk' });
  const jwsBy = (name: keyof typeof pairs, alg: string): Promise<string> =>
    new CompactSign(message).setProtectedHeader({ alg }).sign(pairs[name].privateKey);

  test('reads what jose signs with every algorithm, whatever kid it has', async () => {
    for (const [alg, row] of [...SIGNATURE_ALGORITHMS, ['EdDSA', { crv: 'Ed25519' }] as const]) {
      const name = (row.crv ?? 'RSA') as keyof typeof pairs;
      const jws = await jwsBy(name, alg);
      const { value, envelope } = await checkWith(jwkOf(name), { signature: { jws } });
      assert.ok(value.valid && value.payload?.equals(message), alg);
      assert.equal(envelope.keyUsed, undefined);
      assert.equal(envelope.keyRequested.length, 43);
      assert.equal(envelope.algorithmUsed, alg === 'EdDSA' ? 'Ed25519' : alg);
    }
  });

  test('a wrong key is an answer', async () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
    const { value } = await checkWith(other, { signature: { jws: await jwsBy('P-256', 'ES256') } });
    assert.deepEqual(value, { valid: false });
    assert.equal(world.lastRecord.outcome, 'SIGNATURE_INVALID');
  });

  test('the algorithm must fit the key, its alg and its use', async () => {
    const jws = await jwsBy('RSA', 'PS256');
    const RSA = jwkOf('RSA');
    await fails(checkWith(jwkOf('P-256'), { signature: { jws } }), 'INVALID_REQUEST', /^jws: /);
    await fails(checkWith({ ...RSA, alg: 'RS256' }, { signature: { jws } }), 'INVALID_REQUEST', /^jws: /);
    await fails(checkWith({ ...RSA, use: 'enc' }, { signature: { jws } }), 'INVALID_REQUEST', /"use"/);
    await fails(checkWith({ ...RSA, alg: 'RSA1_5' }, { signature: { jws } }), 'ALGORITHM_FORBIDDEN');
    await fails(checkWith(RSA, { signature: { jws: withHeader(jws, { alg: 'none' }) } }), 'ALGORITHM_FORBIDDEN');
    assert.ok((await checkWith({ ...RSA, alg: 'PS256', use: 'sig' }, { signature: { jws } })).value.valid);
  });

  test('a raw signature needs the alg of the JWK', async () => {
    const jws = await jwsBy('P-256', 'ES256');
    const raw = Buffer.from(jws.split('.')[2] as string, 'base64url');
    const input = { message: Buffer.from(jws.slice(0, jws.lastIndexOf('.'))) };
    await fails(checkWith(jwkOf('P-256'), { signature: { raw }, input }), 'INVALID_REQUEST', /^public_jwk: "alg"/);
    const jwk = { ...jwkOf('P-256'), alg: 'ES256' };
    assert.ok((await checkWith(jwk, { signature: { raw }, input })).value.valid);
    const digest = hash('sha256', input.message, 'buffer');
    assert.ok((await checkWith(jwk, { signature: { raw }, input: { digest } })).value.valid);
    await fails(checkWith({ ...jwk, alg: 'ES384' }, { signature: { raw }, input }), 'INVALID_REQUEST', /^public_jwk: /);
  });

  test('policy decides by the size of the key', async () => {
    world.refuses = (question) => (question.algorithm === 'RSA-2048' ? 'POLICY_DENIED' : undefined);
    await fails(checkWith(jwkOf('RSA'), { signature: { jws: await jwsBy('RSA', 'PS256') } }), 'POLICY_DENIED');
    world.refuses = () => undefined;
  });
});

describe('MACs and random bytes', () => {
  const token = new FakeToken();
  const world = new CryptoWorld(token);
  const { ports } = world;
  before(async () => {
    for (const bits of [256, 384, 512]) {
      await world.add({ keyId: `hs${bits}`, algorithm: `HMAC-SHA${bits}`, purpose: 'mac' });
    }
  });
  const macBy = async (key: string): Promise<Buffer> => (await mac(ports, aCall(), { key, message })).value.mac;
  const check = async (key: string, given: Buffer, more: { message?: Buffer; version?: number } = {}) =>
    (await verifyMac(ports, aCall(), { key, message, mac: given, version: 0, ...more })).value.valid;

  test('a MAC verifies with its key and message only', async () => {
    for (const bits of [256, 384, 512]) {
      const made = await macBy(`hs${bits}`);
      assert.equal(made.length, bits / 8);
      assert.ok(await check(`hs${bits}`, made));
      assert.ok(!(await check(`hs${bits}`, flip(made))));
      assert.equal(world.lastRecord.outcome, 'SIGNATURE_INVALID');
      assert.ok(!(await check(`hs${bits}`, made, { message: flip(message) })));
    }
  });

  test('truncated and lengthened MACs are refused', async () => {
    const made = await macBy('hs256');
    for (const wrong of [Buffer.alloc(0), made.subarray(0, 16), made.subarray(0, 31), Buffer.concat([made, made])]) {
      await fails(check('hs256', wrong), 'INVALID_REQUEST', /^mac: /);
    }
  });

  test('after rotation a MAC verifies with its version', async () => {
    const made = await macBy('hs512');
    await world.rotate('hs512');
    assert.ok(!(await check('hs512', made)));
    assert.ok(await check('hs512', made, { version: 1 }));
    await fails(check('hs512', made, { version: 7 }), 'KEY_UNKNOWN');
  });

  test('messages are bounded by what the token takes in one request', async () => {
    const over = Buffer.alloc(2 ** 20 + 1);
    await fails(mac(ports, aCall(), { key: 'hs256', message: over }), 'TOO_LARGE', /^message: /);
    await fails(check('hs256', Buffer.alloc(32), { message: over }), 'TOO_LARGE', /^message: /);
  });

  test('random bytes come in the length asked for, and policy is asked', async () => {
    for (const length of [1, 16, 65_536]) {
      const { value } = await generateRandom(ports, aCall(), { length });
      assert.equal(value.random.length, length);
    }
    assert.equal(world.questions.at(-1)?.operation, 'generate-random');
    for (const length of [0, 65_537, 1.5, Number.NaN]) {
      await fails(generateRandom(ports, aCall(), { length }), 'INVALID_REQUEST', /^length: /);
    }
    world.refuses = () => 'POLICY_DENIED';
    await fails(generateRandom(ports, aCall(), { length: 8 }), 'POLICY_DENIED');
    world.refuses = () => undefined;
    token.fail({ method: 'random', code: 'HSM_UNAVAILABLE' });
    await fails(generateRandom(ports, aCall(), { length: 8 }), 'HSM_UNAVAILABLE');
  });
});
