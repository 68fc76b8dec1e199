// What a host tells of the objects of the token that no record of it names.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { FakeToken } from '../../fakes/token.ts';
import { aRecord, aVersion } from '../../support/key-records.ts';
import { openWorld } from './world.ts';

const call = () => ({ tenant: 'acme', deadline: Date.now() + 30_000, signal: new AbortController().signal });
const never = new AbortController().signal;

test('keys are told with what label and attributes say, without those that a record names or another tenant has', async (t) => {
  const token = new FakeToken({ postQuantum: true });
  const { keys } = openWorld(t, { token });
  const make = (algorithm: string, purpose: 'sign' | 'encrypt', label: string) =>
    token.generate({ algorithm, purpose, label }, call());
  const known = await make('AES-256', 'encrypt', 'mortise:key:acme:invoices:v1:A256GCMKW');
  await keys.catalog.insert(aRecord({ versions: [aVersion({ tokenId: known.tokenId })] }));
  await make('AES-256', 'encrypt', 'mortise:key:acme-2:other:v1:A256GCMKW');
  const rsa = await make('RSA-2048', 'sign', 'mortise:key:acme:signer:v2:PS384');
  const both = await make('ML-DSA-44-ES256', 'sign', 'mortise:key:acme:two:v1:ML-DSA-44-ES256');
  await make('EC-P256', 'sign', 'mortise:key:acme:half:v1:ML-DSA-44-ES256');
  await make('EC-P256', 'sign', 'mortise:key:acme:odd:v1:ES384');
  await make('EC-P256', 'sign', 'mortise:key:acme:unlabelled:v1');
  await make('RSA-2048', 'encrypt', `mortise:key:acme:import.${'ab'.repeat(16)}:v1:RSA-OAEP-256`);
  const brought = randomBytes(16).toString('hex');
  const what = { algorithm: 'AES-256', purpose: 'encrypt', tokenId: brought } as const;
  await token.create({ ...what, label: 'mortise:key:acme:brought:v1:A256GCMKW', material: [randomBytes(32)] }, call());

  const found = new Map((await keys.found.of('acme', never)).map((object) => [object.name, object]));
  assert.deepEqual([...found.keys()].sort(), ['brought', 'half', `import.${'ab'.repeat(16)}`, 'odd', 'signer', 'two']);
  assert.deepEqual(found.get('signer'), {
    ...{ kind: 'key', name: 'signer', version: 2, tokenId: rsa.tokenId, jose: 'PS384', algorithm: 'RSA-2048' },
    ...{ imported: false, purpose: 'sign', publicJwk: rsa.publicJwk },
  });
  const { algorithm, publicJwk } = found.get('two') ?? {};
  assert.deepEqual([algorithm, publicJwk], ['ML-DSA-44-ES256', { ...both.publicJwk, alg: 'ML-DSA-44-ES256' }]);
  assert.equal(found.get('brought')?.imported, true);
  assert.match(found.get('half')?.fault ?? '', /half a key/);
  assert.match(found.get('odd')?.fault ?? '', /ES384/);
  assert.match(found.get(`import.${'ab'.repeat(16)}`)?.fault ?? '', /import that is over/);
});

test('an object that was made for a change under way here is told as one that its host destroys', async (t) => {
  const token = new FakeToken();
  const { keys } = openWorld(t, { token });
  const what = { tenant: 'acme', keyId: 'orphan', version: 1, algorithm: 'EC-P256', purpose: 'sign' } as const;
  await keys.objects.generate({ ...what, jose: 'ES256' }, call());
  const [orphan] = await keys.found.of('acme', never);
  assert.match(orphan?.fault ?? '', /not completed/);
});

test('every KEK is told, and what only bears its label as what it is', async (t) => {
  const token = new FakeToken();
  const { keys } = openWorld(t, { token });
  const { version } = await keys.vault.rotateKek('acme', call());
  await token.generate({ algorithm: 'EC-P256', purpose: 'sign', label: 'test:kek:acme:v7' }, call());
  const found = await keys.found.of('acme', never);
  assert.deepEqual(
    found.map(({ kind, name, fault }) => [kind, name, fault !== undefined]).sort(),
    [
      ['kek', '7', true],
      ['kek', String(version), false],
    ].sort(),
  );
});

test('a KEK of another scheme than AES-GCM is told whole, and as none where its second key is missing', async (t) => {
  const token = new FakeToken();
  token.wrapScheme = 'aes-cbc-hmac';
  const { keys } = openWorld(t, { token });
  await keys.vault.rotateKek('acme', call());
  const half = { algorithm: 'AES-256', purpose: 'encrypt', tokenId: token.wrappingKeyId() } as const;
  await token.generate({ ...half, label: 'test:kek:acme:v7' }, call());
  const found = await keys.found.of('acme', never);
  assert.deepEqual(
    new Map(found.map(({ name, fault }) => [name, fault])),
    new Map([
      ['1', undefined],
      ['7', 'not the keys of a KEK, whole and generated in the token'],
    ]),
  );
});

test('a token that does not answer is an error, not an empty token', async (t) => {
  const token = new FakeToken();
  const { keys } = openWorld(t, { token });
  token.fail({ method: 'list', code: 'HSM_UNAVAILABLE' });
  await assert.rejects(keys.found.of('acme', never), { code: 'HSM_UNAVAILABLE' });
});
