// The journey of two tenants through a real agent on a real token, step by step.
import assert from 'node:assert/strict';
import { createPublicKey, verify as verifySignature } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { makeIssuer, type RunningAgent, startAgent } from '../support/agent.ts';
import { allRecords, clientOf, refusedWith } from './load.ts';

let agent: RunningAgent;
let acme: MortiseClient;
let globex: MortiseClient;
const plaintext = Buffer.from('the quick brown fox');
let oldJwe = '';
let jws = '';

before(async () => {
  agent = await startAgent({
    tenantPolicies: { globex: { algorithms: { deny: ['RSA-2048'] } } },
  });
  acme = clientOf(agent, 'acme');
  globex = clientOf(agent, 'globex');
});
after(async () => {
  acme?.close();
  globex?.close();
  await agent?.stop();
});

test('1: each caller is who its token says, on the connection that the kernel saw', async () => {
  const me = await acme.whoAmI();
  assert.deepEqual([me.tenant, me.principal, me.authenticatedBy, me.pid], ['acme', 'app@acme', 'jwt', process.pid]);
  assert.equal((await globex.whoAmI()).tenant, 'globex');
  assert.equal(await acme.health(), 'SERVING');
  for (const part of ['policy', 'keys', 'token', 'audit'])
    assert.equal(await acme.health(`mortise.${part}`), 'SERVING');
});

test('2: a tenant makes keys of every purpose, held by the token', async () => {
  for (const [keyId, purpose, algorithm] of [
    ['files', 'encrypt', 'AES-256'],
    ['mail', 'encrypt', 'RSA-2048'],
    ['release', 'sign', 'EC-P256'],
    ['webhook', 'mac', 'HMAC-SHA256'],
  ] as const) {
    const { key } = await acme.keys.create({ keyId, purpose, algorithm });
    assert.deepEqual([key.state, key.versions[0]?.custody, key.versions[0]?.algorithm], ['ACTIVE', 'hsm', algorithm]);
  }
});

test('3: it encrypts and decrypts, with associated data bound in', async () => {
  const associatedData = Buffer.from('invoice 7');
  const { jwe, envelope } = await acme.encrypt('files', plaintext, { associatedData });
  assert.deepEqual(envelope.keyUsed, { keyId: 'files', version: 1 });
  oldJwe = jwe;
  assert.deepEqual((await acme.decrypt(jwe, { associatedData })).plaintext, plaintext);
  await assert.rejects(acme.decrypt(jwe), refusedWith('INVALID_CIPHERTEXT'));
  const mail = await acme.encrypt('mail', plaintext);
  assert.deepEqual((await acme.decrypt(mail.jwe)).plaintext, plaintext);
});

test('4: it signs, and anybody with the public key can verify', async () => {
  const signed = await acme.sign('release', { message: plaintext });
  jws = signed.jws;
  assert.equal((await acme.verify({ jws })).valid, true);
  const pem = (await acme.keys.publicKey('release', { format: 'pem' })).publicKey;
  const [header, payload, signature] = jws.split('.') as [string, string, string];
  const key = { key: createPublicKey(pem), dsaEncoding: 'ieee-p1363' } as const;
  const input = Buffer.from(`${header}.${payload}`);
  assert.ok(verifySignature('sha256', input, key, Buffer.from(signature, 'base64url')));
});

test('5: it makes and checks MACs', async () => {
  const { mac } = await acme.mac('webhook', plaintext);
  assert.equal((await acme.verifyMac('webhook', plaintext, mac)).valid, true);
  assert.equal((await acme.verifyMac('webhook', Buffer.from('other'), mac)).valid, false);
});

test('6: the other tenant gets nowhere with its names, ciphertexts or signatures', async () => {
  await assert.rejects(globex.encrypt('acme/files', plaintext), refusedWith('PERMISSION_DENIED'));
  await assert.rejects(globex.encrypt('acme/no-such-key', plaintext), refusedWith('PERMISSION_DENIED'));
  await assert.rejects(globex.decrypt(oldJwe), refusedWith('PERMISSION_DENIED'));
  await assert.rejects(globex.verify({ jws }), refusedWith('PERMISSION_DENIED'));
  await assert.rejects(globex.keys.destroy('acme/files'), refusedWith('PERMISSION_DENIED'));
  await assert.rejects(globex.encrypt('files', plaintext), refusedWith('KEY_UNKNOWN'));
  for await (const { keyId } of globex.keys.list()) assert.fail(`globex sees ${keyId}`);
});

test('7: the same key id of two tenants is two keys', async () => {
  await globex.keys.create({ keyId: 'files', purpose: 'encrypt', algorithm: 'AES-256' });
  const { jwe } = await globex.encrypt('files', plaintext);
  assert.deepEqual((await globex.decrypt(jwe)).plaintext, plaintext);
  await assert.rejects(acme.decrypt(jwe), refusedWith('PERMISSION_DENIED'));
});

test('8: policy stops what it forbids, for the tenant it speaks of', async () => {
  await assert.rejects(
    globex.keys.create({ keyId: 'old', purpose: 'sign', algorithm: 'RSA-2048' }),
    refusedWith('POLICY_DENIED'),
  );
  await assert.rejects(
    acme.keys.create({ keyId: 'weak', purpose: 'sign', algorithm: 'RSA-1024' }),
    refusedWith('ALGORITHM_FORBIDDEN'),
  );
  const why = await globex.explain({ operation: 'create-key', algorithm: 'RSA-2048' });
  assert.deepEqual([why.allowed, why.code], [false, 'POLICY_DENIED']);
  assert.match(why.rule, /tenant/);
});

test('9: after a rotation old data still opens, new data uses the new version', async () => {
  const { key } = await acme.keys.rotate('files');
  assert.deepEqual(
    key.versions.map(({ version, state }) => [version, state]),
    [
      [1, 'RETIRED'],
      [2, 'PRIMARY'],
    ],
  );
  const associatedData = Buffer.from('invoice 7');
  const old = await acme.decrypt(oldJwe, { associatedData });
  assert.deepEqual([old.plaintext, old.envelope.keyUsed?.version], [plaintext, 1]);
  assert.equal((await acme.encrypt('files', plaintext)).envelope.keyUsed?.version, 2);
});

test('10: a revoked key does nothing any more, for ever', async () => {
  await acme.keys.revoke('release', { reason: 'laptop stolen' });
  await assert.rejects(acme.sign('release', { message: plaintext }), refusedWith('KEY_STATE'));
  await assert.rejects(acme.verify({ jws }), refusedWith('KEY_STATE'));
  await assert.rejects(acme.keys.resume('release'), refusedWith('KEY_STATE'));
});

test('11: a destroyed key waits out its window and can be taken back', async () => {
  const pending = await acme.keys.destroy('webhook');
  assert.equal(pending.state, 'PENDING_DESTRUCTION');
  assert.ok((pending.destroyTime?.getTime() ?? 0) > Date.now());
  await assert.rejects(acme.mac('webhook', plaintext), refusedWith('KEY_STATE'));
  assert.equal((await acme.keys.restore('webhook')).state, 'ACTIVE');
  assert.equal((await acme.mac('webhook', plaintext)).mac.length, 32);
});

test('12: a caller without the scope, without a token or with a forged one is refused', async () => {
  using reader = clientOf(agent, 'acme', { principal: 'reader', scopes: ['keys.read'] });
  await assert.rejects(reader.encrypt('files', plaintext), refusedWith('PERMISSION_DENIED'));
  using forged = clientOf({ socket: agent.socket, issuer: makeIssuer() }, 'acme');
  await assert.rejects(forged.whoAmI(), refusedWith('UNAUTHENTICATED'));
});

test('13: the trail has every step of each tenant, apart, and verifies', async () => {
  const records = await allRecords(acme);
  const of = (operation: string, outcome: string): number =>
    records.filter((row) => row.operation === operation && row.outcome === outcome).length;
  assert.equal(of('create-key', 'ok'), 4);
  assert.equal(of('create-key', 'ALGORITHM_FORBIDDEN'), 1);
  assert.equal(of('decrypt', 'INVALID_CIPHERTEXT'), 1);
  assert.equal(of('revoke-key', 'intent'), 1);
  assert.equal(of('revoke-key', 'ok'), 1);
  assert.ok(records.every(({ tenant }) => tenant === 'acme'));
  assert.equal((await allRecords(globex)).filter(({ outcome }) => outcome === 'PERMISSION_DENIED').length, 5);
  for (const client of [acme, globex]) assert.deepEqual((await client.audit.verify()).findings, []);
});

test('14: strangers and the agent itself are in the log of the platform, which tenants cannot read', async () => {
  using platform = clientOf(agent, '_platform', { principal: 'operator' });
  const records = await allRecords(platform);
  const seen = new Set(records.map(({ operation, outcome }) => `${operation} ${outcome}`));
  for (const step of ['agent-start ok', 'load-policy ok']) assert.ok(seen.has(step), step);
  assert.ok(records.some(({ outcome, principal }) => outcome === 'UNAUTHENTICATED' && principal === '-'));
  await assert.rejects(platform.encrypt('files', plaintext), refusedWith('PERMISSION_DENIED'));
});
