// Sign, Verify, VerifyWith and ReSign with post-quantum and composite keys through the whole chain, and every way of passing
// a half of a composite signature for a whole one.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, hash, randomBytes, verify as verifySignature } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { calculateJwkThumbprint, compactVerify } from 'jose';
import { COMPOSITE_SIGNATURES, messageRepresentative, splitHalves } from '../../../agent/crypto/composite-signature.ts';
import { derOfEcdsa } from '../../../agent/crypto/ecdsa-der.ts';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { getPublicKey } from '../../../agent/operations/get-public-key.ts';
import { reSign } from '../../../agent/operations/re-sign.ts';
import { type SignInput, sign } from '../../../agent/operations/sign.ts';
import { type VerifyInput, verify } from '../../../agent/operations/verify.ts';
import { verifyWith } from '../../../agent/operations/verify-with.ts';
import { COMPOSITE_RULES } from '../../../proto/documents/composite-verification.ts';
import { FakeToken } from '../../fakes/token.ts';
import { NOBLE } from '../../support/noble-signatures.ts';
import { aCall, CryptoWorld, NO_AAD } from './crypto-world.ts';

const message = Buffer.from('It is a dangerous business');
const fails = (promise: Promise<unknown>, code: Code, about?: RegExp): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (about !== undefined) assert.match(thrown.message, about);
    return true;
  });
const flipAt = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
};
const segments = (jws: string): [string, string, string] => jws.split('.') as [string, string, string];

const PURE = ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87', 'SLH-DSA-SHA2-128f', 'SLH-DSA-SHAKE-128f'];
const COMPOSITES: readonly [keyId: string, algorithm: string, custody: 'split' | 'wrapped'][] = [
  ['c44-es256', 'ML-DSA-44-ES256', 'split'],
  ['c65-es256', 'ML-DSA-65-ES256', 'split'],
  ['c87-es384', 'ML-DSA-87-ES384', 'split'],
  ['c44-ed', 'ML-DSA-44-Ed25519', 'split'],
  ['c65-ed', 'ML-DSA-65-Ed25519', 'split'],
  ['c65-ed-wrapped', 'ML-DSA-65-Ed25519', 'wrapped'],
  ['c65-rsa', 'ML-DSA-65-RSA3072-PSS', 'split'],
];

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
const rawBy = async (key: string, input: SignInput['input'] = { message }): Promise<Buffer> => {
  const value = await signWith(key, { input, form: 'raw' });
  assert.ok('signature' in value);
  return value.signature;
};
const performed = (more: Partial<VerifyInput>) =>
  verify(ports, aCall(), { key: '', version: 0, signature: undefined, input: undefined, ...more });
const check = async (more: Partial<VerifyInput>) => (await performed(more)).value;
const jwkOf = (key: string) => world.version(key).publicJwk ?? assert.fail();
const pubOf = (key: string) => Buffer.from(jwkOf(key)['pub'] ?? '', 'base64url');
const checkWith = async (jwk: object, signature: { jws: string } | { raw: Buffer }, input?: { message: Buffer }) =>
  (await verifyWith(ports, aCall(), { publicJwk: JSON.stringify(jwk), signature, input })).value;

before(async () => {
  for (const algorithm of PURE) await world.add({ keyId: algorithm.toLowerCase(), algorithm, purpose: 'sign' });
  for (const [keyId, algorithm, custody] of COMPOSITES) await world.add({ keyId, algorithm, custody, purpose: 'sign' });
  await world.add({ keyId: 'aes', algorithm: 'AES-256', purpose: 'encrypt', tenant: 'bond' });
  await world.add({ keyId: 'rsa', algorithm: 'RSA-2048', purpose: 'sign' });
});
after(() => world.postQuantum.close());

for (const alg of PURE) {
  const key = alg.toLowerCase();
  describe(alg, () => {
    test('a compact JWS verifies here, in another library, and by its AKP key alone', async () => {
      const jws = await jwsBy(key, { type: 'JWT' });
      const [header, payload, signature] = segments(jws);
      assert.deepEqual(JSON.parse(Buffer.from(header, 'base64url').toString()), {
        alg,
        kid: `acme/${key}/1`,
        typ: 'JWT',
      });
      const ours = await check({ signature: { jws } });
      assert.ok(ours.valid && ours.payload?.equals(message));
      assert.deepEqual([world.lastRecord.key, world.lastRecord.algorithm], [`${key}/1`, alg]);
      assert.deepEqual(jwkOf(key)['alg'], alg);
      const noble = NOBLE.get(alg) ?? assert.fail();
      assert.ok(noble.verify(Buffer.from(signature, 'base64url'), Buffer.from(`${header}.${payload}`), pubOf(key)));
      if (alg.startsWith('ML-DSA')) {
        const theirs = await compactVerify(jws, createPublicKey({ key: { ...jwkOf(key) }, format: 'jwk' }));
        assert.ok(Buffer.from(theirs.payload).equals(message));
      }
      assert.ok((await checkWith(jwkOf(key), { jws })).valid);
    });

    test('a changed payload, signature or header does not verify', async () => {
      const [header, payload, signature] = segments(await jwsBy(key));
      const bytes = Buffer.from(signature, 'base64url');
      for (const jws of [
        [header, Buffer.from('other').toString('base64url'), signature],
        [header, payload, flipAt(bytes, 0).toString('base64url')],
        [header, payload, flipAt(bytes, bytes.length - 1).toString('base64url')],
        [header, payload, bytes.subarray(1).toString('base64url')],
        [header, payload, ''],
      ]) {
        assert.deepEqual(await check({ signature: { jws: jws.join('.') } }), { valid: false });
        assert.equal(world.lastRecord.outcome, 'SIGNATURE_INVALID');
      }
    });

    test('detached, unencoded and raw signatures verify with their message alone; digests are not signed', async () => {
      for (const form of ['detached', 'unencoded'] as const) {
        const jws = await jwsBy(key, { form });
        assert.deepEqual(await check({ signature: { jws }, input: { message } }), { valid: true });
        assert.deepEqual(await check({ signature: { jws }, input: { message: Buffer.from('other') } }), {
          valid: false,
        });
      }
      const raw = await rawBy(key);
      assert.deepEqual(await check({ key, signature: { raw }, input: { message } }), { valid: true });
      assert.deepEqual(await check({ key, signature: { raw }, input: { message: Buffer.of(1) } }), { valid: false });
      const digest = hash('sha512', message, 'buffer');
      await fails(rawBy(key, { digest }), 'INVALID_REQUEST', /signs messages, not digests/);
      await fails(check({ key, signature: { raw }, input: { digest } }), 'INVALID_REQUEST', /signs messages/);
    });
  });
}

for (const [key, algorithm, custody] of COMPOSITES) {
  describe(`${algorithm}, ${custody}`, () => {
    test('a JWS verifies here and by its AKP key alone; the token was given the representative or its digest', async () => {
      const composite = [...COMPOSITE_SIGNATURES.values()].find(({ id }) => id === algorithm) ?? assert.fail();
      const seen: number[] = [];
      const { sign: inToken } = ports.token;
      ports.token.sign = (id, jose, data, call) => {
        seen.push(data.length);
        assert.equal(jose, composite.classical);
        return inToken.call(token, id, jose, data, call);
      };
      const jws = await jwsBy(key, { input: { message: randomBytes(1_000_000) } }).finally(() => {
        ports.token.sign = inToken;
      });
      assert.deepEqual(seen.length, custody === 'split' ? 1 : 0);
      for (const length of seen) assert.ok(length <= 150, `${length} bytes`);
      assert.ok((await check({ signature: { jws } })).valid);
      assert.ok((await checkWith(jwkOf(key), { jws })).valid);
      assert.equal(world.version(key).custody, custody);
    });

    test('a raw signature is over the message, or its pre-hash', async () => {
      const composite = [...COMPOSITE_SIGNATURES.values()].find(({ id }) => id === algorithm) ?? assert.fail();
      const digest = hash(composite.prehash, message, 'buffer');
      for (const made of [{ message }, { digest }]) {
        const raw = await rawBy(key, made);
        assert.ok((await check({ key, signature: { raw }, input: { message } })).valid);
        assert.ok((await check({ key, signature: { raw }, input: { digest } })).valid);
        assert.ok(!(await check({ key, signature: { raw }, input: { message: Buffer.of(1) } })).valid);
      }
      await fails(rawBy(key, { digest: digest.subarray(1) }), 'INVALID_REQUEST', /digest/);
    });

    test('a signature with a half missing, doubled, swapped or broken is wrong, by the default rule', async () => {
      const composite = COMPOSITE_SIGNATURES.get(jwkOf(key)['alg'] ?? '') ?? assert.fail();
      const raw = await rawBy(key);
      const { pqc, classical } = splitHalves(composite, raw) ?? assert.fail();
      for (const stripped of [
        pqc,
        classical,
        Buffer.alloc(0),
        Buffer.concat([classical, pqc]),
        Buffer.concat([pqc, pqc]),
        Buffer.concat([raw, Buffer.of(0)]),
        Buffer.concat([pqc, Buffer.alloc(classical.length)]),
        Buffer.concat([Buffer.alloc(pqc.length), classical]),
        flipAt(raw, 0),
        flipAt(raw, raw.length - 1),
      ]) {
        assert.deepEqual(await check({ key, signature: { raw: stripped }, input: { message } }), { valid: false });
      }
    });
  });
}

describe('a context string', () => {
  const context = Buffer.from('invoices of 2027');
  const signUnder = async (key: string, given: Buffer, form: SignInput['form'] = 'raw') => {
    const { value } = await sign(ports, aCall(), { key, input: { message }, form, type: '', context: given });
    assert.ok('signature' in value);
    return value.signature;
  };

  for (const key of [...PURE.map((alg) => alg.toLowerCase()), 'c65-es256', 'c65-ed-wrapped', 'c65-rsa']) {
    test(`${key}: the signature verifies under the same string alone, by key and by JWK`, async () => {
      const raw = await signUnder(key, context);
      const asked = { key, signature: { raw }, input: { message } };
      assert.deepEqual(await check({ ...asked, context }), { valid: true });
      assert.deepEqual(await check({ ...asked, context: Buffer.from('invoices of 2026') }), { valid: false });
      assert.deepEqual(await check(asked), { valid: false });
      assert.deepEqual(await check({ ...asked, signature: { raw: await rawBy(key) }, context }), { valid: false });
      const given = { publicJwk: JSON.stringify(jwkOf(key)), signature: { raw }, input: { message }, context };
      assert.deepEqual((await verifyWith(ports, aCall(), given)).value, { valid: true });
    });
  }

  test('of ML-DSA and SLH-DSA is the one that node:crypto takes', async () => {
    for (const key of ['ml-dsa-65', 'slh-dsa-sha2-128f']) {
      const raw = await signUnder(key, context);
      const publicKey = createPublicKey({ key: { ...jwkOf(key) }, format: 'jwk' });
      assert.ok(verifySignature(null, message, { key: publicKey, context }, raw));
      assert.ok(!verifySignature(null, message, publicKey, raw));
    }
  });

  test('of 255 bytes is taken, a longer one is refused before a use is', async () => {
    const longest = Buffer.alloc(255, 1);
    const raw = await signUnder('ml-dsa-44', longest);
    const asked = { key: 'ml-dsa-44', signature: { raw }, input: { message } };
    assert.deepEqual(await check({ ...asked, context: longest }), { valid: true });
    const longer = Buffer.alloc(256, 1);
    await fails(signUnder('ml-dsa-44', longer), 'INVALID_REQUEST', /context: at most 255 bytes/);
    await fails(check({ ...asked, context: longer }), 'INVALID_REQUEST', /context: at most 255 bytes/);
  });

  test('has no place in a JWS, nor with RSA', async () => {
    for (const form of ['compact', 'detached', 'unencoded'] as const) {
      await fails(signUnder('ml-dsa-44', context, form), 'INVALID_REQUEST', /context: only with the form RAW/);
    }
    const jws = await jwsBy('ml-dsa-44');
    await fails(check({ signature: { jws }, context }), 'INVALID_REQUEST', /context: only with a raw signature/);
    await fails(signUnder('rsa', context), 'INVALID_REQUEST', /has no context string/);
    const raw = await rawBy('rsa');
    const asked = { key: 'rsa', signature: { raw }, input: { message }, context };
    await fails(check(asked), 'INVALID_REQUEST', /has no context string/);
  });
});

describe('a half of a composite signature as a plain one', () => {
  const key = 'c65-es256';
  const composite = COMPOSITE_SIGNATURES.get('ML-DSA-65-ES256') ?? assert.fail();
  const plainJws = (jws: string, alg: string, half: Buffer): string => {
    const [, payload] = segments(jws);
    const header = Buffer.from(JSON.stringify({ alg, kid: `acme/${key}/1` })).toString('base64url');
    return [header, payload, half.toString('base64url')].join('.');
  };
  const halfKeys = () => {
    const pub = pubOf(key);
    const { publicBytes } = composite.pqc;
    const [x, y] = [pub.subarray(publicBytes, publicBytes + 32), pub.subarray(publicBytes + 32)];
    return {
      pqc: { kty: 'AKP', alg: 'ML-DSA-65', pub: pub.subarray(0, publicBytes).toString('base64url') },
      classical: { kty: 'EC', crv: 'P-256', alg: 'ES256', x: x.toString('base64url'), y: y.toString('base64url') },
    };
  };

  test('is refused under the composite key, whose "alg" is another', async () => {
    const jws = await jwsBy(key);
    const { pqc, classical } = splitHalves(composite, Buffer.from(segments(jws)[2], 'base64url')) ?? assert.fail();
    for (const [alg, half] of [
      ['ML-DSA-65', pqc],
      ['ES256', classical],
    ] as const) {
      await fails(check({ signature: { jws: plainJws(jws, alg, half) } }), 'INVALID_REQUEST', /"alg"/);
      await fails(checkWith(jwkOf(key), { jws: plainJws(jws, alg, half) }), 'INVALID_REQUEST', /"alg"/);
    }
  });

  test('does not verify by the key of the half, in a JWS or raw', async () => {
    const jws = await jwsBy(key);
    const [header, payload, signature] = segments(jws);
    const halves = splitHalves(composite, Buffer.from(signature, 'base64url')) ?? assert.fail();
    const keys = halfKeys();
    for (const [alg, half] of [
      ['ML-DSA-65', 'pqc'],
      ['ES256', 'classical'],
    ] as const) {
      assert.deepEqual(await checkWith(keys[half], { jws: plainJws(jws, alg, halves[half]) }), { valid: false });
      await fails(checkWith(keys[half], { jws }), 'INVALID_REQUEST', /"alg"/);
      const raw = halves[half];
      const input = { message: Buffer.from(`${header}.${payload}`) };
      assert.deepEqual(await checkWith(keys[half], { raw }, input), { valid: false });
    }
    // ML-DSA signs under the label: not even the representative itself verifies without it.
    const digest = hash('sha512', `${header}.${payload}`, 'buffer');
    const input = { message: messageRepresentative(composite, digest) };
    assert.deepEqual(await checkWith(keys.pqc, { raw: halves.pqc }, input), { valid: false });
  });

  test('a plain signature is no half, and halves of two composites do not mix', async () => {
    const plain = await rawBy('ml-dsa-65');
    const other = splitHalves(composite, await rawBy(key, { message: Buffer.from('other') })) ?? assert.fail();
    const own = splitHalves(composite, await rawBy(key)) ?? assert.fail();
    const sibling = COMPOSITE_SIGNATURES.get('ML-DSA-65-Ed25519') ?? assert.fail();
    const strange = splitHalves(sibling, await rawBy('c65-ed')) ?? assert.fail();
    for (const raw of [
      Buffer.concat([plain, own.classical]),
      Buffer.concat([own.pqc, other.classical]),
      Buffer.concat([other.pqc, own.classical]),
      Buffer.concat([own.pqc, strange.classical]),
      Buffer.concat([strange.pqc, own.classical]),
    ]) {
      assert.deepEqual(await check({ key, signature: { raw }, input: { message } }), { valid: false });
    }
  });

  test('the same key under another composite’s name is another key, and its signatures do not verify', async () => {
    const pub = pubOf('c44-ed');
    const renamed = { kty: 'AKP', alg: 'ML-DSA-44-ES256', pub: pub.toString('base64url') };
    const raw = await rawBy('c44-ed');
    await fails(checkWith(renamed, { raw }, { message }), 'INVALID_REQUEST', /"pub"/);
  });
});

describe('the PEM of a public key', () => {
  for (const key of [...PURE.map((alg) => alg.toLowerCase()), ...COMPOSITES.map(([keyId]) => keyId)]) {
    test(`${key}: verifies what its key signs, as JWS and raw, and is the key that its JWK is`, async () => {
      const asked = { key, version: undefined, format: 'pem' } as const;
      const publicJwk = (await getPublicKey(ports, aCall(), asked)).value.publicKey;
      const by = async (signature: { jws: string } | { raw: Buffer }, input?: { message: Buffer }) =>
        verifyWith(ports, aCall(), { publicJwk, signature, input });
      assert.ok((await by({ jws: await jwsBy(key) })).value.valid);
      const { value, envelope } = await by({ raw: await rawBy(key) }, { message });
      assert.ok(value.valid);
      assert.equal(envelope.keyRequested, await calculateJwkThumbprint({ ...jwkOf(key) }));
      assert.deepEqual((await by({ raw: await rawBy(key) }, { message: Buffer.of(1) })).value, { valid: false });
    });
  }

  for (const [key, jose] of COMPOSITES.filter(([, id]) => id.includes('-ES'))) {
    test(`${key}: takes an ECDSA half as LAMPS spells it, where the signature is raw and the key PEM`, async () => {
      const composite = COMPOSITE_SIGNATURES.get(jose) ?? assert.fail();
      const asked = async (format: 'pem' | 'jwk') =>
        (await getPublicKey(ports, aCall(), { key, version: undefined, format })).value.publicKey;
      const { pqc, classical } = splitHalves(composite, await rawBy(key)) ?? assert.fail();
      const lamps = Buffer.concat([pqc, derOfEcdsa(classical)]);
      const valid = async (publicJwk: string, raw: Buffer) =>
        (await verifyWith(ports, aCall(), { publicJwk, signature: { raw }, input: { message } })).value.valid;
      assert.equal(await valid(await asked('pem'), lamps), true);
      assert.equal(await valid(await asked('pem'), flipAt(lamps, lamps.length - 1)), false);
      assert.equal(await valid(await asked('pem'), Buffer.concat([lamps, Buffer.alloc(1)])), false);
      assert.equal(await valid(await asked('jwk'), lamps), false);
      const [header = '', payload = ''] = (await jwsBy(key)).split('.');
      const inJws = `${header}.${payload}.${lamps.toString('base64url')}`;
      const publicJwk = await asked('pem');
      const jws = await verifyWith(ports, aCall(), { publicJwk, signature: { jws: inJws }, input: undefined });
      assert.equal(jws.value.valid, false);
    });
  }

  test('of another key verifies nothing, and its "alg" counts', async () => {
    const publicJwk = (await getPublicKey(ports, aCall(), { key: 'c44-ed', version: undefined, format: 'pem' })).value
      .publicKey;
    const raw = await rawBy('c65-ed');
    const result = await verifyWith(ports, aCall(), { publicJwk, signature: { raw }, input: { message } });
    assert.deepEqual(result.value, { valid: false });
    const jws = await jwsBy('c65-ed');
    const wrong = verifyWith(ports, aCall(), { publicJwk, signature: { jws }, input: undefined });
    await fails(wrong, 'INVALID_REQUEST', /"alg"/);
  });
});

describe('the rule for the halves', () => {
  const key = 'c44-ed';
  const composite = COMPOSITE_SIGNATURES.get('ML-DSA-44-Ed25519') ?? assert.fail();
  const accepts = {
    all: [],
    'classical-required': ['pqc'],
    'pqc-required': ['classical'],
    any: ['pqc', 'classical'],
  } as const;

  for (const rule of COMPOSITE_RULES) {
    test(`${rule}: accepts ${accepts[rule].join(' or ') || 'nothing'} broken, with a warning and a record`, async () => {
      world.compositeRule = rule;
      try {
        const raw = await rawBy(key);
        const { pqc, classical } = splitHalves(composite, raw) ?? assert.fail();
        const broken = {
          pqc: Buffer.concat([flipAt(pqc, 7), classical]),
          classical: Buffer.concat([pqc, flipAt(classical, 7)]),
        };
        const whole = await performed({ key, signature: { raw }, input: { message } });
        assert.deepEqual([whole.value.valid, whole.envelope.warnings], [true, []]);
        for (const half of ['pqc', 'classical'] as const) {
          const expected = (accepts[rule] as readonly string[]).includes(half);
          const { value, envelope } = await performed({ key, signature: { raw: broken[half] }, input: { message } });
          assert.equal(value.valid, expected, half);
          assert.deepEqual(
            envelope.warnings.map(({ code }) => code),
            expected ? ['COMPOSITE_PARTIAL'] : [],
          );
          const right = { classical: half !== 'classical', pqc: half !== 'pqc' };
          assert.deepEqual(world.lastRecord.detail?.['compositeHalves'], expected ? right : undefined);
          assert.equal(world.lastRecord.outcome, expected ? 'ok' : 'SIGNATURE_INVALID');
        }
        const neither = Buffer.concat([flipAt(pqc, 7), flipAt(classical, 7)]);
        for (const wrong of [neither, pqc, classical]) {
          assert.deepEqual(await check({ key, signature: { raw: wrong }, input: { message } }), { valid: false });
        }
      } finally {
        world.compositeRule = 'all';
      }
    });
  }
});

describe('a caller’s AKP key', () => {
  test('with a private part, an unknown "alg" or a "pub" of another length is refused', async () => {
    const raw = await rawBy('ml-dsa-65');
    const jwk = jwkOf('ml-dsa-65');
    const short = Buffer.from(jwk['pub'] ?? '', 'base64url')
      .subarray(1)
      .toString('base64url');
    for (const [change, about] of [
      [{ priv: 'AAAA' }, /private member "priv"/],
      [{ alg: 'ML-DSA-66' }, /"alg" of an AKP key/],
      [{ alg: undefined }, /"alg" is missing/],
      [{ pub: undefined }, /"pub" is missing/],
      [{ pub: short }, /"pub" is not 1952 bytes/],
      [{ alg: 'ML-DSA-44' }, /"pub" is not 1312 bytes/],
      [{ alg: 'ML-DSA-65-ES256' }, /"pub" is not a public key of ML-DSA-65-ES256/],
    ] as const) {
      await fails(checkWith({ ...jwk, ...change }, { raw }, { message }), 'INVALID_REQUEST', about);
    }
  });

  test('the EC half off its curve is no key', async () => {
    const pub = pubOf('c65-es256');
    const wrong = { ...jwkOf('c65-es256'), pub: flipAt(pub, pub.length - 1).toString('base64url') };
    await fails(checkWith(wrong, { raw: Buffer.alloc(10) }, { message }), 'INVALID_REQUEST', /"pub"/);
  });

  test('of RSA the modulus has exactly the size of its name', async () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const half = publicKey.export({ format: 'der', type: 'pkcs1' });
    const pub = Buffer.concat([pubOf('c65-rsa').subarray(0, 1952), half]).toString('base64url');
    const wrong = { ...jwkOf('c65-rsa'), pub };
    await fails(checkWith(wrong, { raw: Buffer.alloc(10) }, { message }), 'INVALID_REQUEST', /"pub"/);
  });
});

test('ReSign moves a signature from RSA to a composite and to ML-DSA', async () => {
  const old = await jwsBy('rsa');
  for (const [targetKey, alg] of [
    ['c65-es256', 'ML-DSA-65-ES256'],
    ['ml-dsa-87', 'ML-DSA-87'],
  ] as const) {
    const { jws } = (await reSign(ports, aCall(), { jws: old, message: undefined, sourceKey: '', targetKey })).value;
    assert.equal(JSON.parse(Buffer.from(segments(jws)[0], 'base64url').toString()).alg, alg);
    const { valid, payload } = await check({ signature: { jws } });
    assert.ok(valid && payload?.equals(message));
  }
});

test('a token that does not sign its half makes no signature', async () => {
  token.fail({ method: 'sign', code: 'HSM_UNAVAILABLE' });
  await fails(rawBy('c65-es256'), 'HSM_UNAVAILABLE');
  token.fail({ method: 'sign', alter: (answer) => flipAt(answer, 3) });
  const raw = await rawBy('c65-es256');
  assert.deepEqual(await check({ key: 'c65-es256', signature: { raw }, input: { message } }), { valid: false });
});

test('another tenant’s encryption is answered while SLH-DSA signs back to back', async () => {
  await world.add({ keyId: 'slowest', algorithm: 'SLH-DSA-SHA2-128s', purpose: 'sign' });
  const order: string[] = [];
  const signatures = [1, 2].map(async () => {
    await rawBy('slowest');
    order.push('signature');
  });
  for (let round = 0; round < 10; round += 1) {
    const input = { key: 'aes', plaintext: message, ...NO_AAD };
    await encrypt(ports, aCall('bond'), input);
    order.push('jwe');
  }
  assert.deepEqual(
    order,
    Array.from({ length: 10 }, () => 'jwe'),
  );
  await Promise.all(signatures);
  assert.equal(order.length, 12);
});

test('a call whose deadline passes while it waits or signs ends with it', async () => {
  const late = () =>
    sign(ports, aCall('acme', { deadline: Date.now() + 150 }), {
      key: 'slowest',
      input: { message },
      form: 'raw',
      type: '',
    });
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, late));
  const codes = outcomes.map((row) => (row.status === 'rejected' ? (row.reason as AgentError).code : 'ok'));
  assert.ok(codes.includes('DEADLINE_EXCEEDED'), codes.join());
  for (const code of codes) assert.ok(['DEADLINE_EXCEEDED', 'ok'].includes(code), code);
  assert.ok((await rawBy('slh-dsa-sha2-128f')).length > 0);
});
