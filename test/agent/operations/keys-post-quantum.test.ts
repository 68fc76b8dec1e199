// Keys of post-quantum and composite signatures over a real SoftHSM and a real store: made, used, rotated, re-wrapped,
// refused and destroyed by the machinery that all keys share.
import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { after, before, describe, type TestContext, test } from 'node:test';
import { parsePublicJwk } from '../../../agent/crypto/public-jwk.ts';
import { createKey } from '../../../agent/operations/create-key.ts';
import { destroyKey } from '../../../agent/operations/destroy-key.ts';
import { getPublicKey } from '../../../agent/operations/get-public-key.ts';
import { resumeKey } from '../../../agent/operations/resume-key.ts';
import { revokeKey } from '../../../agent/operations/revoke-key.ts';
import { rotateKey } from '../../../agent/operations/rotate-key.ts';
import { rotateTenantKek } from '../../../agent/operations/rotate-tenant-kek.ts';
import { sign } from '../../../agent/operations/sign.ts';
import { suspendKey } from '../../../agent/operations/suspend-key.ts';
import { verify } from '../../../agent/operations/verify.ts';
import type { Token } from '../../../agent/token/token.ts';
import { algorithm as algorithmRow } from '../../../proto/documents/algorithms.ts';
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { decide } from '../../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../../proto/documents/policy-merge.ts';
import type { PlatformPolicy } from '../../../proto/documents/policy-types.ts';
import { FakeToken } from '../../fakes/token.ts';
import { NOW, platformPolicy } from '../../support/policy-documents.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';
import { LackingToken, openWorld, type World } from '../keys/world.ts';

const message = Buffer.from('It is a dangerous business');
const reason = 'a test';

const create = async (world: World, keyId: string, algorithm: string): Promise<KeyVersionRecord> => {
  const input = { keyId, purpose: 'sign', algorithm, jose: '', labels: {}, limits: {}, grants: [] } as const;
  await createKey(world.ports, world.call(), input);
  return primaryOf(world, keyId);
};
const recordOf = (world: World, keyId: string): KeyRecord =>
  world.keys.catalog.get('acme', keyId) ?? assert.fail(keyId);
const primaryOf = (world: World, keyId: string): KeyVersionRecord =>
  recordOf(world, keyId).versions.find((row) => row.state === 'PRIMARY') ?? assert.fail(keyId);
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
const rotate = (world: World, key: string, algorithm: string, acceptLoss = false) =>
  rotateKey(world.ports, world.call(), { key, algorithm, jose: '', expectedVersion: undefined, acceptLoss });
const publicKeyOf = async (world: World, key: string, format: 'jwk' | 'pem' | 'jwks') =>
  (await getPublicKey(world.ports, world.call(), { key, version: undefined, format })).value.publicKey;

const KINDS: readonly [algorithm: string, custody: 'wrapped' | 'split'][] = [
  ['ML-DSA-65', 'wrapped'],
  ['SLH-DSA-SHA2-128f', 'wrapped'],
  ['FN-DSA-512', 'wrapped'],
  ['ML-DSA-65-ES256', 'split'],
  ['ML-DSA-65-RSA3072-PSS', 'split'],
];

describe('over SoftHSM', () => {
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

  for (const [algorithm, custody] of KINDS) {
    test(`${algorithm}: is made in custody ${custody}, signs, and survives a restart and a rotation of the KEK`, async (t) => {
      const world = openWorld(t, { token });
      const version = await create(world, 'k', algorithm);
      assert.equal(version.custody, custody);
      assert.equal(version.tokenId !== undefined, custody === 'split');
      assert.ok(version.wrapped);
      assert.equal(version.publicJwk?.['kty'], 'AKP');
      assert.equal(version.publicJwk?.['alg'], algorithmRow(algorithm)?.jose.sign?.[0]);
      const first = await jwsBy(world, 'k');
      await world.reopen('closed');
      await rotateTenantKek(world.ports, world.call());
      assert.notEqual(primaryOf(world, 'k').wrapped, version.wrapped);
      for (const jws of [first, await jwsBy(world, 'k')]) assert.ok(await isValid(world, jws));
    });
  }

  test('a suspended key does not sign until it is resumed; revoked, nothing; destroyed, no half is left', async (t) => {
    const world = openWorld(t, { token });
    world.policy.destroyWait = 0;
    const { tokenId = '' } = await create(world, 'k', 'ML-DSA-65-ES256');
    const jws = await jwsBy(world, 'k');
    await suspendKey(world.ports, world.call(), { key: 'k', reason });
    await assert.rejects(jwsBy(world, 'k'), { code: 'KEY_STATE' });
    await resumeKey(world.ports, world.call(), { key: 'k', reason });
    assert.ok(await isValid(world, await jwsBy(world, 'k')));
    await revokeKey(world.ports, world.call(), { key: 'k', reason, version: undefined });
    await assert.rejects(isValid(world, jws), { code: 'KEY_STATE' });
    await destroyKey(world.ports, world.call(), { key: 'k', reason });
    world.now += 1;
    await world.keys.reaper.run();
    const [version] = recordOf(world, 'k').versions;
    assert.deepEqual([version?.state, version?.wrapped], ['DESTROYED', undefined]);
    await assert.rejects(token.sign(tokenId, 'ES256', Buffer.alloc(32), { ...world.call(), tenant: 'acme' }));
  });

  test('rotates from RSA over a composite to ML-DSA under one key id, and what was signed stays valid', async (t) => {
    const world = openWorld(t, { token });
    await create(world, 'k', 'RSA-2048');
    const signed = [await jwsBy(world, 'k')];
    for (const to of ['ML-DSA-65-ES256', 'ML-DSA-87']) {
      await rotate(world, 'k', to, true);
      assert.equal(primaryOf(world, 'k').algorithm, to);
      signed.push(await jwsBy(world, 'k'));
    }
    for (const jws of signed) assert.ok(await isValid(world, jws));
    const kids = (JSON.parse(await publicKeyOf(world, 'k', 'jwks')) as { keys: { kid: string }[] }).keys.map(
      ({ kid }) => kid,
    );
    assert.deepEqual(kids, ['acme/k/3', 'acme/k/2', 'acme/k/1']);
  });
});

const setUp = (t: TestContext, token = new FakeToken()): World => openWorld(t, { token });

test('losing the ability to sign a digest needs an acknowledgement; a composite keeps it', async (t) => {
  const world = setUp(t);
  await create(world, 'k', 'EC-P256');
  await rotate(world, 'k', 'ML-DSA-44-ES256');
  await assert.rejects(rotate(world, 'k', 'ML-DSA-44'), (error: { code: string; message: string }) => {
    assert.equal(error.code, 'INVALID_REQUEST');
    assert.match(error.message, /can no longer sign a digest/);
    return true;
  });
  await rotate(world, 'k', 'ML-DSA-44', true);
  await rotate(world, 'k', 'SLH-DSA-SHAKE-128f');
});

test('the public key as JWK and as PEM', async (t) => {
  const world = setUp(t);
  for (const id of ['ML-DSA-44', 'SLH-DSA-SHA2-128f', 'ML-DSA-44-ES256']) {
    const keyId = id.toLowerCase();
    const { publicJwk } = await create(world, keyId, id);
    const jwk = JSON.parse(await publicKeyOf(world, keyId, 'jwk'));
    assert.deepEqual(jwk, { ...publicJwk, kid: `acme/${keyId}/1`, alg: id, use: 'sig' });
    if (id.endsWith('ES256')) {
      const { jwk: read } = parsePublicJwk(await publicKeyOf(world, keyId, 'pem'));
      assert.deepEqual(read, { alg: id, kty: 'AKP', pub: publicJwk?.['pub'] });
      continue;
    }
    const key = createPublicKey(await publicKeyOf(world, keyId, 'pem'));
    assert.equal(key.asymmetricKeyType, id.toLowerCase());
    assert.equal(key.export({ format: 'jwk' })['pub'], publicJwk?.['pub']);
  }
});

test('where the token cannot hold Ed25519, both halves are wrapped; of ECDSA and RSA there is no such key', async (t) => {
  const world = setUp(t, new LackingToken('Ed25519', 'EC-P256', 'RSA-3072'));
  const { custody, tokenId } = await create(world, 'ed', 'ML-DSA-44-Ed25519');
  assert.deepEqual([custody, tokenId], ['wrapped', undefined]);
  assert.ok(await isValid(world, await jwsBy(world, 'ed')));
  for (const id of ['ML-DSA-44-ES256', 'ML-DSA-65-RSA3072-PSS']) {
    await assert.rejects(create(world, 'other', id), { code: 'HSM_UNSUPPORTED' });
  }
});

test('the halves of each key are its own', async (t) => {
  const world = setUp(t);
  const [one, two] = [await create(world, 'one', 'ML-DSA-44-ES256'), await create(world, 'two', 'ML-DSA-44-ES256')];
  const halves = [one, two].flatMap(({ publicJwk }) => {
    const pub = Buffer.from(publicJwk?.['pub'] ?? '', 'base64url').toString('hex');
    return [pub.slice(0, 2 * 1312), pub.slice(2 * 1312)];
  });
  assert.equal(new Set(halves).size, 4);
  assert.notEqual(one.tokenId, two.tokenId);
});

test('a blob moved to another key, version or algorithm does not open', async (t) => {
  const world = setUp(t);
  for (const [from, to] of [
    ['ML-DSA-44', 'ML-DSA-44'],
    ['ML-DSA-65', 'ML-DSA-65-ES256'],
  ] as const) {
    const [source, target] = [`s-${from.toLowerCase()}`, `t-${to.toLowerCase()}`];
    const { wrapped } = await create(world, source, from);
    await create(world, target, to);
    const record = recordOf(world, target);
    const versions = record.versions.map((row) => ({ ...row, wrapped: wrapped ?? '' }));
    await world.keys.catalog.replace({ ...record, versions, revision: record.revision + 1 });
    await assert.rejects(jwsBy(world, target), { code: 'KEY_STATE' });
    assert.ok(world.seen('blobRefused').some(({ keyId }) => keyId === target));
  }
});

test('a token that fails half-way leaves no half behind', async (t) => {
  const token = new FakeToken();
  const world = setUp(t, token);
  token.fail({ method: 'generate', nth: 2, code: 'HSM_UNAVAILABLE' }); // the first is the KEK
  await assert.rejects(create(world, 'k', 'ML-DSA-44-ES256'), { code: 'HSM_UNAVAILABLE' });
  assert.equal(world.keys.catalog.get('acme', 'k'), undefined);
  assert.ok((token.calls.get('destroy') ?? 0) >= 1);
  await create(world, 'k', 'ML-DSA-44-ES256');
  assert.ok(await isValid(world, await jwsBy(world, 'k')));
});

describe('policy', () => {
  const under = (world: World, changes: Partial<PlatformPolicy>): void => {
    const effective = mergePolicies({ tenant: 'acme', platform: platformPolicy(changes) });
    world.policy.refuse = (question) => {
      const decision = decide(effective, question, NOW, NOW);
      return decision.allowed ? undefined : (decision.code as 'POLICY_DENIED' | 'FIPS_ONLY');
    };
  };
  const ALL = { allow: ['ML-DSA-65', 'SLH-DSA-SHA2-128f', 'ML-DSA-65-ES256'] };

  test('by default allows ML-DSA and SLH-DSA, and composites only where it names them', async (t) => {
    const world = setUp(t);
    under(world, {});
    await create(world, 'pure', 'ML-DSA-65');
    await create(world, 'hash', 'SLH-DSA-SHA2-128f');
    await assert.rejects(create(world, 'both', 'ML-DSA-65-ES256'), { code: 'POLICY_DENIED' });
    under(world, { algorithms: ALL });
    await create(world, 'both', 'ML-DSA-65-ES256');
    assert.ok(await isValid(world, await jwsBy(world, 'both')));
  });

  test('under fipsOnly lets approved algorithms pass, and keys outside the token only by the boundary "algorithms"', async (t) => {
    const world = setUp(t);
    under(world, { algorithms: ALL, fipsOnly: { boundary: 'algorithms' } });
    for (const id of ALL.allow) {
      await create(world, id.toLowerCase(), id);
      assert.ok(await isValid(world, await jwsBy(world, id.toLowerCase())));
    }
    for (const boundary of ['private-keys', 'everything'] as const) {
      under(world, { algorithms: ALL, fipsOnly: { boundary } });
      for (const id of ALL.allow) {
        await assert.rejects(jwsBy(world, id.toLowerCase()), { code: 'FIPS_ONLY' }, `${id} ${boundary}`);
        await assert.rejects(create(world, `new-${id.toLowerCase()}`, id), { code: 'FIPS_ONLY' });
      }
    }
  });

  test('an algorithm past its sunset makes nothing new, and verifies', async (t) => {
    const world = setUp(t);
    await create(world, 'k', 'ML-DSA-65-ES256');
    const jws = await jwsBy(world, 'k');
    const sunset = { 'ML-DSA-65-ES256': { warnAfter: '2026-01-01T00:00:00Z', refuseAfter: '2026-01-02T00:00:00Z' } };
    under(world, { algorithms: { ...ALL, sunset } });
    await assert.rejects(jwsBy(world, 'k'), { code: 'POLICY_DENIED' });
    assert.ok(await isValid(world, jws));
  });
});

test('a stored blob that was changed is refused and told', async (t) => {
  const world = setUp(t);
  await create(world, 'k', 'ML-DSA-44');
  const record = recordOf(world, 'k');
  const blob = Buffer.from(record.versions[0]?.wrapped ?? '', 'base64url');
  blob.writeUInt8(blob.readUInt8(30) ^ 1, 30);
  const versions = record.versions.map((row) => ({ ...row, wrapped: blob.toString('base64url') }));
  await world.keys.catalog.replace({ ...record, versions, revision: record.revision + 1 });
  await assert.rejects(jwsBy(world, 'k'), { code: 'KEY_STATE' });
  assert.equal(world.seen('blobRefused').length, 1);
});
