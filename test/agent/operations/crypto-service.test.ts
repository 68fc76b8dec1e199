// CryptoService as the server calls it: proto messages in and out, and what each rpc says to an empty or hostile one.
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import { AgentError } from '../../../agent/errors.ts';
import { cryptoHandlers } from '../../../agent/server/services/crypto.ts';
import {
  CryptoServiceService,
  DecryptDataKeyRequest,
  DecryptRequest,
  EncryptGeneralRequest,
  EncryptRequest,
  EncryptToRequest,
  GenerateDataKeyRequest,
  GenerateRandomRequest,
  MacRequest,
  ReEncryptRequest,
  ReSignRequest,
  RewrapRequest,
  SignatureForm,
  SignRequest,
  VerifyMacRequest,
  VerifyRequest,
  VerifyWithRequest,
} from '../../../proto/gen/mortise/agent/v1/crypto.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';

const message = Buffer.from('message');
const REQUESTS = {
  encrypt: EncryptRequest,
  decrypt: DecryptRequest,
  sign: SignRequest,
  verify: VerifyRequest,
  mac: MacRequest,
  verifyMac: VerifyMacRequest,
  generateRandom: GenerateRandomRequest,
  encryptTo: EncryptToRequest,
  verifyWith: VerifyWithRequest,
  encryptGeneral: EncryptGeneralRequest,
  reEncrypt: ReEncryptRequest,
  rewrap: RewrapRequest,
  reSign: ReSignRequest,
  generateDataKey: GenerateDataKeyRequest,
  decryptDataKey: DecryptDataKeyRequest,
} as const;

describe('CryptoService', () => {
  const world = new CryptoWorld(new FakeToken());
  const handlers = cryptoHandlers(world.ports);
  before(async () => {
    await world.add({ keyId: 'aes', algorithm: 'AES-256', purpose: 'encrypt' });
    await world.add({ keyId: 'ec', algorithm: 'EC-P256', purpose: 'sign' });
    await world.add({ keyId: 'rsa', algorithm: 'RSA-2048', purpose: 'encrypt' });
    await world.add({ keyId: 'other-ec', algorithm: 'EC-P256', purpose: 'encrypt' });
    await world.add({ keyId: 'hmac', algorithm: 'HMAC-SHA256', purpose: 'mac' });
  });
  const jwkOf = (key: string, more: object = {}): string =>
    JSON.stringify({ ...world.version(key).publicJwk, ...more });

  test('has a handler for every rpc of the service, and no other', () => {
    const names = Object.keys(CryptoServiceService).sort();
    assert.deepEqual(Object.keys(handlers).sort(), names);
    assert.deepEqual(Object.keys(REQUESTS).sort(), names);
  });

  test('Encrypt and Decrypt carry key, associated data and envelope', async () => {
    const associatedData = Buffer.from('aad');
    const sealed = await handlers.encrypt(aCall(), { key: 'aes', plaintext: message, associatedData });
    assert.deepEqual(sealed.envelope, {
      keyRequested: 'aes',
      keyUsed: { keyId: 'aes', version: 1 },
      algorithmUsed: 'A256GCMKW',
      warnings: [],
      correlationId: 'c-1',
      eventId: `h-1/1/${world.records.length}`,
    });
    const opened = await handlers.decrypt(aCall(), { jwe: sealed.jwe, key: 'aes', associatedData });
    assert.ok(opened.plaintext.equals(message));
    assert.deepEqual(opened.envelope?.keyUsed, { keyId: 'aes', version: 1 });
  });

  test('Sign and Verify carry every form and both inputs', async () => {
    const context = Buffer.alloc(0);
    const request = { key: 'ec', type: '', context, input: { $case: 'message', value: message } } as const;
    const none = { key: '', version: 0, input: undefined, context };
    for (const form of [SignatureForm.UNSPECIFIED, SignatureForm.JWS_COMPACT]) {
      const { jws, signature, envelope } = await handlers.sign(aCall(), { ...request, form });
      assert.equal(signature.length, 0);
      assert.equal(envelope?.algorithmUsed, 'ES256');
      const checked = await handlers.verify(aCall(), { ...none, signature: { $case: 'jws', value: jws } });
      assert.ok(checked.valid && checked.payload.equals(message));
    }
    for (const form of [SignatureForm.JWS_DETACHED, SignatureForm.JWS_UNENCODED]) {
      const { jws } = await handlers.sign(aCall(), { ...request, form });
      const signature = { $case: 'jws', value: jws } as const;
      const checked = await handlers.verify(aCall(), { ...none, input: request.input, signature });
      assert.ok(checked.valid && checked.payload.length === 0);
    }
    const digest = { $case: 'digest', value: hash('sha256', message, 'buffer') } as const;
    const made = await handlers.sign(aCall(), { ...request, input: digest, form: SignatureForm.RAW });
    assert.deepEqual([made.jws, made.signature.length], ['', 64]);
    const signature = { $case: 'raw', value: made.signature } as const;
    for (const input of [digest, request.input]) {
      const checked = await handlers.verify(aCall(), { key: 'ec', version: 1, input, signature, context });
      assert.ok(checked.valid);
    }
    const wrong = { $case: 'message', value: Buffer.from('other') } as const;
    const refused = await handlers.verify(aCall(), { key: 'ec', version: 0, input: wrong, signature, context });
    assert.deepEqual([refused.valid, refused.payload.length], [false, 0]);
    const publicJwk = jwkOf('ec', { alg: 'ES256' });
    assert.ok((await handlers.verifyWith(aCall(), { publicJwk, input: digest, signature, context })).valid);
  });

  test('Mac and VerifyMac, GenerateRandom, EncryptTo', async () => {
    const { mac, envelope } = await handlers.mac(aCall(), { key: 'hmac', message });
    assert.deepEqual(envelope?.keyUsed, { keyId: 'hmac', version: 1 });
    assert.ok((await handlers.verifyMac(aCall(), { key: 'hmac', message, mac, version: 1 })).valid);
    mac[0] = (mac[0] as number) ^ 1;
    assert.ok(!(await handlers.verifyMac(aCall(), { key: 'hmac', message, mac, version: 0 })).valid);
    assert.equal((await handlers.generateRandom(aCall(), { length: 33 })).random.length, 33);
    const request = { publicJwk: jwkOf('rsa'), plaintext: message, associatedData: Buffer.alloc(0) };
    const sealed = await handlers.encryptTo(aCall(), request);
    assert.equal(sealed.envelope?.keyUsed, undefined);
    const opened = await handlers.decrypt(aCall(), { jwe: sealed.jwe, key: 'rsa', associatedData: Buffer.alloc(0) });
    assert.ok(opened.plaintext.equals(message));
  });

  test('EncryptGeneral, Rewrap, ReEncrypt, ReSign and the data keys', async () => {
    const none = Buffer.alloc(0);
    const ofKey = (value: string) => ({ recipient: { $case: 'key', value } as const });
    const ofJwk = (value: string) => ({ recipient: { $case: 'publicJwk', value } as const });
    const request = { recipients: [ofKey('aes')], plaintext: message, associatedData: none };
    const sealed = await handlers.encryptGeneral(aCall(), request);
    assert.deepEqual(sealed.keysUsed, [{ keyId: 'aes', version: 1 }]);
    const add = [ofKey('rsa'), ofJwk(jwkOf('other-ec'))];
    const wrapped = await handlers.rewrap(aCall(), { jwe: sealed.jwe, sourceKey: '', add, remove: ['acme/aes/1'] });
    assert.deepEqual([wrapped.insideToken, wrapped.keysUsed], [false, [{ keyId: 'rsa', version: 1 }]]);
    const moving = { jwe: wrapped.jwe, sourceKey: 'rsa', targetKey: 'aes', associatedData: none };
    const moved = await handlers.reEncrypt(aCall(), { ...moving, newAssociatedData: Buffer.from('n') });
    assert.deepEqual(moved.sourceKeyUsed, { keyId: 'rsa', version: 1 });
    const opened = await handlers.decrypt(aCall(), { jwe: moved.jwe, key: '', associatedData: Buffer.from('n') });
    assert.ok(opened.plaintext.equals(message));

    const signing = { key: 'ec', type: '', context: none, input: { $case: 'message', value: message } as const };
    const { jws } = await handlers.sign(aCall(), { ...signing, form: SignatureForm.JWS_DETACHED });
    const again = await handlers.reSign(aCall(), { jws, message, sourceKey: '', targetKey: '' });
    assert.deepEqual([again.envelope?.keyUsed, again.sourceAlgorithmUsed], [{ keyId: 'ec', version: 1 }, 'ES256']);

    const asked = { key: 'aes', length: 64, wrappedOnly: false, associatedData: none };
    const made = await handlers.generateDataKey(aCall(), asked);
    const { wrappedDataKey } = made;
    const found = await handlers.decryptDataKey(aCall(), { wrappedDataKey, key: '', associatedData: none });
    assert.ok(found.dataKey.equals(made.dataKey) && found.dataKey.length === 64);
  });

  test('an empty request is INVALID_REQUEST with a field, recorded as such', async () => {
    for (const [name, type] of Object.entries(REQUESTS)) {
      const handler = handlers[name as keyof typeof handlers] as (call: unknown, request: unknown) => Promise<unknown>;
      await assert.rejects(handler(aCall(), type.fromPartial({})), (thrown: unknown) => {
        assert.ok(thrown instanceof AgentError, String(thrown));
        assert.equal(thrown.code, 'INVALID_REQUEST', `${name}: ${thrown.message}`);
        assert.ok(thrown.fields.length > 0, `${name} names no field`);
        return true;
      });
      assert.equal(world.lastRecord.outcome, 'INVALID_REQUEST');
    }
  });

  test('a caller without the scope is refused by every rpc before anything is looked at', async () => {
    const call = aCall('acme', {
      caller: { tenant: 'acme', principal: 'app', scopes: new Set(), authenticatedBy: 'jwt' },
    });
    for (const [name, type] of Object.entries(REQUESTS)) {
      const handler = handlers[name as keyof typeof handlers] as (call: unknown, request: unknown) => Promise<unknown>;
      await assert.rejects(handler(call, type.fromPartial({})), { code: 'PERMISSION_DENIED' }, name);
    }
  });

  test('fuzz: a request of random bytes that decodes at all ends in an answer or an error of the table', async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.string({ maxLength: 64 }).map((text) => Buffer.from(text)),
    );
    const names = fc.constantFrom(...(Object.keys(REQUESTS) as (keyof typeof REQUESTS)[]));
    const tags = fc.constantFrom(0x0a, 0x12, 0x1a, 0x22, 0x2a);
    await fc.assert(
      fc.asyncProperty(names, fc.array(fc.tuple(tags, bytes), { maxLength: 5 }), async (name, fields) => {
        const parts = fields.map(([tag, value]) => Buffer.concat([Buffer.of(tag, value.length), value]));
        let request: unknown;
        try {
          request = REQUESTS[name].decode(Buffer.concat(parts));
        } catch {
          return; // not a message: the server answers before us
        }
        try {
          await (handlers[name] as (call: unknown, request: unknown) => Promise<unknown>)(aCall(), request);
        } catch (thrown) {
          assert.ok(thrown instanceof AgentError && thrown.code !== 'INTERNAL', `${name}: ${String(thrown)}`);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
