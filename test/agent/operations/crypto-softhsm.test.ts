// The use cases on a real SoftHSM: requests at the very limits that crypto.proto states go through the token process,
// and its failures come back as what they are.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { AgentError } from '../../../agent/errors.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { generateRandom } from '../../../agent/operations/generate-random.ts';
import { mac } from '../../../agent/operations/mac.ts';
import { type SignInput, sign } from '../../../agent/operations/sign.ts';
import { verify } from '../../../agent/operations/verify.ts';
import { verifyMac } from '../../../agent/operations/verify-mac.ts';
import type { Token } from '../../../agent/token/token.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';
import { aCall, CryptoWorld, NO_AAD } from './crypto-world.ts';

const KIB = 1024;

describe('cryptographic use cases on SoftHSM', () => {
  let hsm: SoftHsm;
  let token: Token;
  let world: CryptoWorld;
  before(async () => {
    hsm = await makeSoftHsm();
    token = await openSoftHsmToken(hsm);
    world = new CryptoWorld(token);
    await world.add({ keyId: 'aes', algorithm: 'AES-256', purpose: 'encrypt' });
    await world.add({ keyId: 'rsa', algorithm: 'RSA-2048', purpose: 'encrypt' });
    await world.add({ keyId: 'hmac', algorithm: 'HMAC-SHA512', purpose: 'mac' });
    await world.add({ keyId: 'ed25519', algorithm: 'Ed25519', purpose: 'sign' });
    await world.add({ keyId: 'ed25519-wrapped', algorithm: 'Ed25519', purpose: 'sign', custody: 'wrapped' });
  });
  after(async () => {
    await world?.pool.close();
    await token?.close();
    await hsm?.dispose();
  });

  test('data of 2 MiB encrypts and decrypts', async () => {
    const plaintext = randomBytes(2048 * KIB);
    for (const key of ['aes', 'rsa']) {
      const sealed = await encrypt(world.ports, aCall(), { key, plaintext, ...NO_AAD });
      const opened = await decrypt(world.ports, aCall(), { jwe: sealed.value.jwe, key: '', ...NO_AAD });
      assert.ok(opened.value.plaintext.equals(plaintext));
    }
  });

  test('a wrong CEK is INVALID_CIPHERTEXT, whatever the token calls it', async () => {
    for (const key of ['aes', 'rsa']) {
      const { value } = await encrypt(world.ports, aCall(), { key, plaintext: randomBytes(9), ...NO_AAD });
      const segments = value.jwe.split('.');
      const bytes = Buffer.from(segments[1] as string, 'base64url');
      for (const wrong of [bytes.subarray(1), Buffer.alloc(bytes.length, 0xff), Buffer.alloc(0), randomBytes(1024)]) {
        segments[1] = wrong.toString('base64url');
        await assert.rejects(decrypt(world.ports, aCall(), { jwe: segments.join('.'), key: '', ...NO_AAD }), {
          code: 'INVALID_CIPHERTEXT',
        });
      }
    }
  });

  test('the largest messages that Ed25519 and HMAC take whole', async () => {
    const limits = { raw: 1024, unencoded: 1023, compact: 767, detached: 767 } as const;
    for (const key of ['ed25519', 'ed25519-wrapped']) {
      for (const [form, limit] of Object.entries(limits) as [NonNullable<SignInput['form']>, number][]) {
        const message = randomBytes(limit * KIB);
        const type = form === 'raw' ? '' : '"'.repeat(127); // doubles in JSON
        const { value } = await sign(world.ports, aCall(), { key, input: { message }, form, type });
        const signature = 'jws' in value ? { jws: value.jws } : { raw: value.signature };
        const input = form === 'compact' ? undefined : { message };
        const named = form === 'raw' ? key : '';
        const checked = await verify(world.ports, aCall(), { key: named, version: 0, signature, input });
        assert.ok(checked.value.valid, form);
        const over = { message: Buffer.concat([message, Buffer.alloc(1)]) };
        await assert.rejects(sign(world.ports, aCall(), { key, input: over, form, type }), { code: 'TOO_LARGE' });
      }
    }
    const message = randomBytes(1024 * KIB);
    const made = await mac(world.ports, aCall(), { key: 'hmac', message });
    const input = { key: 'hmac', message, mac: made.value.mac, version: 0 };
    assert.ok((await verifyMac(world.ports, aCall(), input)).value.valid);
  });

  test('64 KiB of random bytes at once', async () => {
    const { value } = await generateRandom(world.ports, aCall(), { length: 65_536 });
    assert.equal(value.random.length, 65_536);
    assert.ok(new Set(value.random).size === 256);
  });

  test('a deadline that has passed and a cancelled call are told apart', async () => {
    const input = { key: 'aes', plaintext: Buffer.alloc(1), ...NO_AAD };
    const past = aCall('acme', { deadline: Date.now() - 1 });
    await assert.rejects(encrypt(world.ports, past, input), { code: 'DEADLINE_EXCEEDED' });
    const cancelled = aCall('acme', { signal: AbortSignal.abort() });
    await assert.rejects(encrypt(world.ports, cancelled, input), { code: 'CANCELLED' });
  });

  test('a token that is gone fails encryption and decryption, and leaves verification alone', async () => {
    const sealed = await encrypt(world.ports, aCall(), { key: 'aes', plaintext: Buffer.alloc(1), ...NO_AAD });
    const message = Buffer.from('m');
    const signed = await sign(world.ports, aCall(), { key: 'ed25519', input: { message }, form: 'compact', type: '' });
    assert.ok('jws' in signed.value);
    await token.close();
    const unavailable = (thrown: unknown): boolean =>
      thrown instanceof AgentError && ['HSM_UNAVAILABLE', 'SHUTTING_DOWN'].includes(thrown.code);
    await assert.rejects(decrypt(world.ports, aCall(), { jwe: sealed.value.jwe, key: '', ...NO_AAD }), unavailable);
    await assert.rejects(generateRandom(world.ports, aCall(), { length: 8 }), unavailable);
    const check = { key: '', version: 0, signature: { jws: signed.value.jws }, input: undefined };
    assert.ok((await verify(world.ports, aCall(), check)).value.valid);
  });
});
