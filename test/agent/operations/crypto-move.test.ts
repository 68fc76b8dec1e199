// ReEncrypt, ReSign and the data keys: from one key to another, through the whole chain, with real cryptography in a fake
// token. What JOSE text comes out, the npm package jose reads.
import assert from 'node:assert/strict';
import { createPublicKey, type JsonWebKey, randomBytes } from 'node:crypto';
import { beforeEach, describe, test } from 'node:test';
import { CompactEncrypt, compactVerify, flattenedVerify, importJWK } from 'jose';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { decryptDataKey } from '../../../agent/operations/decrypt-data-key.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { encryptGeneral } from '../../../agent/operations/encrypt-general.ts';
import { explain } from '../../../agent/operations/explain.ts';
import { generateDataKey } from '../../../agent/operations/generate-data-key.ts';
import { type ReEncryptInput, reEncrypt } from '../../../agent/operations/re-encrypt.ts';
import { type ReSignInput, reSign } from '../../../agent/operations/re-sign.ts';
import { rewrap } from '../../../agent/operations/rewrap.ts';
import { type SignatureForm, sign } from '../../../agent/operations/sign.ts';
import { SCOPES, type Scope } from '../../../proto/documents/operations.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld, NO_AAD } from './crypto-world.ts';

const plaintext = Buffer.from('Speak, friend, and enter');
const none = Buffer.alloc(0);

const fails = (promise: Promise<unknown>, code: Code, about?: RegExp): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (about !== undefined) assert.match(thrown.message, about);
    return true;
  });
const headerOf = (text: string) => JSON.parse(Buffer.from(text.split('.')[0] as string, 'base64url').toString());
const callWith = (scopes: readonly Scope[], principal = 'app') =>
  aCall('acme', { caller: { tenant: 'acme', principal, scopes: new Set(scopes), authenticatedBy: 'jwt' } });

let token: FakeToken;
let world: CryptoWorld;
beforeEach(async () => {
  token = new FakeToken();
  world = new CryptoWorld(token);
  await world.add({ keyId: 'old', algorithm: 'AES-256', purpose: 'encrypt' });
  await world.add({ keyId: 'new', algorithm: 'EC-P256', purpose: 'encrypt' });
});

const seal = async (key: string, associatedData = none): Promise<string> =>
  (await encrypt(world.ports, aCall(), { key, plaintext, associatedData })).value.jwe;
const open = async (jwe: string, associatedData = none): Promise<Buffer> =>
  (await decrypt(world.ports, aCall(), { jwe, key: '', associatedData })).value.plaintext;
const move = (change: Partial<ReEncryptInput>, call = aCall()) =>
  reEncrypt(world.ports, call, {
    jwe: '',
    sourceKey: '',
    targetKey: '',
    associatedData: none,
    newAssociatedData: undefined,
    ...change,
  });

describe('ReEncrypt', () => {
  test('moves to another key; answer and record name both', async () => {
    const { value, envelope } = await move({ jwe: await seal('old'), targetKey: 'new' });
    assert.equal(headerOf(value.jwe).kid, 'acme/new/1');
    assert.deepEqual(await open(value.jwe), plaintext);
    assert.deepEqual(envelope.keyUsed, { keyId: 'new', version: 1 });
    assert.deepEqual(value.sourceKeyUsed, { keyId: 'old', version: 1 });
    assert.equal(value.sourceAlgorithmUsed, 'A256GCMKW');
    const record = world.records.find((row) => row.operation === 're-encrypt');
    assert.deepEqual([record?.key, record?.algorithm, record?.outcome], ['new/1', 'ECDH-ES+A256KW', 'ok']);
    assert.deepEqual([record?.detail?.['source'], record?.detail?.['sourceAlgorithm']], ['old/1', 'A256GCMKW']);
  });

  test('is a last use of the source, as every reading is that succeeds and none that fails', async () => {
    const jwe = await seal('old');
    assert.deepEqual(world.processed, []);
    const { value } = await move({ jwe, targetKey: 'new' });
    assert.deepEqual(world.processed, ['old/1']);
    await open(value.jwe);
    assert.deepEqual(world.processed, ['old/1', 'new/1']);
    await fails(open(value.jwe, Buffer.from('other')), 'INVALID_CIPHERTEXT');
    await fails(move({ jwe: value.jwe, associatedData: Buffer.from('other') }), 'INVALID_CIPHERTEXT');
    assert.deepEqual(world.processed, ['old/1', 'new/1']);
  });

  test('without a target moves to the primary version of the same key', async () => {
    const jwe = await seal('old');
    await world.rotate('old', { algorithm: 'RSA-2048', jose: 'RSA-OAEP-256' });
    const { value, envelope } = await move({ jwe });
    assert.deepEqual([value.sourceKeyUsed.version, envelope.keyUsed?.version], [1, 2]);
    assert.equal(headerOf(value.jwe).alg, 'RSA-OAEP-256');
    assert.deepEqual(await open(value.jwe), plaintext);
  });

  test('carries associated data over, or replaces it, or takes it away', async () => {
    const [before, after] = [Buffer.from('before'), Buffer.from('after')];
    const jwe = await seal('old', before);
    const input = { jwe, targetKey: 'new', associatedData: before };
    for (const [given, expected] of [
      [undefined, before],
      [after, after],
      [none, none],
    ] as const) {
      const { value } = await move({ ...input, newAssociatedData: given });
      assert.deepEqual(await open(value.jwe, expected), plaintext);
    }
    await fails(move({ ...input, associatedData: after }), 'INVALID_CIPHERTEXT');
  });

  test('takes the General JSON form, and what other libraries made', async () => {
    const recipients = [{ key: 'new' }, { key: 'old' }];
    const { value } = await encryptGeneral(world.ports, aCall(), { recipients, plaintext, associatedData: none });
    const moved = await move({ jwe: value.jwe, sourceKey: 'old', targetKey: 'old' });
    assert.deepEqual(await open(moved.value.jwe), plaintext);
    const jwk = await importJWK(world.version('new').publicJwk as JsonWebKey, 'ECDH-ES+A256KW');
    const foreign = await new CompactEncrypt(plaintext)
      .setProtectedHeader({ alg: 'ECDH-ES+A256KW', enc: 'A256CBC-HS512' })
      .encrypt(jwk);
    await fails(move({ jwe: foreign, targetKey: 'old' }), 'INVALID_REQUEST', /source_key/);
    const own = await move({ jwe: foreign, sourceKey: 'new', targetKey: 'old' });
    assert.deepEqual(await open(own.value.jwe), plaintext);
  });

  test('needs the scopes of both sides', async () => {
    const jwe = await seal('old');
    for (const scopes of [['crypto.encrypt'], ['crypto.decrypt'], []] as const) {
      await fails(move({ jwe, targetKey: 'new' }, callWith(scopes)), 'PERMISSION_DENIED', /needs the scope/);
    }
    await move({ jwe, targetKey: 'new' }, callWith(['crypto.encrypt', 'crypto.decrypt']));
    const probe = { operation: 're-encrypt', key: 'old', algorithm: '' };
    const explained = await explain(world.ports, callWith(['crypto.encrypt', 'agent.status']), probe);
    assert.deepEqual([explained.value.allowed, explained.value.rule], [false, 'caller.scopes']);
  });

  test('needs a grant to decrypt of the source and one to encrypt of the target', async () => {
    const jwe = await seal('old');
    const grant = (keyId: string, ...operations: ('encrypt' | 'decrypt' | 're-encrypt')[]): void =>
      world.change(keyId, { grants: [{ principal: 'app', operations }] });
    const attempt = () => move({ jwe, targetKey: 'new' });
    grant('old', 're-encrypt', 'encrypt');
    await fails(attempt(), 'PERMISSION_DENIED', /no grant/);
    grant('old', 'decrypt');
    grant('new', 'decrypt', 're-encrypt');
    await fails(attempt(), 'PERMISSION_DENIED', /no grant/);
    grant('new', 'encrypt');
    await attempt();
  });

  test('within one key a grant of re-encrypt is enough, for it shows nobody anything', async () => {
    const jwe = await seal('old');
    world.change('old', { grants: [{ principal: 'app', operations: ['re-encrypt'] }] });
    await move({ jwe });
    await fails(move({ jwe, targetKey: 'new' }), 'PERMISSION_DENIED');
    await fails(decrypt(world.ports, aCall(), { jwe, key: '', ...NO_AAD }), 'PERMISSION_DENIED');
  });

  test('asks policy as decryption of the source, as encryption of the target and as itself', async () => {
    const jwe = await seal('old');
    world.questions.length = 0;
    await move({ jwe, targetKey: 'new' });
    assert.deepEqual(
      world.questions.map((row) => [row.operation, row.algorithm]),
      [
        ['decrypt', 'AES-256'],
        ['encrypt', 'EC-P256'],
        ['re-encrypt', 'EC-P256'],
      ],
    );
    for (const name of ['decrypt', 'encrypt', 're-encrypt']) {
      world.refuses = ({ operation }) => (operation === name ? 'POLICY_DENIED' : undefined);
      await fails(move({ jwe, targetKey: 'new' }), 'POLICY_DENIED');
    }
  });

  test('takes data out of a revoked key, or version, for holders of keys.revoke alone', async () => {
    const jwe = await seal('old');
    await world.rotate('old');
    const revoked = world
      .key('old')
      .versions.map((row) => (row.version === 1 ? { ...row, state: 'REVOKED' as const } : row));
    world.change('old', { versions: revoked });
    const without = callWith(SCOPES.filter((scope) => scope !== 'keys.revoke'));
    await fails(move({ jwe }, without), 'KEY_STATE');
    assert.deepEqual(await open((await move({ jwe })).value.jwe), plaintext);

    world.change('old', { state: 'REVOKED' });
    await fails(move({ jwe, targetKey: 'new' }, without), 'KEY_STATE');
    const moved = await move({ jwe, targetKey: 'new' });
    assert.deepEqual(await open(moved.value.jwe), plaintext);
    await fails(move({ jwe }), 'KEY_STATE'); // not towards a revoked key
    await fails(move({ jwe: await seal('new'), targetKey: 'old' }), 'KEY_STATE');
    await fails(decrypt(world.ports, aCall(), { jwe, key: '', ...NO_AAD }), 'KEY_STATE');
  });

  test('reads an expired key, but does nothing with a suspended or destroyed one', async () => {
    const jwe = await seal('old');
    world.change('old', { limits: { hardExpiry: Date.now() - 1 } });
    await move({ jwe, targetKey: 'new' });
    await fails(move({ jwe: await seal('new'), targetKey: 'old' }), 'KEY_STATE');
    for (const state of ['SUSPENDED', 'PENDING_DESTRUCTION', 'DESTROYED'] as const) {
      world.change('old', { state, destroyAt: Date.now() + 9999 });
      await fails(move({ jwe, targetKey: 'new' }), 'KEY_STATE');
    }
  });

  test('another tenant’s key is refused on either side, and a wrong ciphertext is told of in one way', async () => {
    await world.add({ keyId: 'theirs', algorithm: 'AES-256', purpose: 'encrypt', tenant: 'globex' });
    const jwe = await seal('old');
    await fails(move({ jwe, targetKey: 'globex/theirs' }), 'PERMISSION_DENIED');
    await fails(move({ jwe, sourceKey: 'globex/theirs' }), 'PERMISSION_DENIED');
    await fails(move({ jwe: `${jwe.slice(0, -2)}AA`, targetKey: 'new' }), 'INVALID_CIPHERTEXT');
    await world.add({ keyId: 'signer', algorithm: 'EC-P256', purpose: 'sign' });
    await fails(move({ jwe, targetKey: 'signer' }), 'INVALID_REQUEST', /target_key/);
  });
});

describe('when something is missing', () => {
  const noAudit = () => ({ ...world.ports, audit: { append: () => Promise.reject(new Error('full')) } });

  test('no record, no answer: nothing moves, no data key leaves', async () => {
    const input = { jwe: await seal('old'), sourceKey: '', targetKey: 'new', associatedData: none };
    await fails(reEncrypt(noAudit(), aCall(), { ...input, newAssociatedData: undefined }), 'AUDIT_UNAVAILABLE');
    const asked = { key: 'old', length: 0, wrappedOnly: false, ...NO_AAD };
    await fails(generateDataKey(noAudit(), aCall(), asked), 'AUDIT_UNAVAILABLE');
  });

  test('data keys are unwrapped unrecorded where policy lets processing go on', async () => {
    const { value } = await generateDataKey(world.ports, aCall(), {
      key: 'old',
      length: 0,
      wrappedOnly: false,
      ...NO_AAD,
    });
    const policy = { ...world.ports.policy, whenAuditUnavailable: () => 'process-only' as const };
    const input = { wrappedDataKey: value.wrappedDataKey, key: '', ...NO_AAD };
    const { envelope } = await decryptDataKey({ ...noAudit(), policy }, aCall(), input);
    assert.deepEqual(
      envelope.warnings.map((row) => row.code),
      ['AUDIT_SUSPENDED'],
    );
    const moving = { jwe: await seal('old'), sourceKey: '', targetKey: '', associatedData: none };
    const moved = reEncrypt({ ...noAudit(), policy }, aCall(), { ...moving, newAssociatedData: undefined });
    await fails(moved, 'AUDIT_UNAVAILABLE');
  });

  test('a token that is busy or gone on either side says so, and is not taken for a wrong ciphertext', async () => {
    const jwe = await seal('old');
    await world.add({ keyId: 'aes', algorithm: 'AES-128', purpose: 'encrypt' });
    const general = await encryptGeneral(world.ports, aCall(), { recipients: [{ key: 'old' }], plaintext, ...NO_AAD });
    for (const code of ['HSM_BUSY', 'HSM_UNAVAILABLE'] as const) {
      for (const method of ['gcmDecrypt', 'gcmEncrypt'] as const) {
        token.fail({ method, code });
        await fails(move({ jwe, targetKey: 'aes' }), code);
        assert.equal(world.lastRecord.key, method === 'gcmDecrypt' ? 'old/1' : 'aes/1');
      }
      token.fail({ method: 'rewrap', code });
      const input = { jwe: general.value.jwe, sourceKey: '', add: [{ key: 'aes' }], remove: [] };
      await fails(rewrap(world.ports, aCall(), input), code);
      assert.equal(world.lastRecord.outcome, code);
    }
  });

  test('a deadline that has passed and a cancelled call do nothing', async () => {
    const jwe = await seal('old');
    await fails(move({ jwe }, aCall('acme', { deadline: Date.now() - 1 })), 'DEADLINE_EXCEEDED');
    await fails(move({ jwe }, aCall('acme', { signal: AbortSignal.abort() })), 'CANCELLED');
  });
});

describe('ReSign', () => {
  const message = Buffer.from('{"sub":"frodo"}');
  beforeEach(async () => {
    await world.add({ keyId: 'rsa', algorithm: 'RSA-2048', purpose: 'sign' });
    await world.add({ keyId: 'ec', algorithm: 'EC-P384', purpose: 'sign' });
  });
  const jwsOf = async (key: string, form: SignatureForm = 'compact', type = ''): Promise<string> => {
    const { value } = await sign(world.ports, aCall(), { key, input: { message }, form, type });
    return 'jws' in value ? value.jws : '';
  };
  const again = (change: Partial<ReSignInput>, call = aCall()) =>
    reSign(world.ports, call, { jws: '', message: undefined, sourceKey: '', targetKey: '', ...change });
  const keyOf = (keyId: string, number = 1) =>
    createPublicKey({ key: world.version(keyId, number).publicJwk as JsonWebKey, format: 'jwk' });

  test('signs the same payload and type by another key, and names both', async () => {
    const { value, envelope } = await again({ jws: await jwsOf('rsa', 'compact', 'JWT'), targetKey: 'ec' });
    const verified = await compactVerify(value.jws, keyOf('ec'));
    assert.deepEqual(Buffer.from(verified.payload), message);
    assert.deepEqual([verified.protectedHeader.typ, verified.protectedHeader.alg], ['JWT', 'ES384']);
    assert.deepEqual(
      [envelope.keyUsed?.keyId, value.sourceKeyUsed.keyId, value.sourceAlgorithmUsed],
      ['ec', 'rsa', 'PS256'],
    );
    assert.deepEqual([world.lastRecord.key, world.lastRecord.detail?.['source']], ['ec/1', 'rsa/1']);
  });

  test('keeps detached and unencoded payloads as they are', async () => {
    for (const form of ['detached', 'unencoded'] as const) {
      const { value } = await again({ jws: await jwsOf('rsa', form), message, targetKey: 'ec' });
      const [header = '', payload, signature = ''] = value.jws.split('.');
      assert.equal(payload, '');
      const given = form === 'unencoded' ? message : message.toString('base64url');
      await flattenedVerify({ protected: header, payload: given, signature }, keyOf('ec'));
    }
    await fails(again({ jws: await jwsOf('rsa', 'detached') }), 'INVALID_REQUEST', /message/);
  });

  test('without a target signs by the primary version of the same key', async () => {
    const jws = await jwsOf('rsa');
    await world.rotate('rsa', { algorithm: 'EC-P256', jose: 'ES256' });
    const { value } = await again({ jws });
    await compactVerify(value.jws, keyOf('rsa', 2));
    assert.deepEqual([value.sourceKeyUsed.version, world.lastRecord.key], [1, 'rsa/2']);
  });

  test('a signature that does not verify is an error, and nothing is signed', async () => {
    const jws = await jwsOf('rsa');
    const [header, payload, signature] = jws.split('.') as [string, string, string];
    const forged = `${header}.${Buffer.from('{"sub":"sauron"}').toString('base64url')}.${signature}`;
    const uses = world.uses;
    await fails(again({ jws: forged, targetKey: 'ec' }), 'SIGNATURE_INVALID');
    await fails(again({ jws: `${header}.${payload}.`, targetKey: 'ec' }), 'SIGNATURE_INVALID');
    assert.deepEqual([world.uses, world.lastRecord.outcome], [uses, 'SIGNATURE_INVALID']);
  });

  test('needs both scopes, and keys.revoke to leave a revoked key', async () => {
    const jws = await jwsOf('rsa');
    await fails(again({ jws, targetKey: 'ec' }, callWith(['crypto.sign'])), 'PERMISSION_DENIED');
    world.change('rsa', { state: 'REVOKED' });
    await fails(again({ jws, targetKey: 'ec' }, callWith(['crypto.sign', 'crypto.verify'])), 'KEY_STATE');
    await again({ jws, targetKey: 'ec' });
    await fails(again({ jws }), 'KEY_STATE');
  });
});

describe('data keys', () => {
  const generate = (change: { length?: number; wrappedOnly?: boolean; associatedData?: Buffer; key?: string } = {}) =>
    generateDataKey(world.ports, aCall(), { key: 'old', length: 0, wrappedOnly: false, ...NO_AAD, ...change });
  const unwrap = async (wrappedDataKey: string, associatedData = none, key = ''): Promise<Buffer> =>
    (await decryptDataKey(world.ports, aCall(), { wrappedDataKey, key, associatedData })).value.dataKey;

  test('of each length come plain and wrapped, and unwrap to themselves', async () => {
    for (const key of ['old', 'new']) {
      for (const length of [0, 16, 24, 32, 64]) {
        const { value } = await generate({ key, length });
        assert.equal(value.dataKey.length, length === 0 ? 32 : length);
        assert.deepEqual(await unwrap(value.wrappedDataKey), value.dataKey);
        assert.equal(headerOf(value.wrappedDataKey).typ, 'mortise-data-key+jwe');
      }
    }
    assert.notDeepEqual((await generate()).value.dataKey, (await generate()).value.dataKey);
    for (const length of [1, 33, 128]) await fails(generate({ length }), 'INVALID_REQUEST', /length/);
  });

  test('come wrapped alone where asked, and the record says so', async () => {
    const { value } = await generate({ wrappedOnly: true, length: 16 });
    assert.equal(value.dataKey.length, 0);
    assert.deepEqual([world.lastRecord.detail?.['wrappedOnly'], world.lastRecord.detail?.['length']], [true, 16]);
    assert.equal((await unwrap(value.wrappedDataKey)).length, 16);
  });

  test('are bound to their associated data and their key', async () => {
    const associatedData = Buffer.from('volume 7');
    const { value } = await generate({ associatedData });
    assert.deepEqual(await unwrap(value.wrappedDataKey, associatedData, 'old'), value.dataKey);
    await fails(unwrap(value.wrappedDataKey), 'INVALID_CIPHERTEXT');
    await fails(unwrap(value.wrappedDataKey, associatedData, 'new'), 'INVALID_REQUEST');
  });

  test('and other ciphertexts are not taken for each other', async () => {
    const { value } = await generate();
    await fails(open(value.wrappedDataKey), 'INVALID_REQUEST', /DecryptDataKey/);
    await fails(unwrap(await seal('old')), 'INVALID_REQUEST', /typ/);
    // The type is authenticated: taking it off does not make it a message.
    const [header, ...rest] = value.wrappedDataKey.split('.');
    const { typ: _, ...bare } = headerOf(`${header}.`);
    const stripped = [Buffer.from(JSON.stringify(bare)).toString('base64url'), ...rest].join('.');
    await fails(open(stripped), 'INVALID_CIPHERTEXT');
  });

  test('of a length that GenerateDataKey does not make are refused', async () => {
    const jwk = await importJWK(world.version('new').publicJwk as JsonWebKey, 'ECDH-ES+A256KW');
    const header = {
      alg: 'ECDH-ES+A256KW',
      enc: 'A256GCM',
      typ: 'application/MORTISE-data-key+jwe',
      kid: 'acme/new/1',
    };
    const wrapped = (bytes: number) => new CompactEncrypt(randomBytes(bytes)).setProtectedHeader(header).encrypt(jwk);
    await fails(unwrap(await wrapped(7)), 'INVALID_CIPHERTEXT');
    assert.equal((await unwrap(await wrapped(32))).length, 32);
  });

  test('stay data keys when they are re-encrypted, by those who may unwrap them', async () => {
    const { value } = await generate();
    const moved = await move({ jwe: value.wrappedDataKey, targetKey: 'new' });
    assert.deepEqual(await unwrap(moved.value.jwe), value.dataKey);
    world.change('old', { grants: [{ principal: 'app', operations: ['decrypt'] }] });
    await fails(move({ jwe: value.wrappedDataKey, targetKey: 'new' }), 'PERMISSION_DENIED');
  });
});
