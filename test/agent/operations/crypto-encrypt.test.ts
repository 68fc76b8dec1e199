// Encrypt, Decrypt and EncryptTo through the whole chain, with real cryptography in a fake token.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { CompactEncrypt } from 'jose';
import { AgentError, CODES, type Code } from '../../../agent/errors.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { encryptTo } from '../../../agent/operations/encrypt-to.ts';
import { AES_GCM_MAX_USES } from '../../../proto/documents/algorithms.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld, NO_AAD } from './crypto-world.ts';

const plaintext = Buffer.from('It is a dangerous business');
const none = Buffer.alloc(0);

const fails = (promise: Promise<unknown>, code: Code, about?: RegExp): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (about !== undefined) assert.match(thrown.message, about);
    if (code === 'INVALID_CIPHERTEXT') assert.equal(thrown.message, CODES.INVALID_CIPHERTEXT.text);
    return true;
  });

/** The JWE with one segment, or the decoded header, changed. */
const withSegment = (jwe: string, index: number, change: (bytes: Buffer) => Buffer): string => {
  const segments = jwe.split('.');
  segments[index] = change(Buffer.from(segments[index] as string, 'base64url')).toString('base64url');
  return segments.join('.');
};
const withHeader = (jwe: string, change: (header: Record<string, unknown>) => Record<string, unknown>): string =>
  withSegment(jwe, 0, (bytes) => Buffer.from(JSON.stringify(change(JSON.parse(bytes.toString())))));
const headerOf = (jwe: string) => JSON.parse(Buffer.from(jwe.split('.')[0] as string, 'base64url').toString());
const flip = (bytes: Buffer): Buffer => {
  const copy = Buffer.from(bytes);
  copy[copy.length >> 1] = (copy[copy.length >> 1] as number) ^ 1;
  return copy;
};

describe('encrypt and decrypt', () => {
  const token = new FakeToken();
  const world = new CryptoWorld(token);
  const { ports } = world;
  const seal = async (key: string, associatedData = none): Promise<string> =>
    (await encrypt(ports, aCall(), { key, plaintext, associatedData })).value.jwe;
  const open = (jwe: string, more: { key?: string; associatedData?: Buffer } = {}) =>
    decrypt(ports, aCall(), { jwe, key: '', ...NO_AAD, ...more });

  const ALGORITHMS = ['AES-128', 'AES-192', 'AES-256', 'RSA-2048', 'EC-P256', 'EC-P384', 'EC-P521'];
  before(async () => {
    for (const algorithm of ALGORITHMS) {
      await world.add({ keyId: algorithm.toLowerCase(), algorithm, purpose: 'encrypt' });
    }
    await world.add({ keyId: 'other', algorithm: 'AES-256', purpose: 'encrypt' });
    await world.add({ keyId: 'signer', algorithm: 'EC-P256', purpose: 'sign' });
    await world.add({ keyId: 'theirs', algorithm: 'AES-256', purpose: 'encrypt', tenant: 'globex' });
  });

  for (const algorithm of ALGORITHMS) {
    const key = algorithm.toLowerCase();

    test(`${algorithm}: decrypts what it encrypted, and says and records what was used`, async () => {
      const sealed = await encrypt(ports, aCall(), { key, plaintext, ...NO_AAD });
      const { jose } = world.version(key);
      assert.deepEqual(sealed.envelope.keyUsed, { keyId: key, version: 1 });
      assert.equal(sealed.envelope.algorithmUsed, jose);
      assert.equal(world.lastRecord.key, `${key}/1`);
      const header = headerOf(sealed.value.jwe);
      assert.deepEqual([header.alg, header.enc, header.kid], [jose, 'A256GCM', `acme/${key}/1`]);
      const opened = await open(sealed.value.jwe);
      assert.ok(opened.value.plaintext.equals(plaintext));
      assert.deepEqual(opened.envelope.keyUsed, { keyId: key, version: 1 });
      assert.equal(world.lastRecord.operation, 'decrypt');
      assert.equal(world.lastRecord.outcome, 'ok');
    });

    test(`${algorithm}: one changed bit anywhere is one and the same error`, async () => {
      const jwe = await seal(key);
      for (const index of [1, 2, 3, 4]) await fails(open(withSegment(jwe, index, flip)), 'INVALID_CIPHERTEXT');
      const renamed = withHeader(jwe, (header) => ({ ...header, typ: 'x' }));
      await fails(open(renamed), 'INVALID_CIPHERTEXT');
      assert.equal(world.lastRecord.outcome, 'INVALID_CIPHERTEXT');
    });

    test(`${algorithm}: an encrypted key of any other length is that error too`, async () => {
      const jwe = await seal(key);
      for (const change of [
        () => none,
        () => randomBytes(1),
        (bytes: Buffer) => bytes.subarray(1),
        (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(8)]),
        () => randomBytes(1024),
      ]) {
        await fails(open(withSegment(jwe, 1, change)), 'INVALID_CIPHERTEXT');
      }
    });
  }

  test('opens the content with a stand-in when the token refuses the encrypted key', async () => {
    const jwe = await seal('rsa-2048');
    const before = token.calls.get('oaepDecrypt') ?? 0;
    token.fail({ method: 'oaepDecrypt', code: 'INVALID_CIPHERTEXT' });
    await fails(open(jwe), 'INVALID_CIPHERTEXT');
    token.fail({ method: 'oaepDecrypt', alter: (cek) => cek.subarray(1) });
    await fails(open(jwe), 'INVALID_CIPHERTEXT');
    assert.equal(token.calls.get('oaepDecrypt'), before + 2);
  });

  test('failures of the token itself keep their own code', async () => {
    const jwe = await seal('aes-256');
    for (const code of ['HSM_BUSY', 'HSM_UNAVAILABLE', 'DEADLINE_EXCEEDED'] as const) {
      token.fail({ method: 'gcmDecrypt', code });
      await fails(open(jwe), code);
      assert.equal(world.lastRecord.outcome, code);
      token.fail({ method: 'gcmEncrypt', code });
      await fails(seal('aes-256'), code);
    }
  });

  test('plaintexts of nothing and of the limit go through, one byte more does not', async () => {
    for (const size of [0, 2 * 1024 * 1024]) {
      const data = randomBytes(size);
      const { value } = await encrypt(ports, aCall(), { key: 'aes-256', plaintext: data, ...NO_AAD });
      assert.ok((await open(value.jwe)).value.plaintext.equals(data));
    }
    const over = encrypt(ports, aCall(), { key: 'aes-256', plaintext: Buffer.alloc(2 * 1024 * 1024 + 1), ...NO_AAD });
    await assert.rejects(over, { code: 'TOO_LARGE', metadata: { field: 'plaintext', limit: '2097152' } });
    await assert.rejects(open('a'.repeat(3 * 1024 * 1024 + 1)), { code: 'TOO_LARGE' });
    await assert.rejects(seal('aes-256', Buffer.alloc(16 * 1024 + 1)), (thrown: AgentError) => {
      assert.deepEqual(
        thrown.fields.map((row) => row.field),
        ['associated_data'],
      );
      return true;
    });
  });

  test('no two ciphertexts share an encrypted key, an iv or a tag', async () => {
    const parts = new Set<string>();
    for (let round = 0; round < 50; round += 1) {
      const jwe = await seal('aes-256');
      const header = headerOf(jwe);
      for (const part of [...jwe.split('.').slice(1), header.iv, header.tag]) parts.add(part);
    }
    assert.equal(parts.size, 50 * 6);
  });

  test('associated data must be given back exactly, and is not carried', async () => {
    const associatedData = Buffer.from('customer 4711');
    const jwe = await seal('aes-256', associatedData);
    assert.ok(!jwe.includes(associatedData.toString('base64url')));
    assert.deepEqual(headerOf(jwe).crit, ['urn:mortise:aad:s256']);
    assert.ok((await open(jwe, { associatedData })).value.plaintext.equals(plaintext));
    await fails(open(jwe), 'INVALID_CIPHERTEXT');
    await fails(open(jwe, { associatedData: Buffer.from('customer 4712') }), 'INVALID_CIPHERTEXT');
    await fails(open(await seal('aes-256'), { associatedData }), 'INVALID_CIPHERTEXT');
  });

  test('associated data outside of crit, or of another type, is a mismatch', async () => {
    const associatedData = Buffer.from('customer 4711');
    const jwe = await seal('aes-256', associatedData);
    const { crit: _, ...rest } = headerOf(jwe);
    await fails(
      open(
        withHeader(jwe, () => rest),
        { associatedData },
      ),
      'INVALID_CIPHERTEXT',
    );
    const numbered = withHeader(jwe, (header) => ({ ...header, 'urn:mortise:aad:s256': 7 }));
    await fails(open(numbered, { associatedData }), 'INVALID_CIPHERTEXT');
  });

  test('the kid of another tenant is refused whether or not the key exists', async () => {
    const jwe = await seal('aes-256');
    for (const kid of ['globex/theirs/1', 'globex/no-such-key/1']) {
      const foreign = withHeader(jwe, (header) => ({ ...header, kid }));
      await fails(open(foreign), 'PERMISSION_DENIED', /another tenant/);
      await fails(open(foreign, { key: 'aes-256' }), 'PERMISSION_DENIED', /another tenant/);
      assert.equal(world.lastRecord.key, '-');
    }
    await fails(encrypt(ports, aCall(), { key: 'globex/theirs', plaintext, ...NO_AAD }), 'PERMISSION_DENIED');
  });

  test('key and kid must agree, and one of them must name a key', async () => {
    const jwe = await seal('aes-256');
    assert.ok((await open(jwe, { key: 'aes-256' })).value.plaintext.equals(plaintext));
    assert.ok((await open(jwe, { key: 'acme/aes-256' })).value.plaintext.equals(plaintext));
    await fails(open(jwe, { key: 'other' }), 'INVALID_REQUEST', /^key: /);
    for (const kid of ['thumbprint', 'a/b', 'a/b/0', 'a/b/1/2', 'A/b/1', 'acme/aes-256/01', undefined]) {
      await fails(open(withHeader(jwe, (header) => ({ ...header, kid }))), 'INVALID_REQUEST', /^key: /);
    }
    await fails(open(withHeader(jwe, (header) => ({ ...header, kid: 'acme/nothing/1' }))), 'KEY_UNKNOWN');
    await fails(open(withHeader(jwe, (header) => ({ ...header, kid: 'acme/aes-256/9' }))), 'KEY_UNKNOWN');
  });

  test('the header cannot choose the algorithm', async () => {
    const jwe = await seal('aes-256');
    for (const alg of ['A128GCMKW', 'A256KW', 'dir', 'RSA-OAEP', 'RSA-OAEP-256', 'ECDH-ES', 'PBES2-HS256+A128KW']) {
      await fails(open(withHeader(jwe, (header) => ({ ...header, alg }))), 'INVALID_REQUEST', /"alg"/);
    }
    for (const alg of ['RSA1_5', 'none', 'NONE', 'rsa1_5']) {
      const forbidden = withHeader(jwe, (header) => ({ ...header, alg }));
      await fails(open(forbidden), 'ALGORITHM_FORBIDDEN');
    }
  });

  test('a key for signing neither encrypts nor decrypts', async () => {
    await fails(encrypt(ports, aCall(), { key: 'signer', plaintext, ...NO_AAD }), 'INVALID_REQUEST');
    const jwe = withHeader(await seal('aes-256'), (header) => ({ ...header, kid: 'acme/signer/1' }));
    await fails(open(jwe), 'INVALID_REQUEST');
  });

  test('old versions decrypt after rotation, revoked ones do not', async () => {
    await world.add({ keyId: 'turning', algorithm: 'AES-256', purpose: 'encrypt' });
    const old = await seal('turning');
    await world.rotate('turning', { algorithm: 'EC-P256', jose: 'ECDH-ES+A256KW' });
    assert.equal(headerOf(await seal('turning')).alg, 'ECDH-ES+A256KW');
    const opened = await open(old);
    assert.deepEqual(opened.envelope.keyUsed, { keyId: 'turning', version: 1 });
    const versions = world
      .key('turning')
      .versions.map((row) => (row.version === 1 ? { ...row, state: 'REVOKED' as const } : row));
    world.change('turning', { versions });
    await fails(open(old), 'KEY_STATE');
  });

  test('policy is asked with the algorithm of the version, and its refusal is recorded', async () => {
    const jwe = await seal('rsa-2048');
    world.refuses = (question) => (question.operation === 'decrypt' ? 'POLICY_DENIED' : undefined);
    await fails(open(jwe), 'POLICY_DENIED');
    world.refuses = () => undefined;
    const asked = world.questions.at(-1);
    assert.deepEqual([asked?.algorithm, asked?.jose, asked?.custody], ['RSA-2048', 'RSA-OAEP-256', 'hsm']);
    assert.equal(world.lastRecord.outcome, 'POLICY_DENIED');
  });

  test('an AES key stops at 2^32 encryptions though nothing else limits it', async () => {
    const jwe = await seal('aes-256');
    world.uses = AES_GCM_MAX_USES - 1;
    await seal('aes-256');
    await fails(seal('aes-256'), 'KEY_LIMIT');
    await seal('rsa-2048');
    assert.ok((await open(jwe)).value.plaintext.equals(plaintext));
    world.uses = 0;
  });

  describe('a JWE that another library made for our public key', () => {
    const foreign = (version: number, alg: string, enc: string): Promise<string> => {
      const publicKey = createPublicKey({
        key: world.version('recipient', version).publicJwk as JsonWebKey,
        format: 'jwk',
      });
      return new CompactEncrypt(plaintext).setProtectedHeader({ alg, enc }).encrypt(publicKey);
    };
    before(async () => {
      await world.add({ keyId: 'recipient', algorithm: 'EC-P256', purpose: 'encrypt' });
      for (let round = 0; round < 10; round += 1) await world.rotate('recipient');
    });

    test('is found among the primary and the retired versions, newest first, up to eight', async () => {
      for (const version of [11, 10, 4]) {
        const opened = await open(await foreign(version, 'ECDH-ES+A256KW', 'A256GCM'), { key: 'recipient' });
        assert.deepEqual(opened.envelope.keyUsed, { keyId: 'recipient', version });
      }
      const before = token.calls.get('ecdh') ?? 0;
      await fails(open(await foreign(3, 'ECDH-ES+A256KW', 'A256GCM'), { key: 'recipient' }), 'INVALID_CIPHERTEXT');
      assert.equal(token.calls.get('ecdh'), before + 8);
    });

    test('a policy that warns of each version it may be under warns once', async () => {
      const warning = { code: 'ALGORITHM_SUNSET', message: 'EC-P256 ends' } as const;
      const decide = () => ({ allowed: true, rule: 'test', warnings: [warning] }) as const;
      const warningPorts = { ...ports, policy: { ...ports.policy, decide } };
      const jwe = await foreign(5, 'ECDH-ES+A256KW', 'A256GCM');
      const opened = await decrypt(warningPorts, aCall(), { jwe, key: 'recipient', ...NO_AAD });
      assert.deepEqual(opened.envelope.warnings, [warning]);
    });

    test('may use any content encryption of RFC 7518', async () => {
      for (const enc of ['A128GCM', 'A192GCM', 'A256GCM', 'A128CBC-HS256', 'A192CBC-HS384', 'A256CBC-HS512']) {
        const jwe = await foreign(11, 'ECDH-ES+A256KW', enc);
        assert.ok((await open(jwe, { key: 'recipient' })).value.plaintext.equals(plaintext), enc);
        await fails(open(withSegment(jwe, 4, flip), { key: 'recipient' }), 'INVALID_CIPHERTEXT');
        await fails(open(withSegment(jwe, 3, flip), { key: 'recipient' }), 'INVALID_CIPHERTEXT');
      }
    });

    test('must use the key management algorithm of the key', async () => {
      const jwe = await foreign(11, 'ECDH-ES+A128KW', 'A256GCM');
      await fails(open(jwe, { key: 'recipient' }), 'INVALID_REQUEST', /no version of the key is for/);
    });

    test('with an ephemeral key off the curve or of another curve is refused before the token sees it', async () => {
      const jwe = await foreign(11, 'ECDH-ES+A256KW', 'A256GCM');
      const before = token.calls.get('ecdh');
      const { x } = headerOf(jwe).epk;
      const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({ format: 'jwk' });
      for (const epk of [
        { kty: 'EC', crv: 'P-256', x, y: x },
        p384,
        { ...p384, crv: 'P-256' },
        { kty: 'EC', crv: 'P-256', x },
        { ...headerOf(jwe).epk, d: x },
        { kty: 'OKP', crv: 'X25519', x },
        'text',
        null,
        undefined,
      ]) {
        const wrong = withHeader(jwe, (header) => ({ ...header, epk }));
        await fails(open(wrong, { key: 'recipient' }), 'INVALID_REQUEST', /"epk"/);
      }
      assert.equal(token.calls.get('ecdh'), before);
    });
  });
});

describe('encrypt to a public JWK', () => {
  const token = new FakeToken();
  const world = new CryptoWorld(token);
  const { ports } = world;
  const to = (publicJwk: unknown, associatedData = none) =>
    encryptTo(ports, aCall(), {
      publicJwk: typeof publicJwk === 'string' ? publicJwk : JSON.stringify(publicJwk),
      plaintext,
      associatedData,
    });
  const EC = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({ format: 'jwk' });

  test('our own decryption reads it, for every kind of key', async () => {
    for (const algorithm of ['RSA-2048', 'EC-P256', 'EC-P384', 'EC-P521']) {
      await world.add({ keyId: algorithm.toLowerCase(), algorithm, purpose: 'encrypt' });
      const kid = `acme/${algorithm.toLowerCase()}/1`;
      const associatedData = Buffer.from('for you');
      const sealed = await to({ ...world.version(algorithm.toLowerCase()).publicJwk, kid }, associatedData);
      assert.equal(sealed.envelope.keyUsed, undefined);
      assert.equal(sealed.envelope.keyRequested.length, 43);
      const opened = await decrypt(ports, aCall(), { jwe: sealed.value.jwe, key: '', associatedData });
      assert.ok(opened.value.plaintext.equals(plaintext));
    }
  });

  test('is decided and recorded by the algorithm of the key, and names its thumbprint', async () => {
    const sealed = await to(EC);
    const asked = world.questions.at(-1);
    assert.deepEqual([asked?.operation, asked?.algorithm, asked?.jose], ['encrypt-to', 'EC-P384', 'ECDH-ES+A256KW']);
    assert.equal(headerOf(sealed.value.jwe).kid, sealed.envelope.keyRequested);
    assert.equal(world.lastRecord.key, '-');
    assert.equal(world.lastRecord.detail?.['thumbprint'], sealed.envelope.keyRequested);
    world.refuses = () => 'POLICY_DENIED';
    await fails(to(EC), 'POLICY_DENIED');
    world.refuses = () => undefined;
  });

  test('keys meant for something else are refused', async () => {
    await fails(to({ ...EC, use: 'sig' }), 'INVALID_REQUEST', /"use"/);
    await fails(to({ ...EC, key_ops: ['verify'] }), 'INVALID_REQUEST', /"key_ops"/);
    await fails(to({ ...EC, alg: 'ECDH-ES' }), 'INVALID_REQUEST', /"alg"/);
    await fails(to({ ...EC, alg: 'RSA1_5' }), 'ALGORITHM_FORBIDDEN');
    await to({ ...EC, use: 'enc', key_ops: ['deriveKey'], alg: 'ECDH-ES+A256KW' });
    const ed = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' });
    await fails(to(ed), 'INVALID_REQUEST', /do not encrypt/);
    await fails(to(`${JSON.stringify(EC)}${' '.repeat(16 * 1024)}`), 'TOO_LARGE', /public_jwk/);
  });
});
