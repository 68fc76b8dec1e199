// GetImportKey and ImportKey: wrapped by the npm package jose as a caller would, over a fake token and over SoftHSM.
import assert from 'node:assert/strict';
import { generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { CompactEncrypt, compactVerify, importJWK } from 'jose';
import { readKeyMaterial } from '../../../agent/crypto/key-material.ts';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { getImportKey } from '../../../agent/operations/get-import-key.ts';
import { getKey } from '../../../agent/operations/get-key.ts';
import { type ImportKeyInput, importKey } from '../../../agent/operations/import-key.ts';
import { mac } from '../../../agent/operations/mac.ts';
import { sign } from '../../../agent/operations/sign.ts';
import { keysHandlers } from '../../../agent/server/services/keys.ts';
import type { Token } from '../../../agent/token/token.ts';
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import { FakeToken } from '../../fakes/token.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';
import { HOUR, LackingToken, openWorld, type World } from '../keys/world.ts';

const fails = (promise: Promise<unknown>, code: Code, about?: RegExp): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (about !== undefined) assert.match(thrown.message, about);
    return true;
  });

interface ImportJwk extends JsonWebKey {
  readonly kid: string;
  readonly alg: string;
  readonly use: string;
}

const importJwk = async (world: World): Promise<ImportJwk> =>
  JSON.parse((await getImportKey(world.ports, world.call())).value.publicJwk);

/** Encrypts as a caller does, with a library of its own. */
const wrapTo = async (jwk: ImportJwk, material: JsonWebKey | Buffer, header = {}): Promise<string> => {
  const isJwk = !Buffer.isBuffer(material);
  const bytes = isJwk ? Buffer.from(JSON.stringify(material)) : material;
  const cty = isJwk ? { cty: 'jwk+json' } : {};
  return await new CompactEncrypt(bytes)
    .setProtectedHeader({ alg: jwk.alg, enc: 'A256GCM', kid: jwk.kid, ...cty, ...header })
    .encrypt(await importJWK(jwk, jwk.alg));
};

const inputOf = (change: Partial<ImportKeyInput>): ImportKeyInput => ({
  keyId: 'brought',
  purpose: 'encrypt',
  algorithm: 'AES-256',
  jose: '',
  wrappedKey: '',
  labels: {},
  limits: {},
  grants: [],
  ...change,
});

const bring = async (world: World, material: JsonWebKey | Buffer, change: Partial<ImportKeyInput> = {}) =>
  importKey(
    world.ports,
    world.call(),
    inputOf({ wrappedKey: await wrapTo(await importJwk(world), material), ...change }),
  );

const jwkOf = (algorithm: string): JsonWebKey => {
  if (algorithm.startsWith('AES') || algorithm.startsWith('HMAC')) {
    return { kty: 'oct', k: randomBytes(Number(algorithm.slice(-3)) / 8).toString('base64url') };
  }
  const { privateKey } = algorithm.startsWith('RSA')
    ? generateKeyPairSync('rsa', { modulusLength: Number(algorithm.slice(4)) })
    : algorithm === 'Ed25519'
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('ec', { namedCurve: algorithm.replace('EC-P', 'P-') });
  return privateKey.export({ format: 'jwk' });
};

const CASES: readonly (readonly [algorithm: string, purpose: Purpose])[] = [
  ['AES-128', 'encrypt'],
  ['AES-256', 'encrypt'],
  ['HMAC-SHA256', 'mac'],
  ['HMAC-SHA512', 'mac'],
  ['EC-P256', 'sign'],
  ['EC-P384', 'encrypt'],
  ['EC-P521', 'sign'],
  ['Ed25519', 'sign'],
  ['RSA-2048', 'sign'],
  ['RSA-2048', 'encrypt'],
];

/** What the imported key does with data is what its owner would do with the original. */
const checkUse = async (world: World, algorithm: string, purpose: Purpose, jwk: JsonWebKey): Promise<void> => {
  const { ports } = world;
  const message = Buffer.from('brought along');
  if (purpose === 'sign') {
    const made = await sign(ports, world.call(), { key: 'brought', input: { message }, form: 'compact', type: '' });
    assert.ok('jws' in made.value);
    const { d: _, p, q, dp, dq, qi, ...open } = jwk;
    assert.ok(
      Buffer.from(
        (await compactVerify(made.value.jws, await importJWK(open, made.envelope.algorithmUsed))).payload,
      ).equals(message),
    );
  } else if (purpose === 'mac') {
    assert.ok((await mac(ports, world.call(), { key: 'brought', message })).value.mac.length >= 32);
  } else {
    const associatedData = Buffer.alloc(0);
    const sealed = await encrypt(ports, world.call(), { key: 'brought', plaintext: message, associatedData });
    const opened = await decrypt(ports, world.call(), { jwe: sealed.value.jwe, key: '', associatedData });
    assert.ok(opened.value.plaintext.equals(message), algorithm);
  }
};

for (const [algorithm, purpose] of CASES) {
  test(`fake token: imports ${algorithm} for ${purpose} and shows that it was imported`, async (t) => {
    const world = openWorld(t);
    const jwk = jwkOf(algorithm);
    const { value, envelope } = await bring(world, jwk, { algorithm, purpose });
    const [version] = value.key.record.versions;
    assert.deepEqual([version?.origin, version?.custody, version?.algorithm], ['imported', 'hsm', algorithm]);
    assert.deepEqual(envelope.keyUsed, { keyId: 'brought', version: 1 });
    const record = world.records.at(-1);
    assert.deepEqual([record?.operation, record?.key, record?.outcome], ['import-key', 'brought/1', 'ok']);
    assert.equal(record?.detail?.['origin'], 'imported');
    for (const secret of ['k', 'd', 'p']) {
      const text = jwk[secret as 'k'];
      if (text !== undefined) assert.ok(!JSON.stringify([world.records, value.key.record]).includes(text as string));
    }
    await checkUse(world, algorithm, purpose, jwk);
  });
}

describe('ImportKey refuses', () => {
  test('what is not encrypted to an import key of the tenant', async (t) => {
    const world = openWorld(t);
    const jwk = jwkOf('AES-256');
    for (const wrappedKey of [JSON.stringify(jwk), jwk.k as string, '']) {
      await fails(importKey(world.ports, world.call(), inputOf({ wrappedKey })), 'INVALID_REQUEST', /refused/);
    }
    const own = await importJwk(world);
    const foreign = await wrapTo({ ...own, kid: 'import:00' }, jwk);
    await fails(
      importKey(world.ports, world.call(), inputOf({ wrappedKey: foreign })),
      'INVALID_REQUEST',
      /no import key/,
    );
    const theirs = importKey(
      world.ports,
      world.call({ tenant: 'globex' }),
      inputOf({ wrappedKey: await wrapTo(own, jwk) }),
    );
    await fails(theirs, 'INVALID_REQUEST', /no import key/);
  });

  test('a second import to one import key, one that has ended, and the ninth failed attempt', async (t) => {
    const token = new FakeToken();
    const world = openWorld(t, { token });
    const jwk = await importJwk(world);
    const good = await wrapTo(jwk, jwkOf('AES-256'));
    await importKey(world.ports, world.call(), inputOf({ wrappedKey: good }));
    assert.equal(token.calls.get('destroy'), 1);
    const again = importKey(world.ports, world.call(), inputOf({ keyId: 'second', wrappedKey: good }));
    await fails(again, 'INVALID_REQUEST', /has ended/);

    const late = await importJwk(world);
    const wrappedKey = await wrapTo(late, jwkOf('AES-256'));
    world.now += HOUR;
    await fails(
      importKey(world.ports, world.call(), inputOf({ keyId: 'late', wrappedKey })),
      'INVALID_REQUEST',
      /ended/,
    );

    const tried = await importJwk(world);
    const broken = (await wrapTo(tried, jwkOf('AES-256'))).replace(/.$/, (last) => (last === 'A' ? 'Q' : 'A'));
    const attempt = () => importKey(world.ports, world.call(), inputOf({ keyId: 'tried', wrappedKey: broken }));
    for (let count = 0; count < 8; count += 1) await fails(attempt(), 'INVALID_CIPHERTEXT');
    await fails(attempt(), 'INVALID_REQUEST', /ended/);
  });

  test('material that is not the algorithm, is weak, or does not belong together', async (t) => {
    const world = openWorld(t);
    const ec = jwkOf('EC-P256');
    const rsa = jwkOf('RSA-2048');
    const wrong: readonly (readonly [JsonWebKey | Buffer, string, Purpose, Code])[] = [
      [randomBytes(16), 'AES-256', 'encrypt', 'INVALID_REQUEST'],
      [Buffer.alloc(32), 'AES-256', 'encrypt', 'INVALID_REQUEST'],
      [randomBytes(13), 'HMAC-SHA256', 'mac', 'ALGORITHM_FORBIDDEN'],
      [randomBytes(31), 'HMAC-SHA256', 'mac', 'INVALID_REQUEST'],
      [randomBytes(129), 'HMAC-SHA256', 'mac', 'INVALID_REQUEST'],
      [randomBytes(32), 'EC-P256', 'sign', 'INVALID_REQUEST'],
      [jwkOf('EC-P384'), 'EC-P256', 'sign', 'INVALID_REQUEST'],
      [{ ...ec, d: jwkOf('EC-P256').d as string }, 'EC-P256', 'sign', 'INVALID_REQUEST'],
      [{ ...ec, d: Buffer.alloc(32).toString('base64url') }, 'EC-P256', 'sign', 'INVALID_REQUEST'],
      [{ ...jwkOf('Ed25519'), d: randomBytes(32).toString('base64url') }, 'Ed25519', 'sign', 'INVALID_REQUEST'],
      [jwkOf('RSA-1024'), 'RSA-2048', 'sign', 'ALGORITHM_FORBIDDEN'],
      [rsa, 'RSA-3072', 'sign', 'INVALID_REQUEST'],
      [{ ...rsa, qi: rsa.dp as string }, 'RSA-2048', 'sign', 'INVALID_REQUEST'],
      [{ ...rsa, e: 'Aw' }, 'RSA-2048', 'sign', 'INVALID_REQUEST'],
      [{ ...jwkOf('AES-256'), alg: 'A128GCMKW' }, 'AES-256', 'encrypt', 'INVALID_REQUEST'],
      [jwkOf('AES-256'), 'DES', 'encrypt', 'ALGORITHM_FORBIDDEN'],
      [jwkOf('AES-256'), 'AES-256', 'sign', 'INVALID_REQUEST'],
    ];
    for (const [material, algorithm, purpose, code] of wrong) {
      await fails(bring(world, material, { algorithm, purpose }), code);
      assert.equal(world.records.at(-1)?.outcome, code);
      assert.equal(world.keys.catalog.get('acme', 'brought'), undefined);
    }
  });

  test('an id that is taken, a token that cannot hold it, and what policy does not allow', async (t) => {
    const world = openWorld(t);
    await bring(world, jwkOf('AES-256'));
    await fails(bring(world, jwkOf('AES-256')), 'KEY_EXISTS');
    world.policy.refuse = ({ operation, algorithm }) =>
      operation === 'import-key' && algorithm === 'AES-128' ? 'POLICY_DENIED' : undefined;
    await fails(bring(world, jwkOf('AES-128'), { keyId: 'small', algorithm: 'AES-128' }), 'POLICY_DENIED');
    const lacking = openWorld(t, { token: new LackingToken('Ed25519') });
    const ed = { keyId: 'ed', algorithm: 'Ed25519', purpose: 'sign' } as const;
    await fails(bring(lacking, jwkOf('Ed25519'), ed), 'HSM_UNSUPPORTED');
    const nothing = new LackingToken('EC-P521', 'EC-P384', 'EC-P256', 'RSA-3072', 'RSA-4096');
    await fails(importJwk(openWorld(t, { token: nothing })), 'HSM_UNSUPPORTED');
  });

  test('a token that computes something else with the key, and leaves no object of it', async (t) => {
    const token = new FakeToken();
    const world = openWorld(t, { token });
    token.fail({ method: 'gcmEncrypt', alter: (bytes) => Buffer.alloc(bytes.length) });
    const destroyed = token.calls.get('destroy') ?? 0;
    await fails(bring(world, jwkOf('AES-256')), 'HSM_UNSUPPORTED', /does not compute/);
    assert.equal(token.calls.get('destroy'), destroyed + 1);
    assert.equal(world.keys.catalog.get('acme', 'brought'), undefined);
  });

  test('to go on without the token or the store, and leaves no object behind', async (t) => {
    const token = new FakeToken();
    const world = openWorld(t, { token });
    const wrappedKey = await wrapTo(await importJwk(world), jwkOf('AES-256'));
    const attempt = (ports = world.ports) => importKey(ports, world.call(), inputOf({ wrappedKey }));
    for (const code of ['HSM_BUSY', 'HSM_UNAVAILABLE'] as const) {
      token.fail({ method: 'create', code });
      await fails(attempt(), code);
      token.fail({ method: 'ecdh', code });
      await fails(attempt(), code);
    }
    const made = token.calls.get('destroy') ?? 0;
    const insert = async (): Promise<never> => {
      throw new AgentError('STORE_UNAVAILABLE');
    };
    const keys = Object.assign(Object.create(world.ports.keys) as typeof world.ports.keys, { insert });
    keys.get = (tenant, keyId) => world.ports.keys.get(tenant, keyId);
    await fails(attempt({ ...world.ports, keys }), 'STORE_UNAVAILABLE');
    assert.equal(token.calls.get('destroy'), made + 1);
    await attempt(); // the import key was not used up by what was not its fault
  });

  test('callers without the scope', async (t) => {
    const world = openWorld(t);
    const call = world.call({ scopes: ['keys.read', 'crypto.encrypt'] });
    await fails(getImportKey(world.ports, call), 'PERMISSION_DENIED');
    await fails(importKey(world.ports, call, inputOf({})), 'PERMISSION_DENIED');
  });
});

test('the import key is the strongest that token and policy have', async (t) => {
  const world = openWorld(t);
  assert.equal((await importJwk(world)).crv, 'P-521');
  world.policy.refuse = ({ algorithm }) => (algorithm === 'EC-P521' ? 'POLICY_DENIED' : undefined);
  assert.equal((await importJwk(world)).crv, 'P-384');
  world.policy.refuse = () => 'POLICY_DENIED';
  await fails(importJwk(world), 'POLICY_DENIED');
});

test('a tenant has at most eight import keys; the oldest ends first', async (t) => {
  const token = new FakeToken();
  const world = openWorld(t, { token });
  const first = await importJwk(world);
  for (let count = 0; count < 8; count += 1) await importJwk(world);
  assert.equal(token.calls.get('destroy'), 1);
  const wrappedKey = await wrapTo(first, jwkOf('AES-256'));
  await fails(importKey(world.ports, world.call(), inputOf({ wrappedKey })), 'INVALID_REQUEST', /ended/);
});

test('an agent that stopped leaves no import key behind', async (t) => {
  const token = new FakeToken();
  const world = openWorld(t, { token });
  await importJwk(world);
  await world.reopen('closed');
  assert.equal(await world.keys.objects.sweep({ ...world.call(), tenant: '_platform' }), 0);
  assert.equal(token.calls.get('destroy'), 1);
});

test('an agent that stopped between object and record leaves no imported object behind', async (t) => {
  const token = new FakeToken();
  const world = openWorld(t, { token });
  const what = {
    tenant: 'acme',
    keyId: 'half',
    version: 1,
    algorithm: 'AES-256',
    purpose: 'encrypt',
    jose: 'A256GCMKW',
  } as const;
  await world.ports.objects.create({ ...what, material: [randomBytes(32)] }, world.call() as never);
  await world.reopen('closed');
  assert.equal(await world.keys.objects.sweep({ ...world.call(), tenant: '_platform' }), 0);
  assert.equal(token.calls.get('destroy'), 1);
});

test('the service carries both calls', async (t) => {
  const world = openWorld(t);
  const handlers = keysHandlers(world.ports);
  const given = await handlers.getImportKey(world.call(), {});
  assert.ok((given.expireTime as Date).getTime() > world.now);
  const wrappedKey = await wrapTo(JSON.parse(given.publicJwk), randomBytes(32));
  const answer = await handlers.importKey(world.call(), {
    keyId: 'brought',
    purpose: 'PURPOSE_ENCRYPT' as never,
    algorithm: 'AES-256',
    joseAlgorithm: '',
    wrappedKey,
    labels: { from: 'elsewhere' },
    limits: undefined,
    grants: [],
    activationTime: undefined,
    asVersion: undefined,
  });
  assert.equal(answer.key?.versions[0]?.origin, 'ORIGIN_IMPORTED');
  assert.deepEqual(answer.key?.labels, { from: 'elsewhere' });
});

test('any bytes are key material or a refusal of the table', async () => {
  const algorithms = fc.constantFrom('AES-256', 'HMAC-SHA384', 'EC-P256', 'Ed25519', 'RSA-2048');
  const texts = fc.oneof(
    fc.json().map((text) => Buffer.from(text)),
    fc
      .record({
        kty: fc.constantFrom('oct', 'EC', 'RSA', 'OKP'),
        k: fc.base64String(),
        d: fc.base64String(),
        x: fc.string(),
        crv: fc.constantFrom('P-256', 'Ed25519'),
        n: fc.base64String(),
      })
      .map((jwk) => Buffer.from(JSON.stringify(jwk))),
    fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)),
  );
  await fc.assert(
    fc.asyncProperty(algorithms, texts, fc.boolean(), async (algorithm, bytes, isJwk) => {
      try {
        assert.ok((await readKeyMaterial(bytes, { algorithm, jose: 'X', isJwk })).parts.length > 0);
      } catch (thrown) {
        assert.ok(thrown instanceof AgentError && thrown.code !== 'INTERNAL', String(thrown));
      }
    }),
    { numRuns: 1000 },
  );
});

describe('ImportKey on SoftHSM', () => {
  let hsm: SoftHsm;
  let token: Token;
  before(async () => {
    hsm = await makeSoftHsm();
    token = await openSoftHsmToken(hsm);
  });
  after(async () => {
    await token?.close();
    await hsm?.dispose();
  });

  test('takes every kind of key into the token and uses it there', async (t) => {
    for (const [algorithm, purpose] of CASES) {
      const world = openWorld(t, { token });
      const jwk = jwkOf(algorithm);
      await bring(world, jwk, { algorithm, purpose });
      await checkUse(world, algorithm, purpose, jwk);
      const { value } = await getKey(world.ports, world.call(), { key: 'brought' });
      assert.equal(value.key.record.versions[0]?.origin, 'imported');
    }
  });
});

test('what was decoded of a refused JWK is wiped', async (t) => {
  const rsa = jwkOf('RSA-2048');
  const decoded: Buffer[] = [];
  const original = Buffer.from;
  t.mock.method(Buffer, 'from', (...args: Parameters<typeof original>) => {
    const buffer = (original as (...given: unknown[]) => Buffer)(...args);
    if (args[0] === rsa.d || args[0] === rsa.p) decoded.push(buffer);
    return buffer;
  });
  const bytes = original(JSON.stringify({ ...rsa, qi: rsa.dp }));
  await assert.rejects(readKeyMaterial(bytes, { algorithm: 'RSA-2048', jose: 'PS256', isJwk: true }));
  assert.equal(decoded.length, 2);
  assert.ok(decoded.every((buffer) => buffer.every((byte) => byte === 0)));
});
