// Post-quantum keys and composites in custody `hsm`, on a token that holds them: made, used, rotated to and destroyed with
// no private byte in the agent, and allowed where policy wants private keys in the token.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createKey } from '../../../agent/operations/create-key.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { destroyKey } from '../../../agent/operations/destroy-key.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { importKey } from '../../../agent/operations/import-key.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { sign } from '../../../agent/operations/sign.ts';
import { verify } from '../../../agent/operations/verify.ts';
import { ALGORITHMS, algorithm, type Purpose } from '../../../proto/documents/algorithms.ts';
import type { KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { decide } from '../../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../../proto/documents/policy-merge.ts';
import { FakeToken } from '../../fakes/token.ts';
import { NOW, platformPolicy } from '../../support/policy-documents.ts';
import { LackingToken, openWorld, type World } from '../keys/world.ts';

const message = Buffer.from('Not all those who wander are lost');
const NO_AAD = { associatedData: Buffer.alloc(0) };

/** Whatever the token can hold that has a post-quantum key; RSA-4096 takes seconds to make and is as RSA-3072. */
const HELD = ALGORITHMS.filter((row) => row.id.startsWith('ML-') && row.custody[0] === 'hsm' && !/4096/.test(row.id));

/** A world whose vault fails: what is in the token needs no seed. */
const inToken = (t: TestContext): { world: World; token: FakeToken } => {
  const token = new FakeToken({ postQuantum: true });
  const world = openWorld(t, { token });
  const refused = async (): Promise<never> => assert.fail('the vault was asked');
  Object.assign(world.ports.vault, { generate: refused, withSeed: refused });
  return { world, token };
};
const make = async (world: World, keyId: string, id: string, purpose: Purpose): Promise<KeyVersionRecord> => {
  const input = { keyId, purpose, algorithm: id, jose: '', labels: {}, limits: {}, grants: [] };
  await createKey(world.ports, world.call(), input);
  return primaryOf(world, keyId);
};
const primaryOf = (world: World, keyId: string): KeyVersionRecord =>
  world.keys.catalog.get('acme', keyId)?.versions.find((row) => row.state === 'PRIMARY') ?? assert.fail(keyId);
const jwsBy = async (world: World, key: string): Promise<string> => {
  const input = { key, input: { message }, form: 'compact', type: '' } as const;
  const { value } = await sign(world.ports, world.call(), input);
  assert.ok('jws' in value);
  return value.jws;
};
const isValid = async (world: World, jws: string): Promise<boolean> => {
  const input = { key: '', version: 0, signature: { jws }, input: undefined };
  return (await verify(world.ports, world.call(), input)).value.valid;
};

for (const { id, jose } of HELD.filter((row) => row.jose.sign !== undefined)) {
  test(`${id}: the token signs with all of it`, async (t) => {
    const { world, token } = inToken(t);
    const version = await make(world, 'k', id, 'sign');
    assert.deepEqual([version.custody, version.wrapped], ['hsm', undefined]);
    assert.deepEqual([version.publicJwk?.['kty'], version.publicJwk?.['alg']], ['AKP', jose.sign?.[0]]);
    assert.ok(await isValid(world, await jwsBy(world, 'k')));
    assert.equal(token.calls.get('sign'), algorithm(id)?.components === undefined ? 1 : 2);
    assert.equal(token.calls.get('random') ?? 0, 0);
  });
}

test('a raw signature under a context is made in the token, and verifies under the same alone', async (t) => {
  const { world } = inToken(t);
  const context = Buffer.from('a context');
  for (const id of ['ML-DSA-44', 'ML-DSA-65-ES256']) {
    const key = id.toLowerCase();
    await make(world, key, id, 'sign');
    const input = { key, input: { message }, form: 'raw', type: '', context } as const;
    const { value } = await sign(world.ports, world.call(), input);
    assert.ok('signature' in value);
    const checked = async (other?: Buffer) => {
      const signed = { key, version: 0, signature: { raw: value.signature }, input: { message } };
      return (await verify(world.ports, world.call(), { ...signed, ...(other && { context: other }) })).value.valid;
    };
    assert.deepEqual([await checked(context), await checked(), await checked(Buffer.from('b'))], [true, false, false]);
  }
});

for (const { id, jose } of HELD.filter((row) => row.jose.encrypt !== undefined)) {
  test(`${id}: the token opens with all of it, and a ciphertext with one byte changed is one error`, async (t) => {
    const { world, token } = inToken(t);
    const version = await make(world, 'k', id, 'encrypt');
    assert.deepEqual([version.custody, version.wrapped], ['hsm', undefined]);
    assert.deepEqual([version.publicJwk?.['kty'], version.publicJwk?.['alg']], ['AKP', jose.encrypt?.[0]]);
    const { jwe } = (await encrypt(world.ports, world.call(), { key: 'k', plaintext: message, ...NO_AAD })).value;
    const open = async (text: string) =>
      (await decrypt(world.ports, world.call(), { jwe: text, key: 'k', ...NO_AAD })).value.plaintext;
    assert.deepEqual(await open(jwe), message);
    assert.equal(token.calls.get('decapsulate'), 1);
    const [head = '', ...rest] = jwe.split('.');
    const header = JSON.parse(Buffer.from(head, 'base64url').toString());
    const ek = Buffer.from(header.ek, 'base64url');
    for (const at of [3, ek.length - 2]) {
      const changed = Buffer.from(ek);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const other = Buffer.from(JSON.stringify({ ...header, ek: changed.toString('base64url') }));
      await assert.rejects(open([other.toString('base64url'), ...rest].join('.')), { code: 'INVALID_CIPHERTEXT' });
    }
  });
}

test('where the token lacks one half, a composite is split or wrapped as before', async (t) => {
  const world = openWorld(t, { token: new FakeToken() });
  assert.equal((await make(world, 'dsa', 'ML-DSA-65', 'sign')).custody, 'wrapped');
  assert.equal((await make(world, 'kem', 'ML-KEM-768', 'encrypt')).custody, 'wrapped');
  assert.equal((await make(world, 'both', 'ML-DSA-65-ES256', 'sign')).custody, 'split');
  const other = openWorld(t, { token: new LackingToken('Ed25519') });
  assert.equal((await make(other, 'both', 'ML-DSA-65-Ed25519', 'sign')).custody, 'wrapped');
});

test('rotates from RSA to ML-DSA in the token under one key id, and destroys both halves of a composite as one', async (t) => {
  const { world, token } = inToken(t);
  world.policy.destroyWait = 0;
  await make(world, 'k', 'RSA-2048', 'sign');
  const old = await jwsBy(world, 'k');
  for (const id of ['ML-DSA-65', 'ML-DSA-65-ES256']) {
    const input = { key: 'k', algorithm: id, jose: '', expectedVersion: undefined, acceptLoss: true };
    await rotateKey(world.ports, world.call(), input);
    assert.equal(primaryOf(world, 'k').custody, 'hsm');
    assert.ok(await isValid(world, await jwsBy(world, 'k')));
  }
  assert.ok(await isValid(world, old));
  const { tokenId = '' } = primaryOf(world, 'k');
  await world.reopen('closed');
  await destroyKey(world.ports, world.call(), { key: 'k', reason: 'a test' });
  world.now += 1;
  await world.keys.reaper.run();
  const call = { ...world.call(), tenant: 'acme' };
  for (const jose of ['ES256', 'ML-DSA-65']) {
    await assert.rejects(token.sign(tokenId, jose, Buffer.alloc(32), call), { code: 'HSM_UNAVAILABLE' });
  }
});

test('policy that wants private keys in the token allows them in custody hsm and no other', () => {
  const boundary = { fipsOnly: { boundary: 'private-keys' as const } };
  const platform = platformPolicy({ ...boundary, algorithms: { allow: HELD.map(({ id }) => id) } });
  const effective = mergePolicies({ tenant: 'acme', platform });
  for (const { id, jose } of HELD) {
    const operation = jose.sign === undefined ? 'decrypt' : 'sign';
    const name = (jose.sign ?? jose.encrypt)?.[0] ?? '';
    const judged = (custody: 'hsm' | 'split' | 'wrapped') =>
      decide(effective, { tenant: 'acme', operation, algorithm: id, jose: name, custody }, NOW, NOW);
    assert.equal(judged('hsm').allowed, true, id);
    for (const custody of ['split', 'wrapped'] as const) {
      const refusal = judged(custody);
      assert.ok(!refusal.allowed && refusal.code === 'FIPS_ONLY', `${id} ${custody}`);
    }
  }
});

test('policy that wants everything in the token lets ML-DSA sign, which takes the message whole, and no composite', () => {
  const boundary = { fipsOnly: { boundary: 'everything' as const } };
  const platform = platformPolicy({ ...boundary, algorithms: { allow: HELD.map(({ id }) => id) } });
  const effective = mergePolicies({ tenant: 'acme', platform });
  for (const { id, jose, components } of HELD.filter((row) => row.jose.sign !== undefined)) {
    const question = { tenant: 'acme', operation: 'sign', algorithm: id, custody: 'hsm' } as const;
    const { allowed } = decide(effective, { ...question, jose: jose.sign?.[0] ?? '' }, NOW, NOW);
    assert.equal(allowed, components === undefined, id);
  }
});

test('post-quantum keys are not imported, whatever the token holds', async (t) => {
  const { world } = inToken(t);
  for (const id of ['ML-DSA-65', 'ML-DSA-65-ES256']) {
    const input = {
      keyId: 'k',
      purpose: 'sign',
      algorithm: id,
      jose: '',
      wrappedKey: 'x',
      labels: {},
      limits: {},
    } as const;
    await assert.rejects(importKey(world.ports, world.call(), { ...input, grants: [] }), { code: 'HSM_UNSUPPORTED' });
  }
});
